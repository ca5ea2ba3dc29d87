"""``POST /v1/settlements/{jti}/clawback``: what was booked in error goes back to its publisher, while it is held.

A clawback reverses a settlement by a posting of its own, once. It takes what has not matured yet and nothing else:
points that an owner could redeem stay the owner's, and leaving takes nothing from anyone. The reason stays with it, and
its owner and publisher can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from fallow_wire.fields import encode, text
from fallow_wire.journal import held_parts
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, principal, record_body, refusal
from .books import Books, open_books
from .idempotency import Answer, answered, once, remember
from .journal import Account, AccountKind, PostingKind, transfer
from .tables import clawbacks, settlements
from .vesting import unhold

REASON_CHARS_MAX = 500
"""A few sentences for the owner."""


@dataclass(frozen=True, slots=True)
class NewClawback:
    """``reason`` is told to the owner."""

    reason: Annotated[str, text(REASON_CHARS_MAX, 1)]


class Clawbacks:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("POST", "/v1/settlements/{jti}/clawback", self.post, Role.OPERATOR)

    async def post(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, NewClawback)
        jti = request.match_info["jti"]
        asked = once(request, f"clawback:{principal(request).account}", {**encode(wanted), "jti": jti})
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            if earlier := await answered(connection, asked):
                return earlier.response()
            row = (await connection.execute(select(settlements).where(settlements.c.jti == jti))).one_or_none()
            if row is None:
                raise refusal(404, "not-found", "There is no settlement of this ticket")
            if (await connection.execute(select(clawbacks.c.jti).where(clawbacks.c.jti == jti))).one_or_none():
                raise refusal(409, "already-reversed", "The settlement was reversed before")
            amount = await take_back(connection, books, row, wanted.reason)
            if not amount:
                raise refusal(
                    409,
                    "already-vested",
                    "Nothing of this settlement is held any more",
                    "its points have matured and are the owner's",
                )
            await books.save()
            clawback = (await connection.execute(select(clawbacks).where(clawbacks.c.jti == jti))).one()
            answer = Answer(201, dict(clawback._mapping))
            await remember(connection, asked, answer, books.now)
        return answer.response()


async def take_back(connection: AsyncConnection, books: Books, settlement: Any, reason: str) -> int:
    """Reverse what is still held of ``settlement``, a row that was not reversed before; the caller saves ``books``.

    :return: µp, 0 where nothing is held.
    """
    matures = held_parts(settlement.micro_points, settlement.matures_at, settlement.late_at)
    parts = {at: amount for at, amount in matures if at > books.now}
    amount = sum(parts.values())
    if not amount:
        return 0
    held, escrow = Account(AccountKind.HELD, settlement.owner), Account(AccountKind.ESCROW, settlement.publisher)
    await books.load([held, escrow])
    entry_seq = books.post(transfer(PostingKind.CLAWBACK, settlement.jti, held, escrow, amount))
    await unhold(connection, settlement.owner, parts)
    row = {
        "jti": settlement.jti,
        "micro_points": amount,
        "reason": reason[:REASON_CHARS_MAX],
        "entry_seq": entry_seq,
        "at": books.now,
    }
    await connection.execute(insert(clawbacks), [row])
    return amount
