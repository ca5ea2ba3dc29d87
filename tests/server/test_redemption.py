"""Rewards: points are spent once, codes are given once, and an unknown outcome stays unknown until someone knows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ledger_world import DEVICE, OPERATOR, OTHER, OWNER, PUBLISHER, World, in_world

GIB = 2**30
POINT = 1_000_000


async def earn(world: World, points: int) -> None:
    size = points * GIB
    ack = await world.prove(world.item(world.ticket(max_bytes=size), confirmed=size, claimed=size))
    assert ack.items[0].micro_points == points * POINT


async def reward(world: World, points: int = 1, **changes: Any) -> str:
    body = {"title": "A month of music", "micro_points": points * POINT, **changes}
    return str((await world.good("POST", "/v1/rewards", OPERATOR, body))["id"])


async def balances(world: World) -> tuple[int, int, int]:
    found = await world.account(OWNER)
    return tuple(found[name] // POINT for name in ("vested", "redeeming", "redeemed"))  # type: ignore[return-value]


def test_a_redemption_waits_for_the_operator(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 5)
        wanted = await reward(world, 2, stock=1)
        made = await world.good("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once="k")
        assert (made["state"], made["micro_points"]) == ("reserved", 2 * POINT)
        assert await balances(world) == (3, 2, 0)
        assert (await world.good("GET", "/v1/rewards"))[0]["stock"] == 0
        path = f"/v1/redemptions/{made['id']}"
        assert await world.good("GET", path, OWNER) == await world.good("GET", path, DEVICE)
        unknown = await world.good("POST", f"{path}/resolution", OPERATOR, {"outcome": "unknown"})
        assert (unknown["state"], await balances(world)) == ("unknown", (3, 2, 0))
        world.clock.time += 365 * 86_400
        await world.service.sweep()
        assert (await world.good("GET", path, OWNER))["state"] == "unknown"
        await world.good("POST", f"{path}/resolution", OPERATOR, {"outcome": "fulfilled"})
        assert await balances(world) == (3, 0, 2)
        await world.reconciled()

    in_world(tmp_path, script)


def test_voided_points_and_stock_come_back_once(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 2)
        wanted = await reward(world, 2, stock=1)
        made = await world.good("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once="k")
        path = f"/v1/redemptions/{made['id']}/resolution"
        answers = await asyncio.gather(*(world.call("POST", path, OPERATOR, {"outcome": "voided"}) for _ in range(8)))
        assert {answer.status for answer in answers} == {200}
        assert await balances(world) == (2, 0, 0)
        assert (await world.good("GET", "/v1/rewards"))[0]["stock"] == 1
        for outcome in ("fulfilled", "unknown"):
            late = await world.call("POST", path, OPERATOR, {"outcome": outcome})
            assert (late.status, late.type) == (409, "already-resolved")
        await world.reconciled()

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_contradicting_resolutions_at_once_take_one_way(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 2)
        made = await world.good("POST", "/v1/redemptions", OWNER, {"reward": await reward(world, 2)}, once="k")
        path = f"/v1/redemptions/{made['id']}/resolution"
        outcomes = ["fulfilled", "voided"] * 5
        answers = await asyncio.gather(*(world.call("POST", path, OPERATOR, {"outcome": o}) for o in outcomes))
        assert sorted({answer.status for answer in answers}) == [200, 409]
        assert await balances(world) in ((2, 0, 0), (0, 0, 2))
        await world.reconciled()

    in_world(tmp_path, script)


def test_the_same_key_redeems_once_and_answers_the_same(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 5)
        wanted, other = await reward(world), await reward(world, codes=["voucher"])
        copies = [world.call("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once="k") for _ in range(20)]
        answers = await asyncio.gather(*copies)
        assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
        assert await balances(world) == (4, 1, 0)
        reused = await world.call("POST", "/v1/redemptions", OWNER, {"reward": other}, once="k")
        assert (reused.status, reused.type) == (422, "idempotency-key-reused")
        # The owner's phone and the owner's device share the account, so they share its keys.
        again = await world.call("POST", "/v1/redemptions", DEVICE, {"reward": wanted}, once="k")
        assert again.body == answers[0].body
        await world.good(
            "POST", f"/v1/redemptions/{answers[0].json()['id']}/resolution", OPERATOR, {"outcome": "voided"}
        )
        await world.restart()
        assert (await world.call("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once="k")).body == answers[
            0
        ].body
        for bad in ("", "a b", "x" * 129, "é"):
            answer = await world.call("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once=bad)
            assert (answer.status, answer.type) == (400, "idempotency-key-needed")

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_many_at_once_never_overspend(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 7)
        wanted = await reward(world, 2)
        calls = [world.call("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once=f"k{n}") for n in range(30)]
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status for answer in answers) == [201] * 3 + [409] * 27
        assert {answer.type for answer in answers if answer.status == 409} == {"not-enough-points"}
        assert await balances(world) == (1, 6, 0)
        await world.reconciled()

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_many_at_once_never_get_the_same_code_or_more_than_there_are(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 30)
        codes = [f"VOUCHER-{n}" for n in range(8)]
        wanted = await reward(world, 1, codes=codes)
        calls = [world.call("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once=f"k{n}") for n in range(25)]
        answers = await asyncio.gather(*calls)
        given = [answer.json() for answer in answers if answer.status == 201]
        assert sorted(one["code"] for one in given) == codes
        assert {one["state"] for one in given} == {"fulfilled"}
        assert {answer.type for answer in answers if answer.status != 201} == {"out-of-stock"}
        assert await balances(world) == (22, 0, 8)
        shown = await world.call("GET", "/v1/rewards")
        assert shown.json() == [{"id": wanted, "title": "A month of music", "micro_points": POINT, "stock": 0}]
        assert b"VOUCHER" not in shown.body
        voided = await world.call(
            "POST", f"/v1/redemptions/{given[0]['id']}/resolution", OPERATOR, {"outcome": "voided"}
        )
        assert voided.type == "already-resolved"  # the code is out
        await world.reconciled()

    in_world(tmp_path, script)


def test_held_points_cannot_be_redeemed_before_their_time(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 2)
        wanted = await reward(world, 1)
        world.clock.time += 14 * 86_400 - 1
        await world.service.sweep()
        early = await world.call("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once="k")
        assert (early.status, early.type) == (409, "not-enough-points")
        assert (await world.account(OWNER))["held"] == 2 * POINT
        await world.reconciled()
        world.clock.time += 1
        await asyncio.gather(*(world.service.sweep() for _ in range(5)))
        assert (await world.account(OWNER))["held"] == 0
        made = await world.good(
            "POST", "/v1/redemptions", OWNER, {"reward": wanted}, once="k"
        )  # refusals use up no key
        assert made["state"] == "reserved"
        await world.reconciled()

    in_world(tmp_path, script, hold_s=14 * 86_400)


def test_redemptions_are_their_owners(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await earn(world, 3)
        wanted = await reward(world, 1)
        ids = [
            (await world.good("POST", "/v1/redemptions", OWNER, {"reward": wanted}, once=str(n)))["id"]
            for n in range(3)
        ]
        path = f"/v1/redemptions/{ids[0]}"
        assert (await world.call("GET", path, OTHER)).status == 404
        assert await world.good("GET", "/v1/redemptions", OTHER) == []
        for token in (OWNER, DEVICE, OPERATOR):
            assert sorted(one["id"] for one in await world.good("GET", "/v1/redemptions", token)) == sorted(ids)
        seen: list[str] = []
        while page := await world.good("GET", f"/v1/redemptions?limit=2&after={seen[-1] if seen else ''}", OWNER):
            seen += [one["id"] for one in page]
        assert seen == sorted(ids)
        for token, status in ((PUBLISHER, 403), (OWNER, 403), (DEVICE, 403), (None, 401)):
            answer = await world.call("POST", f"{path}/resolution", token, {"outcome": "fulfilled"})
            assert answer.status == status

    in_world(tmp_path, script)


@pytest.mark.parametrize(
    "body",
    [
        {"title": "", "micro_points": 1},
        {"title": "x", "micro_points": 0},
        {"title": "x", "micro_points": -1},
        {"title": "x", "micro_points": 1.0},
        {"title": "x" * 129, "micro_points": 1},
        {"title": "x", "micro_points": 1, "codes": []},
        {"title": "x", "micro_points": 1, "codes": ["a", "a"]},
        {"title": "x", "micro_points": 1, "codes": ["a"], "stock": 5},
        {"title": "x", "micro_points": 1, "stock": -1},
    ],
)
def test_rewards_that_make_no_sense_are_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async def script(world: World) -> None:
        answer = await world.call("POST", "/v1/rewards", OPERATOR, body)
        assert (answer.status, answer.type) == (400, "malformed")
        assert await world.good("GET", "/v1/rewards") == []

    in_world(tmp_path, script)


def test_what_is_not_there_cannot_be_redeemed(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        from support import new_jti

        for reward_id, status in ((new_jti(), 404), ("x", 400), (None, 400)):
            answer = await world.call("POST", "/v1/redemptions", OWNER, {"reward": reward_id}, once="k")
            assert answer.status == status
        assert (await world.call("GET", "/v1/redemptions/x", OWNER)).status == 404

    in_world(tmp_path, script)
