"""The review queue: what looks wrong about a device, for an operator to decide and its owner to read.

Each day is looked at when no more proofs of it can come. Nothing is taken before an operator has looked, and then only
what is still held: points mature later than reviews are made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from fallow_wire.fields import one_of
from fallow_wire.ids import uuid7
from fallow_wire.journal import held_parts
from fallow_wire.limits import PROOF_AGE_S_MAX
from sqlalchemy import Select, insert, or_, select, update

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, principal, record_body, refusal
from ..rows import Row, Rows
from .books import new_id, open_books
from .clawback import take_back
from .directory import may_see
from .paging import limit_of
from .suspicion import Delivery, unlikely_pairs, unlikely_shares
from .tables import clawbacks, devices, reviews, settlements
from .verification import DAY_S

REVIEWS_PER_PAGE_MAX = 500
REVIEWS_PER_DAY_MAX = 1000
"""More than an operator reads; the least likely come first."""
CLAWBACKS_MAX = 5000
"""Settlements that one decision reverses; the rest by deciding again. Batches wait meanwhile."""
LOOK_BACK_DAYS = 12
"""Points of older days have matured: there is nothing left to decide about."""
DELIVERIES_MAX = 500_000
"""Of a day, that are compared with each other: hundreds of MB of memory for a minute. More say little more."""
STATES = ("open", "cleared", "upheld")
UNLIKELY_PAIR, UNLIKELY_SHARE, FAILED_AUDIT = "unlikely-pair", "unlikely-share", "failed-audit"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Annotated[str, one_of("cleared", "upheld")]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be reviewed of a device."""

    device: str
    reason: str
    detail: str


class Reviews:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._looked_until: int | None = None

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/reviews", self.get, Role.OWNER, Role.DEVICE, Role.OPERATOR)
        api.add("GET", "/v1/reviews/{id}", self.get_one, Role.OWNER, Role.DEVICE, Role.OPERATOR)
        api.add("POST", "/v1/reviews/{id}/resolution", self.post_resolution, Role.OPERATOR)

    async def look(self) -> None:
        """Look at each day that is complete, once; after a start at the last ones again, which makes nothing twice."""
        newest = (self._clock.now() - PROOF_AGE_S_MAX) // DAY_S - 1
        first = newest - LOOK_BACK_DAYS + 1
        if self._looked_until is not None:
            first = max(first, self._looked_until + 1)
        for day in range(first, newest + 1):
            rows = await self._database.ask(partial(deliveries_of, day=day))
            failed = await self._database.ask(partial(failed_audits, day=day))
            found = await asyncio.to_thread(findings_of, rows, failed)
            if found:
                await self._keep(day, found[:REVIEWS_PER_DAY_MAX])
            self._looked_until = day

    async def _keep(self, day: int, found: list[Finding]) -> None:
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            kept = select(reviews.c.device, reviews.c.reason).where(reviews.c.at == day * DAY_S)
            known = {(row.device, row.reason) for row in await connection.execute(kept)}
            owners = {
                row.id: row.owner
                for row in await connection.execute(
                    select(devices.c.id, devices.c.owner).where(devices.c.id.in_({one.device for one in found}))
                )
            }
            for one in found:
                if (one.device, one.reason) in known:
                    continue  # a device's most unlikely pair stands for the others of the day
                known.add((one.device, one.reason))
                row = {
                    "id": new_id(self._clock),
                    "owner": owners.get(one.device) or "",
                    "device": one.device,
                    "reason": one.reason,
                    "detail": one.detail,
                    "state": "open",
                    "at": day * DAY_S,
                    "changed_at": books.now,
                }
                await connection.execute(insert(reviews), [row])
                _log.warning("%s is to be reviewed: %s", one.device, row["detail"])

    async def get(self, request: web.Request) -> web.Response:
        """Newest last, of all states or of one; ``after`` is the id of the last one seen."""
        caller = principal(request)
        query = select(reviews).where(reviews.c.id > request.query.get("after", ""))
        if "state" in request.query:
            query = query.where(reviews.c.state == one_of(*STATES)(request.query["state"], "state", True))
        if caller.role is not Role.OPERATOR:
            query = query.where(reviews.c.owner == caller.account)
        async with self._database.read() as connection:
            limited = query.order_by(reviews.c.id).limit(limit_of(request, REVIEWS_PER_PAGE_MAX))
            rows = (await connection.execute(limited)).all()
        return json_response([dict(row._mapping) for row in rows])

    async def get_one(self, request: web.Request) -> web.Response:
        """With what would be taken back now, were it upheld."""
        caller, now = principal(request), self._clock.now()
        async with self._database.read() as connection:
            query = select(reviews).where(reviews.c.id == request.match_info["id"])
            row = (await connection.execute(query)).one_or_none()
            if row is None or not may_see(caller, row.owner):
                raise refusal(404, "not-found", "There is no such review")
            held = await connection.execute(_held_of(row.device, now))
            at_stake = sum(
                amount
                for one in held
                for at, amount in held_parts(one.micro_points, one.matures_at, one.late_at)
                if at > now
            )
        return json_response({**row._mapping, "held": at_stake})

    async def post_resolution(self, request: web.Request) -> web.Response:
        outcome = (await record_body(request, Decision)).outcome
        taken = 0
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            query = select(reviews).where(reviews.c.id == request.match_info["id"])
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise refusal(404, "not-found", "There is no such review")
            if row.state == "cleared" and outcome != row.state:
                raise refusal(409, "already-resolved", "The device was cleared", remedy="What is cleared stays so.")
            if outcome == "upheld":
                held = _held_of(row.device, books.now).order_by(settlements.c.jti).limit(CLAWBACKS_MAX)
                for settlement in (await connection.execute(held)).all():
                    taken += await take_back(connection, books, settlement, f"review {row.id}: {row.detail}")
            await books.save()
            changed: dict[str, Any] = {**row._mapping, "state": outcome, "changed_at": books.now}
            change = update(reviews).where(reviews.c.id == row.id)
            await connection.execute(change.values(state=outcome, changed_at=books.now))
        return json_response({**changed, "micro_points": taken})


def _held_of(device: str, now: int) -> Select[Any]:
    """Settlements of a device of which something is held."""
    return select(settlements).where(
        settlements.c.device == device,
        or_(settlements.c.matures_at > now, settlements.c.late_at > now),
        settlements.c.micro_points > 0,
        settlements.c.jti.not_in(select(clawbacks.c.jti)),
    )


def deliveries_of(rows: Rows, day: int, count_max: int = DELIVERIES_MAX) -> list[Row]:
    """Device, line, consumer, object and odds of the settled tickets of a day: their ids rise with time.

    Of a day with more than ``count_max`` an even sample, about so large: ids end in chance that the scheduler drew, and
    so many of their 256 last bytes are taken as fit.
    """
    first, end = (uuid7(at * 1000, bytes(10)) for at in (day * DAY_S, (day + 1) * DAY_S))
    settled = "FROM settlements WHERE jti >= ? AND jti < ? AND micro_points > 0"
    ((count,),) = rows.all(f"SELECT count(*) {settled}", (first, end))
    last = "ff" if count <= count_max else f"{max(1, 256 * count_max // count) - 1:02x}"
    query = f"SELECT device, coalesce(line, device), consumer, object, odds {settled} AND substr(jti, 35) <= ?"
    return list(rows.all(query, (first, end, last)))


def failed_audits(rows: Rows, day: int) -> dict[str, str]:
    """Devices that a canary found wrong that day, or that claimed more than it got, and why."""
    span = (day * DAY_S, (day + 1) * DAY_S)
    query = (
        "SELECT audits.device, audits.bytes, settlements.claimed_bytes FROM audits JOIN settlements "
        "ON settlements.jti = audits.jti WHERE audits.at >= ? AND audits.at < ? "
        "AND (settlements.claimed_bytes > audits.bytes OR settlements.confirmed_bytes > audits.bytes) "
        "ORDER BY audits.at"
    )
    found = {row[0]: f"it claimed {row[2]} bytes, and {row[1]} came" for row in rows.all(query, span)}
    query = "SELECT device, reason FROM audits WHERE agreed = 0 AND at >= ? AND at < ? ORDER BY at"
    return found | {row[0]: row[1] for row in rows.all(query, span)}


def findings_of(rows: list[Row], failed: Mapping[str, str]) -> list[Finding]:
    """What is to be reviewed of a day, the least likely first; each device of a line that is in question.

    :param rows: as :func:`deliveries_of` gives them.
    :param failed: as :func:`failed_audits` gives them.
    """
    devices_of: dict[str, set[str]] = defaultdict(set)
    lines_of: dict[str, set[str]] = defaultdict(set)
    for device, line, *_ in rows:
        devices_of[line].add(device)
        lines_of[device].add(line)
    found: list[tuple[float, str, str, str]] = []
    for culprit, reason in failed.items():
        detail = f"a canary did not get from {culprit} what it should: {reason or 'no reason given'}"
        neighbours = {device for line in lines_of[culprit] for device in devices_of[line]}
        found += [(0.0, device, FAILED_AUDIT, detail) for device in {culprit, *neighbours}]
    deliveries = []
    for _, line, subject, object_id, odds in rows:
        consumer, _, pool = subject.partition(".")
        deliveries.append(Delivery(line, consumer, object_id, odds, pool))
    for pair in unlikely_pairs(deliveries):
        found += [(pair.chance, device, UNLIKELY_PAIR, pair.detail()) for device in devices_of[pair.line]]
    for share in unlikely_shares(deliveries):
        found += [(share.chance, device, UNLIKELY_SHARE, share.detail()) for device in devices_of[share.line]]
    return [Finding(device, reason, detail) for _, device, reason, detail in sorted(found)]
