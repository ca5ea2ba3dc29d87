"""One in each turn of the loop."""

from __future__ import annotations

import asyncio

from fallow_server.fleet.turnstile import Turnstile


def test_one_goes_through_in_a_turn_in_the_order_in_which_they_came() -> None:
    async def run() -> None:
        turnstile, turn, through = Turnstile(), 0, list[tuple[int, int]]()

        async def count() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        async def one(number: int) -> None:
            await turnstile.through()
            through.append((number, turn))

        counting = asyncio.create_task(count())
        await asyncio.gather(*map(one, range(20)))
        counting.cancel()
        assert [number for number, _ in through] == list(range(20))
        turns = [turn for _, turn in through]
        assert len(set(turns)) == 20, "each has a turn of its own"

    asyncio.run(run())


def test_who_is_cancelled_stands_in_nobodys_way() -> None:
    async def run() -> None:
        turnstile = Turnstile()
        waiting = [asyncio.create_task(turnstile.through()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        async with asyncio.timeout(10):
            await waiting[2]

    asyncio.run(run())
