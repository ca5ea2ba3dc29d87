"""Rewards, and redemptions: vested points for a reward, exactly once.

A redemption first moves its points from vested to redeeming, in the transaction that takes the piece out of stock.
A reward with codes is fulfilled there and then. Any other waits for the operator, who may say that the outcome is
unknown (a provider did not answer); it stays so until the operator found out, and is never voided on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from fallow_wire.errors import Malformed
from fallow_wire.fields import encode, integer, items, one_of, text, uuid7
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, principal, record_body, refusal
from .books import Books, new_id, open_books
from .directory import may_see
from .idempotency import Answer, answered, once, remember
from .journal import Account, AccountKind, PostingKind, transfer
from .paging import limit_of
from .tables import redemptions, reward_codes, rewards

REWARDS_MAX = 1000
"""The catalogue is read as a whole, by phones too."""
CODES_PER_REWARD_MAX = 10_000
REWARD_BODY_BYTES_MAX = 2 * 1024 * 1024
"""10 000 codes of 128 characters, and room."""
REDEMPTIONS_PER_PAGE_MAX = 500

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "reserved": frozenset({"fulfilled", "voided", "unknown"}),
    "unknown": frozenset({"fulfilled", "voided"}),
    "fulfilled": frozenset(),
    "voided": frozenset(),
}
"""States of a redemption, and what an operator may make of each."""


@dataclass(frozen=True, slots=True)
class NewReward:
    """``codes``: vouchers, each given to one redemption; they are the stock then."""

    title: Annotated[str, text(128, 1)]
    micro_points: Annotated[int, integer(1)]
    stock: Annotated[int | None, integer()] = None
    codes: Annotated[tuple[str, ...] | None, items(text(128, 1), CODES_PER_REWARD_MAX, 1)] = None

    def __post_init__(self) -> None:
        if self.codes is not None and self.stock is not None:
            raise Malformed("stock: leave it out where there are codes; they are counted")
        if self.codes is not None and len(set(self.codes)) != len(self.codes):
            raise Malformed("codes: one of them is there twice")


@dataclass(frozen=True, slots=True)
class NewRedemption:
    reward: Annotated[str, uuid7()]


@dataclass(frozen=True, slots=True)
class Resolution:
    outcome: Annotated[str, one_of("fulfilled", "voided", "unknown")]


class Rewards:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/rewards", self.get_rewards, Role.ANYONE)
        api.add("POST", "/v1/rewards", self.post_reward, Role.OPERATOR, body_bytes_max=REWARD_BODY_BYTES_MAX)
        api.add("POST", "/v1/redemptions", self.post_redemption, Role.OWNER, Role.DEVICE)
        readers = (Role.OWNER, Role.DEVICE, Role.OPERATOR)
        api.add("GET", "/v1/redemptions", self.get_redemptions, *readers)
        api.add("GET", "/v1/redemptions/{id}", self.get_redemption, *readers)
        api.add("POST", "/v1/redemptions/{id}/resolution", self.post_resolution, Role.OPERATOR)

    async def get_rewards(self, request: web.Request) -> web.Response:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(rewards).order_by(rewards.c.id))).all()
        return json_response([_reward_json(row) for row in rows])

    async def post_reward(self, request: web.Request) -> web.Response:
        new = await record_body(request, NewReward)
        row = {
            "id": new_id(self._clock),
            "title": new.title,
            "micro_points": new.micro_points,
            "stock": new.stock if new.codes is None else len(new.codes),
            "has_codes": new.codes is not None,
            "created_at": self._clock.now(),
        }
        async with self._database.write() as connection:
            count = len((await connection.execute(select(rewards.c.id))).all())
            if count >= REWARDS_MAX:
                raise refusal(409, "too-many-rewards", f"There are {REWARDS_MAX} rewards already")
            await connection.execute(insert(rewards), [row])
            if new.codes is not None:
                codes = [{"reward": row["id"], "code": code} for code in new.codes]
                await connection.execute(insert(reward_codes), codes)
        shown = {name: row[name] for name in ("id", "title", "micro_points", "stock") if row[name] is not None}
        return json_response(shown, 201)

    async def post_redemption(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, NewRedemption)
        owner = principal(request).account
        asked = once(request, f"redemption:{owner}", encode(wanted))
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            if earlier := await answered(connection, asked):
                return earlier.response()
            redemption = await self._redeem(connection, books, owner, wanted.reward)
            answer = Answer(201, redemption)
            await books.save()
            await remember(connection, asked, answer, books.now)
        return answer.response()

    async def _redeem(self, connection: AsyncConnection, books: Books, owner: str, reward_id: str) -> dict[str, Any]:
        reward = (await connection.execute(select(rewards).where(rewards.c.id == reward_id))).one_or_none()
        if reward is None:
            raise refusal(404, "unknown-reward", "There is no such reward", remedy="Read the rewards again.")
        if reward.stock == 0:
            raise refusal(409, "out-of-stock", "This reward is used up", remedy="Choose another reward.")
        vested, redeeming, redeemed = _purses(owner)
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
        return {name: value for name, value in row.items() if value is not None}

    async def get_redemptions(self, request: web.Request) -> web.Response:
        """Newest last; ``after`` is the id of the last one seen."""
        caller, limit = principal(request), limit_of(request, REDEMPTIONS_PER_PAGE_MAX)
        query = select(redemptions).where(redemptions.c.id > request.query.get("after", ""))
        if caller.role is not Role.OPERATOR:
            query = query.where(redemptions.c.owner == caller.account)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(redemptions.c.id).limit(limit))).all()
        return json_response([_redemption_json(row) for row in rows])

    async def get_redemption(self, request: web.Request) -> web.Response:
        async with self._database.read() as connection:
            row = await _redemption(connection, request)
        if not may_see(principal(request), row.owner):
            raise _no_redemption()
        return json_response(_redemption_json(row))

    async def post_resolution(self, request: web.Request) -> web.Response:
        outcome = (await record_body(request, Resolution)).outcome
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            row = await _redemption(connection, request)
            if row.state == outcome:
                return json_response(_redemption_json(row))
            if outcome not in TRANSITIONS[row.state]:
                raise refusal(
                    409,
                    "already-resolved",
                    f"The redemption is {row.state}",
                    f"from {row.state} it cannot become {outcome}",
                )
            vested, redeeming, redeemed = _purses(row.owner)
            await books.load([vested, redeeming, redeemed])
            if outcome == "fulfilled":
                books.post(transfer(PostingKind.FULFILMENT, row.id, redeeming, redeemed, row.micro_points))
            elif outcome == "voided":
                books.post(transfer(PostingKind.VOIDING, row.id, redeeming, vested, row.micro_points))
                back = update(rewards).where(rewards.c.id == row.reward, rewards.c.stock.is_not(None))
                await connection.execute(back.values(stock=rewards.c.stock + 1))
            await books.save()
            changed = update(redemptions).where(redemptions.c.id == row.id)
            await connection.execute(changed.values(state=outcome, changed_at=books.now))
            row = await _redemption(connection, request)
        return json_response(_redemption_json(row))


def _purses(owner: str) -> tuple[Account, Account, Account]:
    return (
        Account(AccountKind.VESTED, owner),
        Account(AccountKind.REDEEMING, owner),
        Account(AccountKind.REDEEMED, owner),
    )


async def _take_code(connection: AsyncConnection, reward: str, redemption: str) -> str:
    free = select(reward_codes.c.code).where(reward_codes.c.reward == reward, reward_codes.c.redemption.is_(None))
    code: str = (await connection.execute(free.order_by(reward_codes.c.code).limit(1))).scalar_one()
    taken = update(reward_codes).where(reward_codes.c.reward == reward, reward_codes.c.code == code)
    await connection.execute(taken.values(redemption=redemption))
    return code


async def _redemption(connection: AsyncConnection, request: web.Request) -> Any:
    query = select(redemptions).where(redemptions.c.id == request.match_info["id"])
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _no_redemption()
    return row


def _no_redemption() -> Exception:
    return refusal(404, "not-found", "There is no such redemption")


def _reward_json(row: Any) -> dict[str, Any]:
    shown = {"id": row.id, "title": row.title, "micro_points": row.micro_points}
    return shown if row.stock is None else {**shown, "stock": row.stock}


def _redemption_json(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if value is not None}
