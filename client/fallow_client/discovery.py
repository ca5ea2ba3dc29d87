"""Finding the devices of this LAN by mDNS (RFC 6762, 6763)."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from .errors import ClientError

SERVICE_TYPE = "_fallow._tcp.local."
DEVICES_MAX = 256
"""More than any home has; a noisy LAN must not fill memory."""
RESOLVE_MS = 2000


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """What a device announces: nothing in it is proven."""

    device_id: str
    host: str
    addresses: tuple[str, ...]
    port: int
    state: str

    @property
    def url(self) -> str:
        """By address, IPv4 first; the device accepts its addresses as ``Host``."""
        address = self.addresses[0]
        return f"http://[{address}]:{self.port}" if ":" in address else f"http://{address}:{self.port}"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _found(info: AsyncServiceInfo) -> FoundDevice | None:
    # Not by decoded_properties, which Debian 12's zeroconf does not have.
    properties = {_text(name): _text(value) for name, value in info.properties.items() if value is not None}
    addresses = info.parsed_addresses(IPVersion.All)
    # A link-local IPv6 address is of no use without its scope, which URLs cannot carry.
    usable = [a for a in addresses if not (":" in a and ipaddress.ip_address(a.partition("%")[0]).is_link_local)]
    device_id = properties.get("id")
    if properties.get("v") != "1" or not device_id or not usable or not info.port:
        return None
    usable.sort(key=lambda address: ":" in address)
    return FoundDevice(device_id, (info.server or "").rstrip("."), tuple(usable), info.port, properties.get("st") or "")


async def find_devices(wait_s: float = 3.0, *, expected: int | None = None) -> list[FoundDevice]:
    """The devices that answer within ``wait_s``, by id; sooner when ``expected`` of them are there.

    :raises ClientError: this machine cannot speak multicast.
    """
    names: asyncio.Queue[str] = asyncio.Queue(DEVICES_MAX)
    seen: set[str] = set()

    def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed and name not in seen and not names.full():
            seen.add(name)
            names.put_nowait(name)

    try:
        zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)
    except OSError as error:
        raise ClientError(
            f"this machine cannot speak multicast: {error.strerror}", "give the device's address by --device"
        ) from error
    found: dict[str, FoundDevice] = {}
    try:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE_TYPE], handlers=[on_change])
        try:
            async with asyncio.timeout(wait_s):
                while expected is None or len(found) < expected:
                    name = await names.get()
                    info = AsyncServiceInfo(SERVICE_TYPE, name)
                    if await info.async_request(zeroconf.zeroconf, RESOLVE_MS):
                        device = _found(info)
                        if device is not None:
                            found[device.device_id] = device
        except TimeoutError:
            pass  # the wait is over; what was found counts
        await browser.async_cancel()
    finally:
        await zeroconf.async_close()
    return [found[key] for key in sorted(found)]
