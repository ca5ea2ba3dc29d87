"""Whatever happens to batches on their way, the books end the same: a state machine over a real ledger.

Batches arrive late, twice, in the wrong order or not at all; acks are lost; the ledger is killed at any moment
between two requests or in the middle of a transaction and starts again on the same database.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from fallow_server.ledger import booking
from fallow_wire.batches import BatchItem, batch_hash
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_world import MIB, OTHER, OWNER, Chain, World, world

T = TypeVar("T")
ESCROW = 60_000
"""µp for the hour: enough for some sixty MiB, so that long runs exhaust it."""


class Deliveries(RuleBasedStateMachine):
    """Two devices of two owners. ``sent`` holds every batch that was ever made, ``acks`` the first answer to each."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.made: list[tuple[Chain, str]] = []
        self.acks: dict[str, bytes] = {}
        self.paid: dict[str, int] = {}
        self.owners: dict[str, str] = {}
        self.items: list[tuple[Chain, BatchItem]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        self.world: World = self.run(self.stack.enter_async_context(world(Path(self.directory.name), reserved=ESCROW)))
        other = Chain(40)
        self.run(self.world.bind(other, OTHER))
        self.chains = [self.world.device, other]
        self.owners = {self.world.device.id: OWNER, other.id: OTHER}

    def teardown(self) -> None:
        if self.stack is not None and hasattr(self, "world"):
            self.run(self.finish())
            self.run(self.stack.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.directory.cleanup()

    async def finish(self) -> None:
        """Every device sends what is unacknowledged until it is answered; then everything must add up."""
        for chain, token in self.made:
            await self.deliver_to_world(chain, token)
        await self.check()
        report = await self.world.reconciled()
        assert report["settlements"] == len(self.paid)
        assert report["booked"] == sum(self.paid.values())
        publisher = await self.world.account("publisher-1")
        assert publisher["spent"] == sum(self.paid.values())
        assert publisher["reserved"] == ESCROW - sum(self.paid.values())

    @rule(
        which=st.integers(0, 1),
        sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4),
        repeat=st.integers(0, 5),
    )
    def make_batch(self, which: int, sizes: list[int], repeat: int) -> None:
        """A device seals its next batch; now and then with an item that was in an earlier one."""
        chain = self.chains[which]
        items = [self.world.item(self.world.ticket(chain=chain), confirmed=n * MIB, claimed=n * MIB) for n in sizes]
        self.items += [(chain, item) for item in items]
        mine = [item for owner, item in self.items if owner is chain]
        if repeat == 0:
            items.append(mine[len(mine) // 2])
        token = chain.batch(*items)
        chain.sent(token)
        self.made.append((chain, token))

    @precondition(lambda self: self.made)
    @rule(place=st.integers(0, 50), copies=st.integers(1, 3))
    def deliver(self, place: int, copies: int) -> None:
        """Any batch, in any order, as often as it likes."""
        chain, token = self.made[place % len(self.made)]

        async def many() -> None:
            await asyncio.gather(*(self.deliver_to_world(chain, token) for _ in range(copies)))

        self.run(many())

    async def deliver_to_world(self, chain: Chain, token: str) -> None:
        answer = await self.world.post(token)
        if answer.status == 409:
            assert answer.type == "sequence-gap"  # an earlier one has not arrived yet; there is never a fork
            assert token not in self.acks
            return
        assert answer.status == 200
        assert self.acks.setdefault(token, answer.body) == answer.body
        ack = self.world.ack(answer)
        assert (ack.did, ack.batch) == (chain.id, batch_hash(token))
        for item in ack.items:
            assert item.jti is not None
            assert item.reason in (None, "escrow-exhausted")
            if item.result == "booked":
                assert self.paid.setdefault(item.jti, item.micro_points) == item.micro_points

    @precondition(lambda self: self.made)
    @rule(place=st.integers(0, 50))
    def crash_in_the_transaction(self, place: int) -> None:
        """The process dies after everything was written and before it is committed."""
        _, token = self.made[place % len(self.made)]

        def die(*_: Any, **__: Any) -> str:
            raise RuntimeError("killed")

        real = booking.sign
        booking.sign = die  # type: ignore[assignment]
        try:
            answer = self.run(self.world.post(token))
        finally:
            booking.sign = real
        assert answer.status in (200, 409, 500)
        assert (answer.status == 200) == (token in self.acks)
        self.run(self.world.restart())

    @rule()
    def restart(self) -> None:
        self.run(self.world.restart())

    @invariant()
    def books_add_up(self) -> None:
        if hasattr(self, "world"):
            self.run(self.check())

    async def check(self) -> None:
        for did, owner in self.owners.items():
            vested = (await self.world.account(owner))["vested"]
            settled = [jti for jti in self.paid if self.belongs(jti, did)]
            assert vested == sum(self.paid[jti] for jti in settled)

    def belongs(self, jti: str, did: str) -> bool:
        from fallow_wire.jws import Kind, parse, split
        from fallow_wire.tickets import Ticket

        for chain, item in self.items:
            if parse(split(item.ticket, Kind.TICKET), Ticket).jti == jti:
                return chain.id == did
        return False


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=8, stateful_step_count=15)
