"""What an owner earned by day, as the phone app draws it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ledger_world import DEVICE, MIB, OPERATOR, OTHER, OWNER, World, in_world

DAY_S = 86_400


async def days(world: World, query: str = "", token: str = OWNER) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await world.good("GET", f"/v1/accounts/{OWNER}/days{query}", token)
    return found


@pytest.mark.both_databases
def test_days_sum_what_was_booked_and_open_to_deliveries(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        assert world.clock.time % DAY_S // 3600 == 22
        await world.prove(world.item(), world.item())
        world.clock.time += 2 * 3600
        await world.reserve(10**7)
        ticket = world.ticket(max_bytes=7 * MIB)
        await world.prove(world.item(ticket, confirmed=5 * MIB, claimed=6 * MIB))
        newest, oldest = await days(world)
        assert (newest["deliveries"], oldest["deliveries"]) == (1, 2)
        assert newest["day"] > oldest["day"]
        # Two hours west of Greenwich it is one day, and so it is where three hours are still to come.
        for offset in (-120, 180):
            (only,) = await days(world, f"?offset_min={offset}")
            assert only["deliveries"] == 3
            assert only["micro_points"] == newest["micro_points"] + oldest["micro_points"]
        (delivery,) = await world.good("GET", f"/v1/accounts/{OWNER}/days/{newest['day']}", DEVICE)
        assert (delivery["jti"], delivery["bytes"]) == (ticket.jti, 5 * MIB)
        assert delivery["micro_points"] == newest["micro_points"]
        path = f"/v1/accounts/me/days/{oldest['day']}"
        first, second = await world.good("GET", path, OWNER)
        assert await world.good("GET", f"{path}?after={first['seq']}", OWNER) == [second]
        assert await world.good("GET", f"{path}?limit=1", OWNER) == [first]
        assert (await days(world, "?limit=1")) == [newest]

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_what_was_taken_back_stands_beside_what_was_earned(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket(max_bytes=7 * MIB)
        await world.prove(world.item(ticket, confirmed=5 * MIB, claimed=6 * MIB))
        (before,) = await days(world)
        body = {"reason": "a mistake"}
        path = f"/v1/settlements/{ticket.jti}/clawback"
        await world.good("POST", path, OPERATOR, body, headers={"Idempotency-Key": "x"})
        (after,) = await days(world)
        assert after == {**before, "reversed": before["micro_points"]}

    in_world(tmp_path, script, hold_s=DAY_S)


@pytest.mark.both_databases
def test_daily_roots_bound_what_is_looked_through(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.prove(world.item())
        world.clock.time += 4 * DAY_S
        assert await world.service._roots.close_days() == 4
        now = world.clock.time
        await world.reserve(10**7)
        await world.prove(world.item(world.ticket(iat=now, nbf=now, exp=now + 600)))
        assert [one["deliveries"] for one in await days(world)] == [1, 1]
        assert [one["deliveries"] for one in await days(world, "?limit=3")] == [1]

    in_world(tmp_path, script)


def test_what_is_no_day_is_said(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for query in ("?offset_min=841", "?offset_min=-841", "?offset_min=x", "?limit=x", "/today", "/2026-13-01"):
            answer = await world.call("GET", f"/v1/accounts/{OWNER}/days{query}", OWNER)
            assert (answer.status, answer.type) == (400, "malformed"), query
        answer = await world.call("GET", f"/v1/accounts/{OWNER}/days", OTHER)
        assert answer.status in (403, 404)

    in_world(tmp_path, script)
