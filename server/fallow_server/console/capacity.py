"""What devices foresee that they can serve in the coming hours, against what consumers are expected to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..clock import Clock
from ..fleet.live import Fleet
from ..http import Api, Role
from ..scheduling.demand import HOUR_S, HOURS, Demands, Saved
from .answers import tagged

FRESH_S = 60.0
SLICE_DEVICES = 1000
"""Before others have their turn on the loop: some ms."""


class Capacity:
    """:param demand: what is counted now."""

    def __init__(self, fleet: Fleet, demand: Callable[[], Demands], clock: Clock) -> None:
        self._fleet = fleet
        self._demand = demand
        self._clock = clock
        self._making = asyncio.Lock()
        self._made: tuple[float, dict[str, Any]] | None = None

    def add_to(self, api: Api) -> None:
        api.add("GET", "/console/capacity", self.get, Role.OPERATOR)

    async def get(self, request: web.Request) -> web.Response:
        """By hour, that under way first: bit/s that reachable devices foresee, all connected ones, and demand."""
        async with self._making:
            if self._made is None or self._clock.monotonic() - self._made[0] >= FRESH_S:
                self._made = (self._clock.monotonic(), await self._make())
        return tagged(request, self._made[1])

    async def _make(self) -> dict[str, Any]:
        now = self._clock.now()
        reachable, connected = [0] * HOURS, [0] * HOURS
        for number, device in enumerate(list(self._fleet.devices()), 1):
            beat = device.heartbeat
            if beat is not None and beat.state == "active":
                for hour, bps in enumerate(beat.forecast_idle_up_bps[:HOURS]):
                    connected[hour] += bps
                    if device.service_urls:
                        reachable[hour] += bps
            if number % SLICE_DEVICES == 0:
                await asyncio.sleep(0)
        demand = await asyncio.to_thread(_demand_by_hour, self._demand().saved(), float(now))
        return {
            "at": [now // HOUR_S * HOUR_S + hour * HOUR_S for hour in range(HOURS)],
            "reachable_bps": reachable,
            "connected_bps": connected,
            "demand_bps": demand,
        }


def _demand_by_hour(saved: Saved, now: float) -> list[int]:
    """bit/s, on average of each hour."""
    # Here and not above: numpy is not needed before somebody looks.
    from ..scheduling.expectation import expected

    return [round(float(bytes_) * 8 / HOUR_S) for bytes_ in expected(saved, now).bytes_by_hour.sum(axis=0)]
