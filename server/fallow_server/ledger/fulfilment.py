"""The provider worker: asks providers about the redemptions in the outbox until each is resolved.

An attempt is counted, and the order leased to this worker, before the request leaves: a process that is killed leaves
an order that looks as if it had been sent, and whoever takes it up next sends the same under the same key. What the
answer changes is one transaction with the order's end. So however often a process dies, the provider hears one key
for each redemption, and each redemption is resolved once; several processes may work on one database.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..background import uninterrupted
from ..clock import Clock
from ..database import Database
from .books import Books, open_books
from .config import RewardsConfig
from .outward_tables import redemption_outbox, reward_webhooks
from .resolution import TRANSITIONS, resolve
from .tables import redemptions, rewards
from .webhook import Fulfilled, Later, Order, Outcome, Voided, Webhook, Webhooks

AT_ONCE_MAX = 16
"""Orders that one worker has out: a provider that hangs holds up no more than these."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Leased:
    order: Order
    webhook: Webhook


class Fulfilment:
    """:meth:`start` and :meth:`close` frame its use; :meth:`run` works until cancelled.

    :param randomness: a number from 0 to 1, so that orders which failed together do not come back together.
    """

    def __init__(
        self,
        config: RewardsConfig,
        database: Database,
        clock: Clock,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._randomness = randomness
        self._webhooks = Webhooks(config.webhook_s_max, config.allow_private_addresses)
        self._noted = asyncio.Event()
        self.contradicted = 0
        """Providers' answers that differ from how a redemption was resolved: for the operator to look at."""

    async def start(self) -> None:
        await self._webhooks.start()

    async def close(self) -> None:
        await self._webhooks.close()

    def wake(self) -> None:
        """An order was written."""
        self._noted.set()

    async def run(self) -> None:
        while True:
            self._noted.clear()
            try:
                while await self.work():
                    pass
            except Exception:  # noqa: BLE001
                # The outermost loop: a database that is away now is there again at one of the next rounds.
                _log.exception("the provider worker failed; it will go on")
            try:
                async with asyncio.timeout(self._config.poll_s):
                    await self._noted.wait()
            except TimeoutError:
                pass

    async def work(self) -> int:
        """Ask about what is due now, some at once. :return: how many were asked."""
        leased = await uninterrupted(self._lease())
        # All are heard out, for what one provider says is not to be lost with another's order.
        ended = await asyncio.gather(*(self._attempt(one) for one in leased), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return len(leased)

    async def _lease(self) -> list[_Leased]:
        now = self._clock.now()
        due = (
            select(redemption_outbox.c.redemption)
            .where(redemption_outbox.c.due_at <= now)
            .order_by(redemption_outbox.c.due_at, redemption_outbox.c.redemption)
            .limit(AT_ONCE_MAX)
        )
        async with self._database.read() as connection:
            if not (await connection.execute(due)).all():
                return []  # most looks find nothing, and need no writer for that
        async with self._database.write() as connection:
            found = (await connection.execute(due.with_for_update(skip_locked=True))).scalars().all()
            leased = {"due_at": now + self._config.lease_s, "attempts": redemption_outbox.c.attempts + 1}
            mine = redemption_outbox.c.redemption.in_(found)
            await connection.execute(update(redemption_outbox).where(mine).values(leased))
            query = (
                select(redemptions, rewards.c.title, reward_webhooks.c.url, reward_webhooks.c.secret)
                .join(rewards, rewards.c.id == redemptions.c.reward)
                .join(reward_webhooks, reward_webhooks.c.reward == redemptions.c.reward)
                .where(redemptions.c.id.in_(found))
            )
            rows = (await connection.execute(query)).all()
        return [
            _Leased(
                Order(
                    "ask" if row.state == "unknown" else "fulfil",
                    row.id,
                    row.reward,
                    row.title,
                    row.owner,
                    row.micro_points,
                    row.created_at,
                ),
                Webhook(row.url, row.secret),
            )
            for row in rows
        ]

    async def _attempt(self, leased: _Leased) -> None:
        outcome = await self._webhooks.ask(leased.webhook, leased.order, self._clock.now())
        await uninterrupted(self.conclude(leased.order.redemption, outcome))

    async def conclude(self, redemption: str, outcome: Outcome) -> None:
        """Write down what a provider said of a redemption."""
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            row = (await connection.execute(select(redemptions).where(redemptions.c.id == redemption))).one()
            order = redemption_outbox.c.redemption == redemption
            if not TRANSITIONS[row.state]:
                self._compare(redemption, row.state, outcome)
                await connection.execute(delete(redemption_outbox).where(order))
            elif isinstance(outcome, Later):
                await self._put_off(connection, books, row, outcome)
            else:
                if isinstance(outcome, Fulfilled):
                    await resolve(connection, books, row, "fulfilled", code=outcome.code)
                else:
                    await resolve(connection, books, row, "voided", reason=outcome.reason)
                await connection.execute(delete(redemption_outbox).where(order))
            await books.save()

    async def _put_off(self, connection: AsyncConnection, books: Books, row: Any, outcome: Later) -> None:
        """Ask again later; after the last attempt the redemption is unknown, and after the last question it waits for
        the operator."""
        config, redemption, state = self._config, row.id, row.state
        order = redemption_outbox.c.redemption == redemption
        attempts = (await connection.execute(select(redemption_outbox.c.attempts).where(order))).scalar_one_or_none()
        if attempts is None:
            return  # another worker, whose lease came after ours, has already ended it
        _log.info("%s is %s after attempt %d: %s", redemption, state, attempts, outcome.reason)
        if state == "reserved" and attempts >= config.fulfil_attempts_max:
            await resolve(connection, books, row, "unknown", reason=outcome.reason)
            _log.warning("%s is unknown: %s", redemption, outcome.reason)
            changed = {"attempts": 0, "due_at": books.now + config.ask_s_min}
        elif state == "unknown" and attempts >= config.ask_attempts_max:
            _log.error("%s stays unknown, the provider does not say: resolve it by hand", redemption)
            await connection.execute(delete(redemption_outbox).where(order))
            return
        else:
            least, most = (
                (config.fulfil_s_min, config.fulfil_s_max)
                if state == "reserved"
                else (config.ask_s_min, config.ask_s_max)
            )
            wait_s = min(most, least * 2 ** min(attempts - 1, 32))
            changed = {"due_at": books.now + max(1, round(wait_s * (0.5 + self._randomness() / 2)))}
            noted = update(redemptions).where(redemptions.c.id == redemption)
            await connection.execute(noted.values(reason=outcome.reason))
        await connection.execute(update(redemption_outbox).where(order).values(changed))

    def _compare(self, redemption: str, state: str, outcome: Outcome) -> None:
        """Resolved meanwhile, by the operator or by an earlier answer: that stands, and a contradiction is said."""
        said = "fulfilled" if isinstance(outcome, Fulfilled) else "voided" if isinstance(outcome, Voided) else state
        if said != state:
            self.contradicted += 1
            _log.error("%s is %s here, and the provider says %s: settle it with the provider", redemption, state, said)
