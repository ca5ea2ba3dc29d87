"""Leases of escrow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from delivery_harness import ALICE, HandClock, HandLink
from fallow_server.delivery.config import Config
from fallow_server.delivery.escrow import Escrow


def script(steps: Callable[[Escrow, HandLink, HandClock], Awaitable[None]], escrow: int = 10**9) -> None:
    async def whole() -> None:
        link, clock = HandLink(), HandClock()
        link.escrow[ALICE] = escrow
        under_test = Escrow(Config(ledger_wait_s_max=0.2), link, clock)
        await steps(under_test, link, clock)
        await under_test.close()

    asyncio.run(whole())


def test_tickets_never_promise_more_than_was_lent() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        taken = 0
        for cost in [7, 13, 100, 1, 55] * 200:
            if await escrow.take(ALICE, cost) is not None:
                taken += cost
            assert taken <= sum(granted for _, _, granted in link.reservations) <= 5000
        assert taken > 4900

    script(steps, escrow=5000)


def test_a_burst_waits_for_one_loan_at_a_time() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        taken = await asyncio.gather(*(escrow.take(ALICE, 10) for _ in range(100)))
        assert all(at is not None for at in taken)
        assert len(link.reservations) <= 8

    script(steps)


def test_an_hour_has_its_own_lease() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        first = await escrow.take(ALICE, 10)
        clock.seconds += 3600
        second = await escrow.take(ALICE, 10)
        assert first is not None
        assert second is not None
        assert {hour for _, hour, _ in link.reservations} == {first // 3600, second // 3600}

    script(steps)


def test_a_loan_that_comes_after_its_hour_pays_no_ticket_of_the_next() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        link.gate = asyncio.Event()
        waiting = asyncio.create_task(escrow.take(ALICE, 10))
        await asyncio.sleep(0)
        clock.seconds = (clock.now() // 3600 + 1) * 3600
        link.gate.set()
        at = await waiting
        assert at == clock.now()
        assert link.reservations[-1][1] == at // 3600

    script(steps)


def test_an_empty_escrow_is_not_asked_by_every_consumer() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        assert [await escrow.take(ALICE, 10) for _ in range(20)] == [None] * 20
        assert len(link.reservations) == 1
        assert not await escrow.is_funded(ALICE)
        link.escrow[ALICE] = 1000
        clock.seconds += 16
        assert await escrow.take(ALICE, 10) is not None
        assert await escrow.is_funded(ALICE)

    script(steps, escrow=0)


def test_a_slow_ledger_does_not_hold_a_consumer() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        link.gate = asyncio.Event()
        assert await escrow.take(ALICE, 10) is None
        link.gate.set()
        # The loan that was under way is not lost.
        assert await escrow.take(ALICE, 10) is not None
        assert len(link.reservations) <= 2

    script(steps)


def test_what_costs_nothing_needs_no_escrow() -> None:
    async def steps(escrow: Escrow, link: HandLink, clock: HandClock) -> None:
        assert await escrow.take(ALICE, 0) == clock.now()
        assert link.reservations == []

    script(steps, escrow=0)
