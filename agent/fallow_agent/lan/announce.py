"""The device's name in the LAN: mDNS (RFC 6762) and DNS-SD (RFC 6763), by zeroconf.

Port 5353 is shared with avahi or umdns, because zeroconf binds with SO_REUSEADDR and SO_REUSEPORT. The library is
loaded only when the announcement starts. Without it, or where the network refuses multicast, the device works on, by
its address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .guard import Lan

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

_log = logging.getLogger(__name__)

SERVICE = "_fallow._tcp.local."
LOOK_S = 30.0
"""How often changed addresses are looked for."""
GOODBYE_S_MAX = 2.0
"""A goodbye is a courtesy: stopping does not wait longer for it."""


def host_label(device_id: str) -> str:
    """``fallow-<last 4 of the id>``: the device's mDNS name without ``.local``."""
    return f"fallow-{device_id[-4:]}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is announced; equal announcements need no packet."""

    addresses: tuple[str, ...]
    state: str


def announcement(lan: Lan, state: str) -> Announcement:
    """``lan``'s addresses, IPv6 link-local ones left out: they mean nothing without an interface."""
    found = {str(own.address) for own in lan.addresses if not (own.address.version == 6 and own.address.is_link_local)}
    return Announcement(tuple(sorted(found)), state)


class Announcer:
    """Announces the device until closed; call :meth:`set_state` at every change."""

    def __init__(self, device_id: str, port: int, lan: Callable[[], Lan], state: str) -> None:
        self._device_id = device_id
        self._port = port
        self._lan = lan
        self._state = state
        self._changed = asyncio.Event()
        self._zeroconf: AsyncZeroconf | None = None
        self._info: AsyncServiceInfo | None = None
        self._announced: Announcement | None = None
        self._failed = False

    def set_state(self, state: str) -> None:
        self._state = state
        self._changed.set()

    async def run(self) -> None:
        """Announce, and announce again what changes, until cancelled; then say goodbye."""
        try:
            while True:
                await self._follow()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue
                finally:
                    self._changed.clear()
        finally:
            await self._close()

    async def _follow(self) -> None:
        wanted = announcement(self._lan(), self._state)
        if wanted == self._announced or not wanted.addresses:
            return
        try:
            if self._announced is None or wanted.addresses != self._announced.addresses:
                await self._close()
                await self._register(wanted)
            else:
                await self._update(wanted)
        except Exception as error:  # noqa: BLE001  # zeroconf raises what it likes; being found is never worth the agent
            if not self._failed:
                _log.warning("mDNS does not work here (%s); the device is reachable by its address", error)
            self._failed = True
            await self._close()
            return
        if self._failed:
            _log.info("mDNS works again")
        self._failed = False
        self._announced = wanted

    def _service(self, wanted: Announcement) -> AsyncServiceInfo:
        from zeroconf.asyncio import AsyncServiceInfo

        label = host_label(self._device_id)
        return AsyncServiceInfo(
            SERVICE,
            f"{label}.{SERVICE}",
            port=self._port,
            addresses=[ipaddress.ip_address(address).packed for address in wanted.addresses],
            properties={"v": "1", "id": self._device_id, "st": wanted.state},
            server=f"{label}.local.",
        )

    async def _register(self, wanted: Announcement) -> None:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        # Bound to the LAN's addresses only: nothing is announced towards the provider.
        interfaces = [address for address in wanted.addresses if ":" not in address]
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        self._info = self._service(wanted)
        await self._zeroconf.async_register_service(self._info, allow_name_change=True)

    async def _update(self, wanted: Announcement) -> None:
        assert self._zeroconf is not None
        assert self._info is not None
        info = self._service(wanted)
        info.name = self._info.name
        info.key = self._info.key
        self._info = info
        await self._zeroconf.async_update_service(info)

    async def _close(self) -> None:
        zeroconf, self._zeroconf, self._info, self._announced = self._zeroconf, None, None, None
        if zeroconf is None:
            return
        try:
            await asyncio.wait_for(self._say_goodbye(zeroconf), GOODBYE_S_MAX)
        except Exception as error:  # noqa: BLE001  # see above
            _log.debug("no mDNS goodbye: %s", error)

    @staticmethod
    async def _say_goodbye(zeroconf: AsyncZeroconf) -> None:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()
