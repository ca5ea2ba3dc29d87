"""Held points: how long, for whom, and how a settlement is reversed while its points are held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fallow_server.ledger.config import LedgerConfig
from fallow_server.ledger.vesting import hold_until
from fallow_wire.journal import EARLY_S, held_parts
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import LINK, OPERATOR, OTHER, OWNER, PUBLISHER, Answer, World, in_world

GIB = 2**30
POINT = 1_000_000
DAY_S = 86_400


def worth(world: World, points: int, **changes: Any) -> Any:
    ticket = world.ticket(max_bytes=points * GIB, **changes)
    return ticket, world.item(ticket, confirmed=points * GIB, claimed=points * GIB)


@given(st.integers(0, 2**53 - 1), st.integers(0, 2**40), st.none() | st.integers(1, 2**40))
def test_the_parts_are_the_whole_and_the_later_one_is_no_larger(amount: int, at: int, late_at: int | None) -> None:
    parts = held_parts(amount, at, late_at)
    assert sum(part for _, part in parts) == amount
    assert all(part > 0 for _, part in parts)
    if late_at is not None and amount > 1:
        (_, first), (_, late) = parts
        assert 0 <= first - late <= 1


def test_half_of_the_first_ninety_days_is_held_longer() -> None:
    config = LedgerConfig("")
    assert (config.hold_s, config.early_hold_s) == (14 * DAY_S, 90 * DAY_S)
    since = 1_700_000_000
    for now, early in ((since, True), (since + EARLY_S - 1, True), (since + EARLY_S, False)):
        late_at = now + 90 * DAY_S if early else None
        assert hold_until(config, now, since) == (now + 14 * DAY_S, late_at)
    assert hold_until(LedgerConfig("", hold_s=0), since, since) == (since, None)
    assert hold_until(LedgerConfig("", hold_s=9, early_hold_s=9), since, since) == (since + 9, None)


@pytest.mark.both_databases
def test_points_mature_in_two_halves_and_leaving_takes_none(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        async def balances() -> tuple[int, int]:
            account = await world.account(OWNER)
            return account["held"], account["vested"]

        start = world.clock.time
        _, item = worth(world, 3)
        await world.prove(item)
        assert await balances() == (3 * POINT, 0)
        await world.bind(world.device, None)  # the owner leaves
        world.clock.time = start + 100
        await world.service.sweep()
        assert await balances() == (3 * POINT // 2, 3 * POINT // 2)
        world.clock.time = start + 500
        await world.service.sweep()
        assert await balances() == (0, 3 * POINT)
        await world.bind(world.device, OWNER)
        world.clock.time = start + EARLY_S
        await world.reserve(10 * POINT)
        _, item = worth(world, 2)
        await world.prove(item)
        world.clock.time += 100
        await world.service.sweep()
        assert await balances() == (0, 5 * POINT)
        await world.reconciled()

    in_world(tmp_path, script, hold_s=100, early_hold_s=500)


async def claw(world: World, jti: str, once: str = "k", token: str = OPERATOR) -> Answer:
    path = f"/v1/settlements/{jti}/clawback"
    return await world.call("POST", path, token, {"reason": "the receipts were forged"}, once=once)


@pytest.mark.both_databases
def test_a_clawback_gives_back_to_the_publisher_what_is_still_held_once(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        start = world.clock.time
        first, item = worth(world, 1)
        second, other = worth(world, 2)
        await world.prove(item, other)
        escrow = (await world.account("publisher-1"))["escrow"]
        answer = await claw(world, first.jti)
        assert (answer.status, answer.json()["micro_points"]) == (201, POINT)
        assert (await claw(world, first.jti)).body == answer.body  # the same call again
        assert (await claw(world, first.jti, "other")).type == "already-reversed"
        assert (await world.account(OWNER))["held"] == 2 * POINT
        world.clock.time = start + 100
        await world.service.sweep()  # half of the second matures
        answer = await claw(world, second.jti, "second")
        assert answer.json()["micro_points"] == POINT
        owner = await world.account(OWNER)
        assert (owner["held"], owner["vested"]) == (0, POINT)
        assert (await world.account("publisher-1"))["escrow"] == escrow + 2 * POINT
        world.clock.time = start + 1000
        await world.service.sweep()
        await world.reconciled()
        assert (await world.account(OWNER))["vested"] == POINT
        kinds = [entry["kind"] for entry in await world.good("GET", f"/v1/accounts/{OWNER}/entries", OWNER)]
        assert kinds == ["settlement", "settlement", "clawback", "vesting", "vesting", "clawback"]
        told = await world.good("GET", f"/v1/settlements/{second.jti}", OWNER)
        assert told["reversed"] == {"micro_points": POINT, "reason": "the receipts were forged", "at": start + 100}
        assert (told["matures_at"], told["late_at"]) == (start + 100, start + 500)

    in_world(tmp_path, script, hold_s=100, early_hold_s=500)


@pytest.mark.parametrize("wait_s", [100, 101, 10_000])
def test_what_has_matured_is_the_owners_even_before_it_is_moved(tmp_path: Path, wait_s: int) -> None:
    async def script(world: World) -> None:
        ticket, item = worth(world, 1)
        await world.prove(item)
        world.clock.time += wait_s
        answer = await claw(world, ticket.jti)
        assert (answer.status, answer.type) == (409, "already-vested")
        assert (await world.account(OWNER))["held"] == POINT
        assert (await claw(world, "01890000-0000-7000-8000-000000000000")).status == 404

    in_world(tmp_path, script, hold_s=100)


def test_only_operators_claw_back(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ticket, item = worth(world, 1)
        await world.prove(item)
        for token in (OWNER, OTHER, PUBLISHER, LINK):
            assert (await claw(world, ticket.jti, token=token)).status == 403
        assert (await world.account(OWNER))["held"] == POINT

    in_world(tmp_path, script, hold_s=100)
