"""The daily root: the head of the chain at the end of each day, signed and published.

Whoever keeps a root can tell later whether anything that was booked until that day was altered. A day without bookings
has the root of the day before, signed for itself.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from aiohttp import web
from fallow_wire.batches import Head
from fallow_wire.errors import Malformed
from fallow_wire.journal import GENESIS
from fallow_wire.jws import Kind, sign
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, refusal
from ..signing import SigningKeys
from .books import open_books
from .paging import limit_of
from .tables import entries, ledger_keys, roots
from .verification import DAY_S

ROOTS_PER_SWEEP = 400
"""A ledger that slept for a year catches up in one sweep."""
ROOTS_PER_PAGE_MAX = 1000
_DAY = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]\Z")


class Roots:
    def __init__(self, database: Database, keys: SigningKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/roots", self.get_all, Role.ANYONE)
        api.add("GET", "/v1/roots/{day}", self.get_one, Role.ANYONE)

    async def keep_keys(self) -> None:
        """Note the public keys that sign here, next to what they sign."""
        async with self._database.write() as connection:
            known = set((await connection.execute(select(ledger_keys.c.kid))).scalars())
            rows = [{"kid": kid, "x": key.jwk().x} for kid, key in self._keys.public_keys().items() if kid not in known]
            if rows:
                await connection.execute(insert(ledger_keys), rows)

    async def close_days(self) -> int:
        """Sign a root for each day that has ended.

        :return: how many.
        """
        made = 0
        today = self._clock.now() // DAY_S
        async with self._database.read() as connection:
            first = await _first_open_day(connection, today)
        if first >= today:
            return made
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            first = await _first_open_day(connection, books.now // DAY_S)
            for day in range(first, min(books.now // DAY_S, first + ROOTS_PER_SWEEP)):
                head = await _head_before(connection, (day + 1) * DAY_S)
                row: dict[str, Any] = {"day": day, "entries": head.entries, "hash": head.hash}
                row["token"] = sign(Kind.HEAD, head, self._keys.current)
                await connection.execute(insert(roots), [row])
                made += 1
        return made

    async def get_all(self, request: web.Request) -> web.Response:
        """Newest first."""
        query = select(roots).order_by(roots.c.day.desc()).limit(limit_of(request, ROOTS_PER_PAGE_MAX))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return json_response([_json(row) for row in rows])

    async def get_one(self, request: web.Request) -> web.Response:
        day = day_of(request.match_info["day"])
        async with self._database.read() as connection:
            row = (await connection.execute(select(roots).where(roots.c.day == day))).one_or_none()
        if row is None:
            raise refusal(404, "not-found", "There is no root of this day", remedy="It is signed after the day, UTC.")
        return json_response(_json(row))


def day_of(text: str) -> int:
    """Days since 1970 of ``YYYY-MM-DD``. :raises Malformed: for other text."""
    try:
        if not _DAY.match(text):
            raise ValueError
        return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days
    except ValueError:
        raise Malformed("day: YYYY-MM-DD is wanted") from None


def _json(row: Any) -> dict[str, Any]:
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=row.day)
    return {"day": day.isoformat(), "entries": row.entries, "hash": row.hash, "root": row.token}


async def _first_open_day(connection: AsyncConnection, today: int) -> int:
    """The day after the last root; before any root that of the first entry, or today where there is none."""
    last = (await connection.execute(select(func.max(roots.c.day)))).scalar_one()
    if last is not None:
        return int(last) + 1
    at = (await connection.execute(select(entries.c.at).order_by(entries.c.seq).limit(1))).scalar_one_or_none()
    return today if at is None else int(at) // DAY_S


async def _head_before(connection: AsyncConnection, end: int) -> Head:
    """The last entry before ``end``; the search goes from the newest, which are few when it runs."""
    query = select(entries.c.seq, entries.c.hash).where(entries.c.at < end).order_by(entries.c.seq.desc()).limit(1)
    row = (await connection.execute(query)).one_or_none()
    return Head(0, GENESIS, end) if row is None else Head(row.seq, row.hash, end)
