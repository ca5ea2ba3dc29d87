"""The daily report: all points there are, where they lie, why they moved, and whether everything recomputes: the books
from what devices sent (:mod:`.reconciliation`), and points spent and codes given from the redemptions.

Made once for each day (UTC) that is over, and kept. What does not reconcile is an alarm: an error in the log, a
figure for Prometheus, a health that says ``degraded``, and a command that fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

from aiohttp import web
from fallow_wire.strict import dumps, loads_object
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..background import uninterrupted
from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response
from .books import insert_new, read_head
from .config import DAY_S
from .journal import AccountKind
from .outward_tables import redemption_outbox, reports, restores
from .paging import limit_of
from .reconciliation import Reconciliation
from .tables import balances, devices, entries, redemptions, reward_codes, rewards

REPORTS_PER_PAGE_MAX = 100
DIFFERENCES_SHOWN_MAX = 100
"""More only repeat what is wrong; ``fallow operator reconcile`` shows them."""
LOOK_S = 600
"""How often is looked whether a day is over."""

_log = logging.getLogger(__name__)


class Reports:
    def __init__(self, database: Database, clock: Clock, reconciliation: Reconciliation) -> None:
        self._database = database
        self._clock = clock
        self._reconciliation = reconciliation
        self.last: dict[str, Any] | None = None
        """The newest report; None before the first."""
        self._failed: str | None = None

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/reports", self.get_reports, Role.OPERATOR)

    @property
    def trouble(self) -> str | None:
        """What an operator should look at now; None when all is well."""
        if self._failed is not None:
            return f"the daily report fails: {self._failed}"
        if self.last is not None and not self.last["sound"]:
            return f"the books did not reconcile on day {self.last['day']}"
        return None

    async def run(self) -> None:
        """Make what is due until cancelled."""
        while True:
            try:
                await self.make_due()
                self._failed = None
            except Exception as error:  # noqa: BLE001
                # The outermost loop: a database that is away now is there again at one of the next rounds.
                self._failed = str(error)
                _log.exception("the daily report failed; it will be tried again")
            await asyncio.sleep(LOOK_S)

    async def make_due(self) -> dict[str, Any]:
        """The report of the last day that is over; made now where it was not before."""
        day = self._clock.now() // DAY_S - 1
        kept = select(reports.c.report).where(reports.c.day == day)
        async with self._database.read() as connection:
            text: str | None = (await connection.execute(kept)).scalar_one_or_none()
        if text is None:
            made = await self._make(day)
            text = await uninterrupted(self._keep(made))
        self.last = loads_object(text, len(text.encode()))
        return self.last

    async def _keep(self, made: dict[str, Any]) -> str:
        """Keep a report unless another process has made one meanwhile. :return: the one that is kept."""
        row = {"day": made["day"], "at": made["at"], "sound": int(made["sound"]), "report": dumps(made).decode()}
        async with self._database.write() as connection:
            await insert_new(connection, reports, row)
            kept = select(reports.c.report).where(reports.c.day == made["day"])
            text: str = (await connection.execute(kept)).scalar_one()
        return text

    async def get_reports(self, request: web.Request) -> web.Response:
        """Newest first."""
        newest = select(reports.c.report).order_by(reports.c.day.desc()).limit(limit_of(request, REPORTS_PER_PAGE_MAX))
        async with self._database.read() as connection:
            texts = (await connection.execute(newest)).scalars().all()
        return json_response([loads_object(text, len(text.encode())) for text in texts])

    async def _make(self, day: int) -> dict[str, Any]:
        checked = await self._reconciliation.run()
        async with self._database.snapshot() as connection:
            differences = [*checked.differences, *await _redemption_differences(connection)]
            places = await _places(connection)
            supply = -places.pop(AccountKind.MINT.value)
            told: dict[str, Any] = {
                "day": day,
                "at": self._clock.now(),
                "entries": (await read_head(connection, self._clock.now())).entries,
                "supply": supply,
                "places": places,
                "moved": await _moved(connection, day * DAY_S, (day + 1) * DAY_S),
                "redemptions": await _open_redemptions(connection),
                "forked_devices": await _count(connection, devices.c.forked_at.is_not(None)),
                "restores_to_review": await _count(connection, restores.c.reviewed_at.is_(None)),
                "settlements": checked.settlements,
                "booked": checked.booked,
                "recomputed": checked.recomputed,
                "differences": differences[:DIFFERENCES_SHOWN_MAX],
                "difference_count": len(differences),
            }
        # Supply and places are of one state of the database, and the sum of its entries was checked apart.
        told["unaccounted"] = abs(supply - sum(places.values())) + abs(checked.sum)
        told["sound"] = told["unaccounted"] == 0 and not differences and checked.booked == checked.recomputed
        if told["sound"]:
            _log.info("day %d: %d µp in all, everything recomputes", day, told["supply"])
        else:
            _log.error(
                "THE BOOKS DO NOT RECONCILE: %d µp unaccounted for, %d differences, the first: %s",
                told["unaccounted"],
                told["difference_count"],
                differences[:1],
            )
        return told


async def _places(connection: AsyncConnection) -> dict[str, int]:
    """µp by kind of account."""
    query = select(balances.c.kind, func.sum(balances.c.micro_points)).group_by(balances.c.kind)
    found = {kind.value: 0 for kind in AccountKind}
    found.update({kind: int(micro_points) for kind, micro_points in await connection.execute(query)})
    return found


async def _moved(connection: AsyncConnection, from_at: int, until_at: int) -> dict[str, int]:
    """µp that moved in that time, by reason."""
    query = (
        select(entries.c.kind, func.sum(entries.c.micro_points))
        .where(entries.c.at >= from_at, entries.c.at < until_at, entries.c.micro_points > 0)
        .group_by(entries.c.kind)
        .order_by(entries.c.kind)
    )
    return {kind: int(micro_points) for kind, micro_points in await connection.execute(query)}


async def _open_redemptions(connection: AsyncConnection) -> dict[str, int]:
    """``reserved`` and ``unknown`` ones, and how many of them nobody but the operator will resolve."""
    query = (
        select(redemptions.c.state, func.count(), func.count(redemption_outbox.c.redemption))
        .outerjoin(redemption_outbox, redemption_outbox.c.redemption == redemptions.c.id)
        .where(redemptions.c.state.in_(("reserved", "unknown")))
        .group_by(redemptions.c.state)
    )
    found = {"reserved": 0, "unknown": 0, "for_operator": 0}
    for state, count, with_provider in await connection.execute(query):
        found[state] = count
        found["for_operator"] += count - with_provider
    return found


async def _redemption_differences(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Where points on their way or spent are not those of the redemptions, or a stock is not its unused codes."""
    spent: dict[tuple[str, str], int] = defaultdict(int)
    by_state = select(redemptions.c.owner, redemptions.c.state, func.sum(redemptions.c.micro_points))
    for owner, state, micro_points in await connection.execute(
        by_state.group_by(redemptions.c.owner, redemptions.c.state)
    ):
        if state != "voided":
            kind = AccountKind.REDEEMED if state == "fulfilled" else AccountKind.REDEEMING
            spent[kind.value, owner] += int(micro_points)
    kinds = (AccountKind.REDEEMING.value, AccountKind.REDEEMED.value)
    query = select(balances.c.kind, balances.c.holder, balances.c.micro_points).where(balances.c.kind.in_(kinds))
    booked = {(row.kind, row.holder): row.micro_points for row in await connection.execute(query)}
    found: list[dict[str, Any]] = []
    for account in booked.keys() | spent.keys():
        stored, expected = booked.get(account, 0), spent.get(account, 0)
        if stored != expected:
            found.append({"what": "redemptions", "where": ":".join(account), "stored": stored, "found": expected})
    unused = func.count(reward_codes.c.code).filter(reward_codes.c.redemption.is_(None))
    stocks = (
        select(rewards.c.id, rewards.c.stock, unused.label("unused"))
        .join(reward_codes, reward_codes.c.reward == rewards.c.id)
        .group_by(rewards.c.id, rewards.c.stock)
    )
    found += [
        {"what": "codes", "where": row.id, "stored": row.stock, "found": row.unused}
        for row in await connection.execute(stocks)
        if row.stock != row.unused
    ]
    return found


async def _count(connection: AsyncConnection, condition: Any) -> int:
    count: int = (await connection.execute(select(func.count()).where(condition))).scalar_one()
    return count
