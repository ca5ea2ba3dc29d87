"""Redemptions: vested points for a reward, exactly once.

A redemption first moves its points from vested to redeeming, in the transaction that takes the piece out of stock. A
code is given there and then, for it lies in the same database. A provider is asked afterwards, by
:mod:`.fulfilment`, from the outbox row that this transaction writes. Any other reward waits for the operator.

``unknown`` says that nobody here knows whether the reward was given. It stays so until the provider or the operator
says, and is never voided on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from fallow_wire.fields import encode, one_of, uuid7
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, principal, record_body, refusal
from .books import Books, new_id, open_books
from .directory import may_see
from .fulfilment import Fulfilment
from .idempotency import Answer, answered, once, remember
from .journal import PostingKind, transfer
from .outward_tables import redemption_outbox, restores, reward_webhooks
from .paging import limit_of
from .resolution import TRANSITIONS, purses, resolve
from .tables import redemptions, reward_codes, rewards

REDEMPTIONS_PER_PAGE_MAX = 500


@dataclass(frozen=True, slots=True)
class NewRedemption:
    reward: Annotated[str, uuid7()]


@dataclass(frozen=True, slots=True)
class Resolution:
    outcome: Annotated[str, one_of("fulfilled", "voided", "unknown")]


class Redemptions:
    """:param fulfilment: is woken when a provider is to be asked."""

    def __init__(self, database: Database, clock: Clock, fulfilment: Fulfilment) -> None:
        self._database = database
        self._clock = clock
        self._fulfilment = fulfilment

    def add_routes(self, api: Api) -> None:
        api.add("POST", "/v1/redemptions", self.post_redemption, Role.OWNER, Role.DEVICE)
        readers = (Role.OWNER, Role.DEVICE, Role.OPERATOR)
        api.add("GET", "/v1/redemptions", self.get_redemptions, *readers)
        api.add("GET", "/v1/redemptions/{id}", self.get_redemption, *readers)
        api.add("POST", "/v1/redemptions/{id}/resolution", self.post_resolution, Role.OPERATOR)

    async def post_redemption(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, NewRedemption)
        owner = principal(request).account
        asked = once(request, f"redemption:{owner}", encode(wanted))
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            if earlier := await answered(connection, asked):
                return earlier.response()
            await _check_reviewed(connection)
            redemption = await self._redeem(connection, books, owner, wanted.reward)
            answer = Answer(201, redemption)
            await books.save()
            await remember(connection, asked, answer, books.now)
        self._fulfilment.wake()
        return answer.response()

    async def _redeem(self, connection: AsyncConnection, books: Books, owner: str, reward_id: str) -> dict[str, Any]:
        offered = select(rewards).where(rewards.c.id == reward_id, rewards.c.withdrawn_at.is_(None))
        reward = (await connection.execute(offered)).one_or_none()
        if reward is None:
            raise refusal(404, "unknown-reward", "There is no such reward", remedy="Read the rewards again.")
        if reward.stock == 0:
            raise refusal(409, "out-of-stock", "This reward is used up", remedy="Choose another reward.")
        vested, redeeming, redeemed = purses(owner)
        await books.load([vested, redeeming, redeemed])
        if books.balance(vested) < reward.micro_points:
            raise refusal(
                409,
                "not-enough-points",
                "There are not enough redeemable points",
                f"{books.balance(vested)} µp are redeemable; the reward costs {reward.micro_points} µp",
                remedy="Earn more, or wait until held points become redeemable.",
            )
        redemption = new_id(self._clock)
        books.post(transfer(PostingKind.REDEMPTION, redemption, vested, redeeming, reward.micro_points))
        code, state = None, "reserved"
        if reward.has_codes:
            code, state = await _take_code(connection, reward_id, redemption), "fulfilled"
            books.post(transfer(PostingKind.FULFILMENT, redemption, redeeming, redeemed, reward.micro_points))
        elif await _has_provider(connection, reward_id):
            order = {"redemption": redemption, "due_at": books.now, "attempts": 0}
            await connection.execute(insert(redemption_outbox), [order])
        if reward.stock is not None:
            await connection.execute(update(rewards).where(rewards.c.id == reward_id).values(stock=rewards.c.stock - 1))
        row = {
            "id": redemption,
            "owner": owner,
            "reward": reward_id,
            "micro_points": reward.micro_points,
            "state": state,
            "code": code,
            "created_at": books.now,
            "changed_at": books.now,
        }
        await connection.execute(insert(redemptions), [row])
        return _shown(row)

    async def get_redemptions(self, request: web.Request) -> web.Response:
        """Oldest first, or with ``order=newest`` newest first; ``after`` is the id of the last one seen."""
        caller, limit = principal(request), limit_of(request, REDEMPTIONS_PER_PAGE_MAX)
        newest = one_of("oldest", "newest")(request.query.get("order", "oldest"), "order", True) == "newest"
        query = select(redemptions).order_by(redemptions.c.id.desc() if newest else redemptions.c.id)
        if after := request.query.get("after"):
            query = query.where(redemptions.c.id < after if newest else redemptions.c.id > after)
        if caller.role is not Role.OPERATOR:
            query = query.where(redemptions.c.owner == caller.account)
        if "state" in request.query:
            query = query.where(redemptions.c.state == one_of(*TRANSITIONS)(request.query["state"], "state", True))
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit))).all()
        return json_response([_shown(row._mapping) for row in rows])

    async def get_redemption(self, request: web.Request) -> web.Response:
        async with self._database.read() as connection:
            row = await _redemption(connection, request)
        if not may_see(principal(request), row.owner):
            raise _no_redemption()
        return json_response(_shown(row._mapping))

    async def post_resolution(self, request: web.Request) -> web.Response:
        outcome = (await record_body(request, Resolution)).outcome
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            row = await _redemption(connection, request)
            if row.state == outcome:
                return json_response(_shown(row._mapping))
            if outcome not in TRANSITIONS[row.state]:
                raise refusal(
                    409,
                    "already-resolved",
                    f"The redemption is {row.state}",
                    f"from {row.state} it cannot become {outcome}",
                )
            order = redemption_outbox.c.redemption == row.id
            ordered = (await connection.execute(select(redemption_outbox).where(order))).one_or_none()
            if row.state == "reserved" and ordered is not None:
                raise refusal(
                    409,
                    "with-provider",
                    "The provider is being asked, and will say",
                    remedy="Wait until it is fulfilled, voided or unknown; an unknown one can be resolved by hand.",
                )
            await resolve(connection, books, row, outcome)
            await books.save()
            await connection.execute(delete(redemption_outbox).where(order))
            row = await _redemption(connection, request)
        return json_response(_shown(row._mapping))


async def _take_code(connection: AsyncConnection, reward: str, redemption: str) -> str:
    free = select(reward_codes.c.code).where(reward_codes.c.reward == reward, reward_codes.c.redemption.is_(None))
    code: str = (await connection.execute(free.order_by(reward_codes.c.code).limit(1))).scalar_one()
    taken = update(reward_codes).where(reward_codes.c.reward == reward, reward_codes.c.code == code)
    await connection.execute(taken.values(redemption=redemption))
    return code


async def _has_provider(connection: AsyncConnection, reward: str) -> bool:
    query = select(reward_webhooks.c.reward).where(reward_webhooks.c.reward == reward)
    return (await connection.execute(query)).one_or_none() is not None


async def _check_reviewed(connection: AsyncConnection) -> None:
    """:raises ApiProblem: 409 after a restore that nobody has looked at: what was redeemed after the backup is not in
    these books, so its points and codes are here once more."""
    waiting = select(restores.c.at).where(restores.c.reviewed_at.is_(None)).limit(1)
    if (await connection.execute(waiting)).one_or_none() is not None:
        raise refusal(
            409,
            "under-review",
            "Redemptions rest until the operator has reviewed the books",
            fault="here",
            remedy="Try again later; no point is lost meanwhile.",
        )


async def _redemption(connection: AsyncConnection, request: web.Request) -> Any:
    query = select(redemptions).where(redemptions.c.id == request.match_info["id"])
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _no_redemption()
    return row


def _no_redemption() -> Exception:
    return refusal(404, "not-found", "There is no such redemption")


def _shown(row: Any) -> dict[str, Any]:
    """:param row: a mapping of the table's columns."""
    return {name: value for name, value in row.items() if value is not None}
