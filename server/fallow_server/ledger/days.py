"""What an owner earned, day by day, and the deliveries of one day: what the phone app draws and opens.

Both walk the owner's entries from the daily root before the first day on, so that a long history costs nothing.
"""

from __future__ import annotations

import datetime
from typing import Any

from aiohttp import web
from fallow_wire.errors import Malformed
from sqlalchemy import Integer, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response
from .journal import Account, AccountKind, PostingKind
from .paging import limit_of, number
from .statements import account_of
from .tables import entries, roots, settlements

DAYS_MAX = 92
DELIVERIES_PER_PAGE_MAX = 100
DAY_S = 86_400
OFFSET_MIN_MAX = 14 * 60
"""Of places on earth to UTC."""


class Days:
    """The calls ``GET /v1/accounts/{id}/days[/{day}]``. ``offset_min``: minutes that the reader's days begin before
    those of UTC."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        readers = (Role.OWNER, Role.DEVICE, Role.OPERATOR)
        api.add("GET", "/v1/accounts/{id}/days", self.get_days, *readers)
        api.add("GET", "/v1/accounts/{id}/days/{day}", self.get_day, *readers)

    async def get_days(self, request: web.Request) -> web.Response:
        """Days with something in them, newest first: ``{day, micro_points, deliveries, reversed}``."""
        account, offset_s = account_of(request), _offset_s(request)
        count = limit_of(request, DAYS_MAX)
        today = (self._clock.now() + offset_s) // DAY_S
        first = today - count + 1
        # Written out, for PostgreSQL does not see that two parameters of the same value are the same expression.
        day = literal_column(f"(at + {offset_s}) / {DAY_S}", Integer)
        async with self._database.read() as connection:
            since = await _entries_before(connection, first)
            query = (
                select(day, entries.c.kind, func.count(), func.sum(entries.c.micro_points))
                .where(*_earned(account), entries.c.seq > since, entries.c.at >= first * DAY_S - offset_s)
                .group_by(day, entries.c.kind)
            )
            rows = (await connection.execute(query)).all()
        found: dict[int, dict[str, Any]] = {}
        for number_of_day, kind, how_many, micro_points in rows:
            one = found.setdefault(int(number_of_day), {"micro_points": 0, "deliveries": 0, "reversed": 0})
            if kind == PostingKind.SETTLEMENT:
                one["micro_points"], one["deliveries"] = int(micro_points), how_many
            else:
                one["reversed"] = -int(micro_points)
        return json_response([{"day": _name(one), **found[one]} for one in sorted(found, reverse=True)])

    async def get_day(self, request: web.Request) -> web.Response:
        """The deliveries of a day, oldest first: ``{seq, at, jti, device, service, bytes, micro_points}``."""
        account, offset_s = account_of(request), _offset_s(request)
        start = _number(request.match_info["day"]) * DAY_S - offset_s
        after = number(request.query.get("after", "0"), "after")
        async with self._database.read() as connection:
            since = max(after, await _entries_before(connection, start // DAY_S))
            query = (
                select(
                    entries.c.seq,
                    entries.c.at,
                    settlements.c.jti,
                    settlements.c.device,
                    settlements.c.service,
                    settlements.c.paid_bytes.label("bytes"),
                    entries.c.micro_points,
                )
                .join(settlements, settlements.c.jti == entries.c.ref)
                .where(
                    *_earned(account),
                    entries.c.kind == PostingKind.SETTLEMENT.value,
                    entries.c.seq > since,
                    entries.c.at >= start,
                    entries.c.at < start + DAY_S,
                )
                .order_by(entries.c.seq)
                .limit(limit_of(request, DELIVERIES_PER_PAGE_MAX))
            )
            rows = (await connection.execute(query)).mappings().all()
        return json_response([dict(row) for row in rows])


def _earned(owner: str) -> tuple[Any, ...]:
    kinds = (PostingKind.SETTLEMENT.value, PostingKind.CLAWBACK.value)
    held = Account(AccountKind.HELD, owner).name
    return entries.c.holder == owner, entries.c.account == held, entries.c.kind.in_(kinds)


async def _entries_before(connection: AsyncConnection, day: int) -> int:
    """How many entries surely lie before a day, wherever on earth it is: two days of UTC are left between."""
    query = select(func.max(roots.c.entries)).where(roots.c.day <= day - 2)
    return int((await connection.execute(query)).scalar_one() or 0)


def _offset_s(request: web.Request) -> int:
    text = request.query.get("offset_min", "0")
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    minutes = number(digits, "offset_min")
    if minutes > OFFSET_MIN_MAX:
        raise Malformed(f"offset_min: from -{OFFSET_MIN_MAX} to {OFFSET_MIN_MAX} is wanted")
    return sign * minutes * 60


def _number(day: str) -> int:
    try:
        found = datetime.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise Malformed("day: one such as 2026-11-28 is wanted") from None
    return int(found.timestamp()) // DAY_S


def _name(day: int) -> str:
    return datetime.datetime.fromtimestamp(day * DAY_S, datetime.UTC).strftime("%Y-%m-%d")
