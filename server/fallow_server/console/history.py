"""What consumers asked for and who served it, a row for each five minutes, and the fleet at the end of them.

``asked_bytes``: of requests. ``routed_bytes``: of those that were sent to devices. ``origin_bytes``: what this server
has sent to consumers itself, those included who turned to it from a device. ``filled_bytes``: what it sent to devices.
A crash loses the minutes since the last row; a row that a restart cut in two is added up.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from fallow_wire.fields import one_of

from ..background import uninterrupted
from ..clock import Clock
from ..database import Database
from ..delivery.router import Routing
from ..delivery.transfer import Transfer
from ..fleet.live import Fleet
from ..fleet.totals import totals_of
from ..http import Api, Role
from ..rows import Row, Rows
from .answers import tagged
from .config import Config

PERIOD_S = 300
DAY_S = 86_400
SPANS = {"day": (DAY_S, PERIOD_S), "week": (7 * DAY_S, 1800), "month": (31 * DAY_S, 7200)}
"""How far back is shown, and how much one point stands for, in seconds: some 300 points."""
FLOWS = ("requests", "asked_bytes", "routed_bytes", "origin_bytes", "filled_bytes")
LEVELS = ("connected", "reachable", "idle_up_bps")


class History:
    """A :class:`~..delivery.router.RouteSink`. :param transfer: tells what this server has sent."""

    def __init__(self, config: Config, database: Database, fleet: Fleet, transfer: Transfer, clock: Clock) -> None:
        self._kept_s = config.history_days * DAY_S
        self._database = database
        self._fleet = fleet
        self._transfer = transfer
        self._clock = clock
        self._requests = self._asked = self._routed = 0
        self._sent_before = self._filled_before = 0

    def add_to(self, api: Api) -> None:
        api.add("GET", "/console/history", self.get, Role.OPERATOR)

    def routed(self, routing: Routing) -> None:
        self._requests += 1
        self._asked += routing.asked_bytes
        if routing.origin is None:
            self._routed += routing.asked_bytes

    async def run(self) -> None:
        """Write a row at the end of each period, until cancelled."""
        while True:
            now = self._clock.now()
            await asyncio.sleep(PERIOD_S - now % PERIOD_S)
            await self.write(now)

    async def write(self, at: int) -> None:
        """Add what was counted since the last time to the row of ``at``, Unix seconds."""
        totals = await totals_of(self._fleet)
        sent, filled = self._transfer.sent_bytes, self._transfer.filled_bytes
        flows = (
            self._requests,
            self._asked,
            self._routed,
            sent - self._sent_before,
            filled - self._filled_before,
        )
        levels = (totals.connected, totals.reachable, totals.idle_up_bps)
        self._requests = self._asked = self._routed = 0
        self._sent_before, self._filled_before = sent, filled
        first = at // PERIOD_S * PERIOD_S
        await uninterrupted(
            self._database.transact(lambda rows: _add(rows, first, flows, levels, first - self._kept_s))
        )

    async def get(self, request: web.Request) -> web.Response:
        """Columns of equal length, oldest first; a point stands for the ``step_s`` seconds that begin with it."""
        span, step_s = SPANS[one_of(*SPANS)(request.query.get("span", "day"), "span", True)]
        since = (self._clock.now() - span) // step_s * step_s
        found = await self._database.ask(lambda rows: rows.all(_points(step_s), (since,)))
        columns = zip(*found, strict=True) if found else ((),) * (1 + len(FLOWS) + len(LEVELS))
        names = ("at", *FLOWS, *LEVELS)
        told: dict[str, Any] = {
            name: [int(value) for value in column] for name, column in zip(names, columns, strict=True)
        }
        return tagged(request, {"step_s": step_s, **told})


def _points(step_s: int) -> str:
    sums = ", ".join(f"SUM({name})" for name in FLOWS)
    means = ", ".join(f"AVG({name})" for name in LEVELS)
    return f"SELECT at / {step_s} * {step_s} AS point, {sums}, {means} FROM history WHERE at >= ? GROUP BY 1 ORDER BY 1"


def _add(rows: Rows, at: int, flows: Row, levels: Row, before: int) -> None:
    if rows.all(f"SELECT at FROM history WHERE at = ?{rows.for_update}", (at,)):
        changes = ", ".join([*(f"{name} = {name} + ?" for name in FLOWS), *(f"{name} = ?" for name in LEVELS)])
        rows.run(f"UPDATE history SET {changes} WHERE at = ?", (*flows, *levels, at))
    else:
        marks = ", ".join("?" * (1 + len(FLOWS) + len(LEVELS)))
        rows.run(f"INSERT INTO history (at, {', '.join((*FLOWS, *LEVELS))}) VALUES ({marks})", (at, *flows, *levels))
    rows.run("DELETE FROM history WHERE at < ?", (before,))
