"""``POST /v1/tariffs/diff``: what a proposed tariff would have paid each owner last week, against what was paid.

Every settlement of tickets of the last seven days is priced once more from the inputs that it stores. Nothing is
written, and nothing that the proposal would have led people to do otherwise is guessed. A large week takes a while: it
is gone through once in pages, callers hear how far it is, and what was found is kept for a few minutes, so that it can
be read in pages.
"""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from aiohttp import web
from fallow_wire.fields import encode
from fallow_wire.ids import uuid7, uuid7_ms
from fallow_wire.strict import dumps
from fallow_wire.tariff import DAY_S, HOUR_S, Factors, Tariff

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, record_body, refusal
from ..rows import Row, Rows
from .paging import limit_of
from .tariffs import NewTariff

WEEK_S = 7 * DAY_S
SETTLEMENTS_PER_PAGE = 5000
"""Some ten milliseconds each; other work has its turn in between."""
OWNERS_PER_PAGE_MAX = 1000
KEPT_MAX = 4
KEPT_S = 600
WAIT_S = 5.0
"""Longer than most weeks take; then the caller hears how far it is."""
_QUERY = (
    "SELECT s.jti, s.owner, s.device, s.publisher, s.service, s.tier, s.issued_at, s.paid_bytes, s.audits, s.region, "
    "s.delivered, s.micro_points FROM settlements s "
    "WHERE s.jti > ? AND s.jti < ? AND NOT EXISTS (SELECT 1 FROM clawbacks c WHERE c.jti = s.jti) "
    f"ORDER BY s.jti LIMIT {SETTLEMENTS_PER_PAGE}"
)


@dataclass(slots=True)
class Sums:
    """µp of one owner."""

    settlements: int = 0
    paid: int = 0
    would: int = 0


@dataclass(slots=True)
class Repricing:
    """Settlements under ``tariff``, one after another in the order of their tickets: legacy caps count in it."""

    tariff: Tariff
    owners: dict[str, Sums] = field(default_factory=dict)
    capped: int = 0
    """Legacy settlements for which the proposal's caps leave nothing."""
    _device_days: Counter[tuple[str, int]] = field(default_factory=Counter)
    _publisher_days: Counter[tuple[str, int]] = field(default_factory=Counter)

    def take(self, rows: Iterable[Row]) -> None:
        tariff = self.tariff
        for row in rows:
            _, owner, device, publisher, service, tier, issued_at, paid, audits, region, delivered, micro_points = row
            sums = self.owners.get(owner)
            if sums is None:
                sums = self.owners[owner] = Sums()
            sums.settlements += 1
            sums.paid += micro_points
            if tier == "legacy" and not self._fits((device, issued_at // DAY_S), (publisher, issued_at // DAY_S), paid):
                self.capped += 1
                continue
            sums.would += Factors(
                bytes=paid,
                rate=tariff.rates.get(service, 0),
                quality=tariff.quality_of(delivered),
                scarcity=tariff.scarcity_at(region, issued_at),
                weight=tariff.weight(tier, audits or 0),
            ).micro_points()

    def _fits(self, device_day: tuple[str, int], publisher_day: tuple[str, int], paid: int) -> bool:
        caps = self.tariff.legacy_caps
        if self._device_days[device_day] + paid > caps.device_day_bytes:
            return False
        if self._publisher_days[publisher_day] + paid > caps.publisher_day_bytes:
            return False
        self._device_days[device_day] += paid
        self._publisher_days[publisher_day] += paid
        return True


@dataclass(slots=True)
class _Diff:
    from_at: int
    until_at: int
    repricing: Repricing
    kept_until: float
    reached_at: int = 0
    owners: list[str] = field(default_factory=list)
    """In order, when it is done."""
    task: asyncio.Task[None] | None = None


class TariffDiffs:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept: dict[str, _Diff] = {}

    def add_routes(self, api: Api) -> None:
        api.add("POST", "/v1/tariffs/diff", self.post, Role.OPERATOR)

    async def post(self, request: web.Request) -> web.Response:
        """200 with a page of owners, or 202 with how far it is: then the same is to be asked again."""
        # Of the last week, so when it would begin means nothing.
        proposed = replace((await record_body(request, NewTariff)).as_tariff(1), valid_from=0)
        limit, after = limit_of(request, OWNERS_PER_PAGE_MAX), request.query.get("after", "")
        diff = self._diff_of(proposed)
        assert diff.task is not None
        await asyncio.wait((diff.task,), timeout=WAIT_S)
        if not diff.task.done():
            done = (diff.reached_at - diff.from_at) * 1000 // WEEK_S if diff.reached_at else 0
            return json_response({"done_permille": min(1000, max(0, done))}, 202, headers={"Retry-After": "1"})
        diff.task.result()
        return json_response(_page(diff, after, limit))

    async def close(self) -> None:
        for diff in self._kept.values():
            if diff.task is not None:
                diff.task.cancel()
        await asyncio.gather(*(diff.task for diff in self._kept.values() if diff.task), return_exceptions=True)
        self._kept.clear()

    def _diff_of(self, proposed: Tariff) -> _Diff:
        """The one that is under way or kept, or a new one.

        :raises ApiProblem: 429 while another proposal is gone through.
        """
        now_s = self._clock.monotonic()
        self._kept = {
            key: one
            for key, one in self._kept.items()
            if one.task is not None and (not one.task.done() or (now_s < one.kept_until and _succeeded(one.task)))
        }
        key = hashlib.sha256(dumps(encode(proposed))).hexdigest()
        found = self._kept.get(key)
        if found is not None:
            found.kept_until = now_s + KEPT_S
            return found
        if any(one.task is not None and not one.task.done() for one in self._kept.values()):
            raise refusal(
                429,
                "too-many",
                "Another proposal is being compared",
                remedy="Wait until it is done.",
                headers={"Retry-After": "5"},
            )
        while len(self._kept) >= KEPT_MAX:
            del self._kept[min(self._kept, key=lambda one: self._kept[one].kept_until)]
        until_at = self._clock.now() // HOUR_S * HOUR_S
        made = _Diff(until_at - WEEK_S, until_at, Repricing(proposed), now_s + KEPT_S)
        made.task = asyncio.create_task(self._go_through(made), name="tariff-diff")
        self._kept[key] = made
        return made

    async def _go_through(self, diff: _Diff) -> None:
        last, end = (uuid7(at * 1000, bytes(10)) for at in (diff.from_at, diff.until_at))
        while rows := await self._database.ask(partial(_page_of, after=last, end=end)):
            await asyncio.to_thread(diff.repricing.take, rows)
            last = rows[-1][0]
            diff.reached_at = uuid7_ms(last) // 1000
        diff.owners = sorted(diff.repricing.owners)


def _succeeded(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is None


def _page_of(rows: Rows, after: str, end: str) -> list[Row]:
    return list(rows.all(_QUERY, (after, end)))


def _page(diff: _Diff, after: str, limit: int) -> dict[str, Any]:
    owners = diff.repricing.owners
    start = bisect_right(diff.owners, after)
    shown = diff.owners[start : start + limit + 1]
    told: dict[str, Any] = {
        "from_at": diff.from_at,
        "until_at": diff.until_at,
        "settlements": sum(one.settlements for one in owners.values()),
        "paid": sum(one.paid for one in owners.values()),
        "would": sum(one.would for one in owners.values()),
        "capped": diff.repricing.capped,
        "owner_count": len(owners),
        "owners": [{"owner": owner, **encode(owners[owner]), **_change(owners[owner])} for owner in shown[:limit]],
    }
    return told | ({"next": shown[limit - 1]} if len(shown) > limit else {})


def _change(sums: Sums) -> dict[str, int]:
    """In ‰ of what was paid; wire integers have no sign."""
    if not sums.paid:
        return {}
    name = "more_permille" if sums.would >= sums.paid else "less_permille"
    return {name: abs(sums.would - sums.paid) * 1000 // sums.paid}
