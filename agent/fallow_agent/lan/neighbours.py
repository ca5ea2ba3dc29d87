"""Other devices of the same home, found by mDNS when somebody asks. Nothing is sent while nobody does.

What is found is an announcement: anybody in the home can make one. The app shows it as a place to go to, and every
device asks for its own setup code.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .announce import SERVICE
from .guard import Lan

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo

_log = logging.getLogger(__name__)

NEIGHBOURS_MAX = 32
"""More than any home has; a noisy LAN must not fill memory."""
LISTEN_S = 2.0
"""Devices answer within a fraction of a second; a second question follows after one."""
RESOLVE_MS = 1500
KEPT_S = 20.0
"""Asked again within this, the last answer is given: a page that is reloaded costs the home no packets."""
STATES = ("dormant", "activating", "active", "paused", "leaving")


@dataclass(frozen=True, slots=True)
class Neighbour:
    device_id: str
    name: str
    url: str
    state: str


def neighbour_of(info: AsyncServiceInfo, own_id: str, lan: Lan) -> Neighbour | None:
    """The device in an announcement; None for this one, and for what is not a device of this home."""
    properties = info.decoded_properties
    device_id, state = properties.get("id") or "", properties.get("st") or ""
    if properties.get("v") != "1" or not device_id or device_id == own_id or len(device_id) > 64 or state not in STATES:
        return None
    for text in info.parsed_addresses():
        address = ipaddress.ip_address(text.partition("%")[0])
        # Only an address of the same subnet: a page must not be sent out of the home by who announces what he likes.
        if (
            not address.is_global
            and any(own.contains(address) for own in lan.addresses)
            and 0 < (info.port or 0) < 65536
        ):
            name = (info.server or "").rstrip(".")[:64]
            return Neighbour(device_id, name, f"http://{address}:{info.port}/", state)
    return None


class Neighbours:
    """Answers ``GET /v1/neighbours``; several who ask at once wait for one look."""

    def __init__(self, own_id: str, lan: Callable[[], Lan], monotonic: Callable[[], float]) -> None:
        self._own_id = own_id
        self._lan = lan
        self._monotonic = monotonic
        self._looking = asyncio.Lock()
        self._found: list[Neighbour] = []
        self._found_at = float("-inf")

    async def find(self) -> list[Neighbour]:
        """By id. Empty where the network carries no multicast."""
        async with self._looking:
            if self._monotonic() - self._found_at >= KEPT_S:
                try:
                    self._found = await self._look()
                except Exception as error:  # noqa: BLE001  # zeroconf raises what it likes; neighbours are a courtesy
                    _log.info("no neighbours can be found here: %s", error)
                    self._found = []
                self._found_at = self._monotonic()
        return self._found

    async def _look(self) -> list[Neighbour]:
        from zeroconf import IPVersion, ServiceStateChange
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

        lan = self._lan()
        addresses = [str(own.address) for own in lan.addresses if own.address.version == 4]
        if not addresses:
            return []
        names: list[str] = []

        def heard(*, name: str, state_change: ServiceStateChange, **_: Any) -> None:
            if state_change is not ServiceStateChange.Removed and name not in names and len(names) < NEIGHBOURS_MAX:
                names.append(name)

        zeroconf = AsyncZeroconf(interfaces=addresses, ip_version=IPVersion.V4Only)
        try:
            browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[heard])
            await asyncio.sleep(LISTEN_S)
            infos = [AsyncServiceInfo(SERVICE, name) for name in names]
            answers = await asyncio.gather(*(info.async_request(zeroconf.zeroconf, RESOLVE_MS) for info in infos))
            await browser.async_cancel()
        finally:
            with contextlib.suppress(Exception):
                await zeroconf.async_close()
        found = [neighbour_of(info, self._own_id, lan) for info, there in zip(infos, answers, strict=True) if there]
        known = {one.device_id: one for one in found if one is not None}
        return [known[key] for key in sorted(known)]
