"""Follows the home router for as long as the device is online: finds it, asks it at its own pace, and finds it again.

Nothing is asked before :meth:`RouterWatch.run` is started, nor while this device is the router itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from ..host.environment import local_address
from ..host.igd import Igd, IgdError, discover
from .capacity import Estimate
from .router import RouterMeter, RouterTraffic

_log = logging.getLogger(__name__)

LOOK_S = 60.0
"""How soon a new router is noticed."""
AGAIN_S_MIN, AGAIN_S_MAX = 60.0, 6 * 3600.0
"""A search costs the device a quarter of a second of processor: rarely where nothing is to be found."""
CAPACITY_S = 600.0
"""Modems negotiate their rates anew when they like."""
RESTS_S = 15.0
"""Between two readings while the line is not shared: enough for the forecast."""
FAILURES_MAX = 5
"""In a row; then the router is looked for again, for it may have moved its service to another port."""


class RouterWatch:
    """What is known by the home router; all of it as nothing while there is none.

    :param own_bytes: bytes on the wire, sent and received, as for the reader.
    :param take: called with this object whenever something of it has changed.
    :param in_use: whether the line is being shared now.
    :param router: the address of the home router now, None where this device is behind none.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        own_bytes: Callable[[], tuple[int, int]],
        monotonic: Callable[[], float],
        *,
        take: Callable[[RouterWatch], None],
        in_use: Callable[[], bool],
        router: Callable[[], str | None],
        own_address: Callable[[], str | None] = lambda: local_address("ipv4"),
        find: Callable[[str, str], Awaitable[Igd | None]] = discover,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._own_bytes = own_bytes
        self._monotonic = monotonic
        self._take = take
        self._in_use = in_use
        self._router = router
        self._own_address = own_address
        self._find = find
        self._sleep = sleep
        self._told = ""
        self._forget()

    def _forget(self) -> None:
        self.igd: Igd | None = None
        """The router's services, for port mappings too."""
        self.traffic = RouterTraffic()
        self.up: list[Estimate] = []
        """The modem's rate upwards, for :func:`.capacity.capacity_of`; ``down`` likewise."""
        self.down: list[Estimate] = []
        self._take(self)

    async def run(self) -> None:
        again_s = AGAIN_S_MIN
        while True:
            router = self._router()
            own = self._own_address()
            if router is None or own is None:
                await self._sleep(LOOK_S)
                continue
            try:
                self.igd = await self._find(router, own)
                if self.igd is None:
                    self._tell(f"the router {router} has no UPnP")
            except IgdError as error:
                self._tell(error.detail)
            if self.igd is not None and await self._follow(self.igd):
                again_s = AGAIN_S_MIN
                self._forget()
                continue
            self._forget()
            await self._wait(router, again_s)
            again_s = min(2 * again_s, AGAIN_S_MAX)

    async def _wait(self, router: str, seconds: float) -> None:
        """Until then, or until there is another router."""
        until = self._monotonic() + seconds
        while self._monotonic() < until and self._router() == router:
            await self._sleep(min(LOOK_S, seconds))

    async def _follow(self, igd: Igd) -> bool:
        """Ask, until the router is another one, or does not answer any more. True where it ever did."""
        meter = RouterMeter(self._http, igd, self._monotonic)
        capacity_at = looked_at = float("-inf")
        failures, answered = 0, False
        while failures < FAILURES_MAX:
            now = self._monotonic()
            if now - looked_at >= LOOK_S:
                looked_at = now
                if self._router() != igd.router:
                    return True
            try:
                if now - capacity_at >= CAPACITY_S:
                    capacity_at = now
                    self.up, self.down = await meter.capacity()
                if meter.counts:
                    totals = await meter.read()
                    self.traffic = self.traffic.after(totals, *self._own_bytes())
                failures, answered = 0, True
            except IgdError as error:
                failures += 1
                self._tell(error.detail)
            self._take(self)
            if not meter.counts:
                await self._sleep(LOOK_S)
            else:
                await self._sleep(self.traffic.ask_again_s if self._in_use() else RESTS_S)
        return answered

    def _tell(self, what: str) -> None:
        if what != self._told:
            _log.info("the home router's counters are not to be had: %s", what)
        self._told = what
