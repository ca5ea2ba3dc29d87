"""The catalogue of rewards: what points can be redeemed for, at which price, under which terms, and how many there are.

A reward is fulfilled in one of three ways: by a code of its stock, by a provider that is asked over a webhook, or,
where it has neither, by the operator.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from fallow_wire.encoding import base64url
from fallow_wire.errors import Malformed
from fallow_wire.fields import integer, items, text
from fallow_wire.lan import HTTP_URL
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, record_body, refusal
from .books import new_id
from .config import RewardsConfig
from .outward_tables import reward_webhooks
from .tables import reward_codes, rewards
from .webhook import refusal_of

REWARDS_MAX = 1000
"""The catalogue is read as a whole, by phones too; withdrawn ones count, for redemptions name them."""
CODES_PER_REWARD_MAX = 10_000
REWARD_BODY_BYTES_MAX = 2 * 1024 * 1024
"""10 000 codes of 128 characters, and room."""
TERMS_CHARS_MAX = 2000
"""What is read on a phone before redeeming; longer terms belong behind a link in them."""
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewReward:
    """``codes``: vouchers, each given to one redemption; they are the stock then. ``webhook``: where the
    provider is asked."""

    title: Annotated[str, text(128, 1)]
    micro_points: Annotated[int, integer(1)]
    stock: Annotated[int | None, integer()] = None
    codes: Annotated[tuple[str, ...] | None, items(text(128, 1), CODES_PER_REWARD_MAX, 1)] = None
    webhook: Annotated[str | None, HTTP_URL] = None
    terms: Annotated[str | None, text(TERMS_CHARS_MAX, 1)] = None

    def __post_init__(self) -> None:
        if self.codes is not None and self.stock is not None:
            raise Malformed("stock: leave it out where there are codes; they are counted")
        if self.codes is not None and self.webhook is not None:
            raise Malformed("webhook: a reward has codes or a provider, not both")
        if self.codes is not None and len(set(self.codes)) != len(self.codes):
            raise Malformed("codes: one of them is there twice")


@dataclass(frozen=True, slots=True)
class MoreStock:
    """More of a reward: further ``codes`` where it has codes, else a number."""

    codes: Annotated[tuple[str, ...] | None, items(text(128, 1), CODES_PER_REWARD_MAX, 1)] = None
    more: Annotated[int | None, integer(1)] = None

    def __post_init__(self) -> None:
        if (self.codes is None) == (self.more is None):
            raise Malformed("codes or more: one of them is wanted")


class Rewards:
    def __init__(self, config: RewardsConfig, database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/rewards", self.get_rewards, Role.ANYONE)
        api.add("POST", "/v1/rewards", self.post_reward, Role.OPERATOR, body_bytes_max=REWARD_BODY_BYTES_MAX)
        api.add("DELETE", "/v1/rewards/{id}", self.delete_reward, Role.OPERATOR)
        api.add("POST", "/v1/rewards/{id}/stock", self.post_stock, Role.OPERATOR, body_bytes_max=REWARD_BODY_BYTES_MAX)

    async def get_rewards(self, request: web.Request) -> web.Response:
        offered = select(rewards).where(rewards.c.withdrawn_at.is_(None)).order_by(rewards.c.id)
        async with self._database.read() as connection:
            rows = (await connection.execute(offered)).all()
        return json_response([_shown(row._mapping) for row in rows])

    async def post_reward(self, request: web.Request) -> web.Response:
        new = await record_body(request, NewReward)
        if new.webhook is not None:
            refused = refusal_of(new.webhook, self._config.allow_private_addresses)
            if refused is not None:
                raise refusal(
                    400,
                    "address-refused",
                    "The provider's address is not taken",
                    refused,
                    remedy="Give a public https address, unless the operator allows private addresses.",
                )
        row = {
            "id": new_id(self._clock),
            "title": new.title,
            "micro_points": new.micro_points,
            "stock": new.stock if new.codes is None else len(new.codes),
            "has_codes": new.codes is not None,
            "created_at": self._clock.now(),
            "terms": new.terms,
        }
        shown = _shown(row)
        async with self._database.write() as connection:
            count = (await connection.execute(select(func.count()).select_from(rewards))).scalar_one()
            if count >= REWARDS_MAX:
                raise refusal(409, "too-many-rewards", f"There are {REWARDS_MAX} rewards already")
            await connection.execute(insert(rewards), [row])
            if new.codes is not None:
                codes = [{"reward": row["id"], "code": code} for code in new.codes]
                await connection.execute(insert(reward_codes), codes)
            if new.webhook is not None:
                secret = base64url(secrets.token_bytes(SECRET_BYTES))
                webhook = {"reward": row["id"], "url": new.webhook, "secret": secret}
                await connection.execute(insert(reward_webhooks), [webhook])
                shown |= {"webhook": new.webhook, "webhook_secret": secret}
        return json_response(shown, 201)

    async def delete_reward(self, request: web.Request) -> web.Response:
        """No longer offered. What was redeemed before goes on."""
        async with self._database.write() as connection:
            reward = await _reward(connection, request)
            if reward.withdrawn_at is None:
                gone = update(rewards).where(rewards.c.id == reward.id)
                await connection.execute(gone.values(withdrawn_at=self._clock.now()))
        return web.Response(status=204)

    async def post_stock(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, MoreStock)
        async with self._database.write() as connection:
            reward = await _reward(connection, request)
            if reward.has_codes != (wanted.codes is not None) or reward.stock is None:
                raise refusal(
                    409,
                    "other-stock",
                    "The reward's stock is of another kind",
                    remedy="Give codes to a reward with codes, a number to one that was offered with a number.",
                )
            more = wanted.more or 0
            if wanted.codes is not None:
                await _add_codes(connection, reward.id, wanted.codes)
                more = len(wanted.codes)
            await connection.execute(update(rewards).where(rewards.c.id == reward.id).values(stock=reward.stock + more))
            reward = await _reward(connection, request)
        return json_response(_shown(reward._mapping))


async def _add_codes(connection: AsyncConnection, reward: str, codes: tuple[str, ...]) -> None:
    of_reward = select(reward_codes.c.code).where(reward_codes.c.reward == reward)
    known = set((await connection.execute(of_reward)).scalars())
    if len(set(codes)) != len(codes) or known & set(codes):
        raise refusal(409, "code-known", "One of the codes is there already", remedy="Send only new codes.")
    if len(known) + len(codes) > CODES_PER_REWARD_MAX:
        raise refusal(
            409, "too-many-codes", f"A reward has {CODES_PER_REWARD_MAX} codes at most", remedy="Add another reward."
        )
    await connection.execute(insert(reward_codes), [{"reward": reward, "code": code} for code in codes])


async def _reward(connection: AsyncConnection, request: web.Request) -> Any:
    """The reward that the path names, for whoever writes next: its row is locked where rows can be."""
    query = select(rewards).where(rewards.c.id == request.match_info["id"]).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise refusal(404, "unknown-reward", "There is no such reward", remedy="Read the rewards again.")
    return row


def _shown(row: Any) -> dict[str, Any]:
    names = ("id", "title", "micro_points", "stock", "terms")
    return {name: row[name] for name in names if row[name] is not None}
