"""A ledger that was restored from a backup: what it has forgotten, how that shows, and how what can come back does.

Forgotten is whatever was booked after the backup. Devices keep what was acknowledged for as long as a ledger takes it,
and hand it over again when they meet one that stands earlier in their chain; each such gap is noted. Their tickets draw
on reservations that were forgotten too, so for the hours in question the escrow lends again what is missing. Deposits,
tariffs, rewards and redemptions do not come back by themselves: redemptions rest until the operator has looked.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from sqlalchemy import select, update

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, refusal
from .books import Books, open_books, upsert
from .journal import Account, AccountKind, PostingKind, transfer
from .outward_tables import gaps, restores
from .paging import number
from .verification import HOUR_S, Verified

RESTORES_SHOWN = 20
GAPS_SHOWN = 1000
GAPS_PER_DEVICE_MAX = 16
"""A device that says of itself that it stands further costs no more rows than this."""
GAP_NOTED_AGAIN_S = 60
"""And no more often than this a write to the disk."""

_log = logging.getLogger(__name__)


class Restored:
    """What the last restores mean for the books."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._spans: tuple[range, ...] = ()

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/restores", self.get_restores, Role.OPERATOR)
        api.add("POST", "/v1/restores/{id}/review", self.post_review, Role.OPERATOR)

    async def load(self) -> None:
        """Read which hours are concerned; a restore happens only while no ledger runs."""
        async with self._database.read() as connection:
            rows = (
                await connection.execute(select(restores).order_by(restores.c.at.desc()).limit(RESTORES_SHOWN))
            ).all()
        # A lease that a scheduler held at the restore lasts to the end of its hour.
        self._spans = tuple(range(row.backup_at // HOUR_S, row.at // HOUR_S + 1) for row in rows)

    async def get_restores(self, request: web.Request) -> web.Response:
        async with self._database.read() as connection:
            newest = select(restores).order_by(restores.c.at.desc()).limit(RESTORES_SHOWN)
            found = (await connection.execute(newest)).all()
            noted = select(gaps).order_by(gaps.c.noted_at.desc(), gaps.c.device).limit(GAPS_SHOWN)
            missing = (await connection.execute(noted)).all()
        return json_response({"restores": [_row(row) for row in found], "gaps": [_row(row) for row in missing]})

    async def post_review(self, request: web.Request) -> web.Response:
        """The operator has looked at what was forgotten: redemptions go on."""
        at = number(request.match_info["id"], "id")
        async with self._database.write() as connection:
            await open_books(connection, self._clock)
            restore = restores.c.at == at
            reviewed = update(restores).where(restore, restores.c.reviewed_at.is_(None))
            await connection.execute(reviewed.values(reviewed_at=self._clock.now()))
            row = (await connection.execute(select(restores).where(restore))).one_or_none()
        if row is None:
            raise refusal(404, "not-found", "There was no such restore")
        return json_response(_row(row))

    async def note_gap(self, device: str, expected: int, seen: int) -> None:
        """``device`` sent batch ``seen`` where the ledger expects ``expected``: it has acknowledgements of those
        between, or says so."""
        mine = select(gaps).where(gaps.c.device == device)
        async with self._database.read() as connection:
            known = {row.expected: row for row in await connection.execute(mine)}
        before, now = known.get(expected), self._clock.now()
        if before is None and len(known) >= GAPS_PER_DEVICE_MAX:
            return
        if before is not None and (before.seen >= seen or now - before.noted_at < GAP_NOTED_AGAIN_S):
            return
        async with self._database.write() as connection:
            await open_books(connection, self._clock)
            await upsert(connection, gaps, [{"device": device, "expected": expected, "seen": seen, "noted_at": now}])
        _log.warning(
            "%s stands at batch %d, the ledger expects %d: the batches between are not here", device, seen, expected
        )

    def lend_again(self, books: Books, verified: Iterable[Verified]) -> None:
        """Reserve what ``verified`` needs beyond the reservations of hours that were forgotten, out of the escrow.

        The scheduler issued these tickets under leases that the ledger had granted; the escrow that they came from is
        in the backup, not lent.
        """
        if not self._spans:
            return
        needed: dict[Account, int] = defaultdict(int)
        for one in verified:
            if any(one.hour in span for span in self._spans):
                needed[Account(AccountKind.RESERVED, one.ticket.publisher, one.hour)] += one.micro_points
        books.load_now([*needed, *(Account(AccountKind.ESCROW, purse.holder) for purse in needed)])
        for purse, micro_points in needed.items():
            escrow = Account(AccountKind.ESCROW, purse.holder)
            lent = min(micro_points - books.balance(purse), books.balance(escrow))
            if lent > 0:
                books.post(transfer(PostingKind.RESERVATION, f"restored:{purse.name}", escrow, purse, lent))


def _row(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if value is not None}
