"""Publishers' points: deposits, what is lent to the tickets of an hour, and what comes back of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from fallow_wire.errors import Malformed
from fallow_wire.fields import encode, integer, word
from fallow_wire.limits import INTEGER_MAX, PROOF_AGE_S_MAX
from sqlalchemy import delete, func, select

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, principal, record_body, refusal
from ..link import Granted, LinkReservation
from .books import new_id, open_books
from .directory import publisher_exists
from .idempotency import Answer, answered, forget, once, remember
from .journal import Account, AccountKind, PostingKind, transfer
from .tables import balances
from .verification import HOUR_S

RELEASE_DELAY_S = PROOF_AGE_S_MAX + HOUR_S
"""What an hour's tickets did not use goes back when their proofs are too old anyway, and an hour for clocks apart."""
HOURS_AHEAD_MAX = 48
"""A reservation further ahead is a mistake: tickets live for minutes."""
RESERVATION_ANSWERS_KEPT_S = 7 * 86_400
"""A scheduler repeats a reservation for minutes, not for days; deposits' answers are kept for good."""
RELEASES_PER_SWEEP = 1000
"""Hours that are released in one transaction; batches wait meanwhile."""
_RESERVATION = "reservation"


@dataclass(frozen=True, slots=True)
class NewDeposit:
    publisher: Annotated[str, word()]
    micro_points: Annotated[int, integer(1)]


class Escrow:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("POST", "/v1/deposits", self.post_deposit, Role.OPERATOR)
        api.add("POST", "/v1/link/reservations", self.post_reservation, Role.LINK)

    async def post_deposit(self, request: web.Request) -> web.Response:
        deposit = await record_body(request, NewDeposit)
        asked = once(request, f"deposit:{principal(request).account}", encode(deposit))
        mint, escrow = Account(AccountKind.MINT, deposit.publisher), Account(AccountKind.ESCROW, deposit.publisher)
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            if earlier := await answered(connection, asked):
                return earlier.response()
            await publisher_exists(connection, deposit.publisher)
            minted = select(func.sum(balances.c.micro_points)).where(balances.c.kind == AccountKind.MINT.value)
            total = -int((await connection.execute(minted)).scalar_one() or 0)
            if total + deposit.micro_points > INTEGER_MAX:
                raise refusal(409, "too-many-points", "All points together must stay below 2^53 µp")
            await books.load([mint, escrow])
            deposit_id = new_id(self._clock)
            books.post(transfer(PostingKind.DEPOSIT, deposit_id, mint, escrow, deposit.micro_points))
            answer = Answer(201, {"id": deposit_id, **encode(deposit), "escrow": books.balance(escrow)})
            await books.save()
            await remember(connection, asked, answer, books.now)
        return answer.response()

    async def post_reservation(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, LinkReservation)
        asked = once(request, _RESERVATION, encode(wanted))
        escrow = Account(AccountKind.ESCROW, wanted.publisher)
        reserved = Account(AccountKind.RESERVED, wanted.publisher, wanted.hour)
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            if earlier := await answered(connection, asked):
                return earlier.response()
            if wanted.hour > books.now // HOUR_S + HOURS_AHEAD_MAX:
                raise Malformed(f"hour: at most {HOURS_AHEAD_MAX} hours ahead; it counts hours since 1970")
            await publisher_exists(connection, wanted.publisher)
            await books.load([escrow, reserved])
            granted = 0
            if wanted.hour > _last_released_hour(books.now):
                granted = min(wanted.micro_points, books.balance(escrow))
            if granted:
                books.post(transfer(PostingKind.RESERVATION, asked.key, escrow, reserved, granted))
                await books.save()
            answer = Answer(200, encode(Granted(granted)))
            await remember(connection, asked, answer, books.now)
        return answer.response()

    async def release(self) -> int:
        """Give back what was lent to hours whose tickets can no longer be proven.

        :return: µp that came back.
        """
        released = 0
        while True:
            due = (
                select(balances.c.holder, balances.c.hour)
                .where(balances.c.hour <= _last_released_hour(self._clock.now()))
                .order_by(balances.c.hour)
                .limit(RELEASES_PER_SWEEP)
            )
            async with self._database.read() as connection:
                rows = (await connection.execute(due)).all()
            if not rows:
                return released
            hours = [Account(AccountKind.RESERVED, row.holder, row.hour) for row in rows]
            async with self._database.write() as connection:
                books = await open_books(connection, self._clock)
                await books.load([*hours, *(Account(AccountKind.ESCROW, hour.holder) for hour in hours)])
                for hour in hours:
                    left = books.balance(hour)
                    if left:
                        escrow = Account(AccountKind.ESCROW, hour.holder)
                        books.post(transfer(PostingKind.RELEASE, hour.name, hour, escrow, left))
                        released += left
                await books.save()
                # Closed accounts stand at zero for good; their entries stay.
                names = [hour.name for hour in hours]
                await connection.execute(delete(balances).where(balances.c.account.in_(names)))
                await forget(connection, _RESERVATION, books.now - RESERVATION_ANSWERS_KEPT_S)


def _last_released_hour(now: int) -> int:
    return (now - RELEASE_DELAY_S) // HOUR_S - 1
