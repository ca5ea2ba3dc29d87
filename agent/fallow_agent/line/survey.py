"""Finds out about the line, slowly and beside the steps: where this device stands, what the line carries, who tells.

The steps (:mod:`.sharing`) only read what is kept here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import aiohttp

from ..clock import Clock
from ..host.environment import local_address
from ..host.igd import Finder
from ..host.netifd import wan_device
from ..host.routes import default_routes, home_router
from ..store import Settings
from . import OBSERVED
from .capacity import ROUTER, TRAIN, UNKNOWN, Capacity, Estimate, LineConfig, capacity_of
from .household import Household, position
from .meter import Rates, wan_of
from .observed import Sample, from_json
from .router_watch import RouterWatch
from .sqm import read_sqm

_log = logging.getLogger(__name__)

LOOK_S = 30.0
"""How often routes, address, network daemon and SQM are looked at: a line that failed over may cost money."""
OPENWRT = Path("/etc/openwrt_release")


class Survey:
    """:param own_bytes: on the wire, that Fallow has sent and received since it started.
    :param find: finds the home router's UPnP."""

    def __init__(
        self,
        config: LineConfig,
        household: Household,
        own_bytes: Callable[[], tuple[int, int]],
        find: Finder,
        *,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._config = config
        self._household = household
        self._own_bytes = own_bytes
        self._find = find
        self._clock = clock
        self._settings = settings
        stored = settings.get(OBSERVED)
        up, down = stored if isinstance(stored, list) and len(stored) == 2 else (None, None)
        self._up, self._down = from_json(up), from_json(down)
        self._total = (0, 0)
        self._seen_at: float | None = None
        self._sqm: tuple[list[Estimate], list[Estimate]] = ([], [])
        self._modem: tuple[list[Estimate], list[Estimate]] = ([], [])
        self._tested: tuple[list[Estimate], list[Estimate]] = ([], [])
        self.in_use: Callable[[], bool] = _never
        self.at_rest: Callable[[], bool] = _never
        """Whether the line is being shared now; whether it may be and nobody uses it. Set by whoever shares it."""
        self.train_bps: Callable[[], int | None] = _nothing
        """What packet trains told: the lower of both directions, so that it is an estimate of upload alone."""
        self._named: str | None = None
        self.interface: str | None = None
        """By which the line goes out, where that is known."""
        self._place()
        self.capacity = self._capacity()

    # -------------------------------------------------------------- for the steps

    def take(self, monotonic: float, total: Rates | None, queueing_ms: float | None) -> None:
        """One step: what the whole line carried since the one before, both directions, and what packets waited."""
        before, self._seen_at = self._seen_at, monotonic
        now_s, capacity = self._clock.now(), self.capacity
        if before is None or total is None:
            self._seen_at = monotonic if total is not None else None
            return
        elapsed = monotonic - before
        up = self._total[0] + int(total.up_bps * elapsed / 8)
        down = self._total[1] + int(total.down_bps * elapsed / 8)
        self._total = (up, down)
        self._up = self._up.after(Sample(monotonic, now_s, up, down, queueing_ms, capacity.up_bps, capacity.down_bps))
        self._down = self._down.after(
            Sample(monotonic, now_s, down, up, queueing_ms, capacity.down_bps, capacity.up_bps)
        )

    def may_send_train(self) -> bool:
        """Whether a packet train is worth it and harms nobody: nothing better is known, and the line is at rest."""
        known_better = self.capacity.source not in (UNKNOWN, TRAIN)
        return self._household.position == ROUTER and not known_better and self.at_rest()

    def carried(self) -> tuple[int, int]:
        """Bytes through the WAN interface, as they stand now."""
        return self._household.meter.totals() or (0, 0)

    def carried_by_home(self) -> tuple[int, int] | None:
        """As :meth:`carried`; None where this device does not see the whole home's."""
        return self._household.meter.totals() if self._household.position == ROUTER else None

    def take_speedtest(self, up: list[Estimate], down: list[Estimate]) -> None:
        """What the owner's last test has measured."""
        self._tested = (up, down)
        self.decide()

    def decide(self) -> None:
        """Once a second: the capacity by all that is known now."""
        self.capacity = self._capacity()

    def save(self) -> None:
        self._settings.keep(OBSERVED, [self._up.as_json(), self._down.as_json()])

    def _capacity(self) -> Capacity:
        now_s, train_bps = self._clock.now(), self.train_bps()
        train = [] if train_bps is None else [Estimate(train_bps, TRAIN, now_s)]
        return capacity_of(
            self._config,
            now_s,
            up=[*self._sqm[0], *self._modem[0], *train, *self._tested[0]],
            down=[*self._sqm[1], *self._modem[1], *self._tested[1]],
            seen_up=self._up.seen,
            seen_down=self._down.seen,
        )

    # -------------------------------------------------------------- loops

    async def run(self) -> None:
        """Where this device stands, again and again."""
        while True:
            self._named = await wan_device()
            self._household.meter.name(self._named)
            self._place()
            await asyncio.sleep(LOOK_S)

    async def ask_router(self) -> None:
        """The home router's counters and its modem's rates, for as long as it gives them."""
        if not self._config.ask_router:
            return
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            watch = RouterWatch(
                http,
                self._own_bytes,
                self._clock.monotonic,
                take=self._take_router,
                in_use=lambda: self.in_use(),
                find=self._find,
                router=lambda: home_router(default_routes()) if self._household.position != ROUTER else None,
            )
            await watch.run()

    def _take_router(self, watch: RouterWatch) -> None:
        self._household.traffic = watch.traffic
        self._modem = (watch.up, watch.down)

    def _place(self) -> None:
        self.interface = self._config.interface or wan_of(default_routes(), self._named)
        self._sqm = read_sqm(self.interface, self._config.sqm)
        found = position(self._config.position, local_address("ipv4"), openwrt=OPENWRT.exists())
        if found != self._household.position:
            _log.info("this device is taken for %s", "the home's router" if found == ROUTER else "one behind a router")
        self._household.position = found


def _never() -> bool:
    return False


def _nothing() -> None:
    return None
