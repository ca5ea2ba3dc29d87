"""What a proposed tariff would have paid last week: from stored inputs, to the point, and nothing is written."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from fallow_client.ledger import Ledger
from fallow_server.ledger import tariff_diffs
from fallow_server.ledger.tariffs import FIRST_LEGACY_CAPS, FIRST_QUALITY, FIRST_RATES, FIRST_TRUST, FIRST_WEIGHTS
from fallow_wire.batches import BatchItem
from fallow_wire.fields import encode
from fallow_wire.ids import uuid7
from fallow_wire.tariff import DAY_S, GIB
from ledger_world import DEVICE, LINK, MIB, OPERATOR, OTHER, OWNER, PUBLISHER, Chain, World, in_world

SAME: dict[str, Any] = {
    "valid_from": 0,
    "rates": FIRST_RATES,
    "weights": FIRST_WEIGHTS,
    "legacy_caps": encode(FIRST_LEGACY_CAPS),
    "trust": encode(FIRST_TRUST),
    "quality": encode(FIRST_QUALITY),
}


def item(world: World, chain: Chain, size: int, tier: str = "countersigned", **changes: Any) -> BatchItem:
    jti = uuid7(world.clock.now_ms(), random.randbytes(10))
    legacy: dict[str, Any] = {"consumer": None} if tier == "legacy" else {}
    ticket = world.ticket(chain=chain, jti=jti, max_bytes=GIB, **legacy, **changes)
    return world.item(ticket, confirmed=size, claimed=size)


async def a_week(world: World) -> Chain:
    """Two owners: one countersigned, one legacy too, in Germany."""
    second = Chain(50)
    await world.bind(second, OTHER)
    await world.prove(*(item(world, world.device, n * MIB + 1) for n in range(1, 6)))
    await world.prove(
        item(world, second, 3 * MIB, region="DE"),
        *(item(world, second, 5 * MIB, "legacy") for _ in range(3)),
        chain=second,
    )
    world.clock.time += 3 * 3600
    return second


async def diff(world: World, query: str = "", **changes: Any) -> Any:
    return await world.good("POST", f"/v1/tariffs/diff{query}", OPERATOR, {**SAME, **changes})


def test_the_same_tariff_would_have_paid_the_same(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await a_week(world)
        before = await world.good("GET", "/v1/head")
        found = await diff(world)
        assert found["settlements"] == 9
        assert found["paid"] == found["would"] > 0
        assert [(one["owner"], one["settlements"]) for one in found["owners"]] == [(OTHER, 4), (OWNER, 5)]
        for one in found["owners"]:
            held = await world.account(one["owner"])
            assert one["paid"] == one["would"] == held["vested"]
            assert one["more_permille"] == 0
        assert await world.good("GET", "/v1/head") == before
        assert [one["version"] for one in await world.good("GET", "/v1/tariffs")] == [1]

    in_world(tmp_path, script)


def test_each_factor_of_the_proposal_counts(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await a_week(world)
        paid = {one["owner"]: one["paid"] for one in (await diff(world))["owners"]}

        async def would(**changes: Any) -> dict[str, int]:
            return {one["owner"]: one["would"] for one in (await diff(world, **changes))["owners"]}

        assert (await would(rates={**FIRST_RATES, "object": 0})) == {OWNER: 0, OTHER: 0}
        # A floor for each settlement: up to one µp apart.
        doubled = await would(rates={**FIRST_RATES, "object": 2 * FIRST_RATES["object"]})
        assert all(0 <= doubled[owner] - 2 * paid[owner] <= 5 for owner in paid)
        without = await would(weights={"countersigned": 1000})
        assert without[OWNER] == paid[OWNER]
        assert without[OTHER] == 3 * MIB * FIRST_RATES["object"] // GIB
        scarce = await would(scarcity={"DE": [2000] * 24})
        assert scarce[OWNER] == paid[OWNER]
        assert scarce[OTHER] - paid[OTHER] == pytest.approx(3 * MIB * FIRST_RATES["object"] // GIB, abs=1)
        capped = await diff(world, legacy_caps={"device_day_bytes": 11 * MIB, "publisher_day_bytes": GIB})
        assert capped["capped"] == 1
        lost = capped["owners"][0]["paid"] - capped["owners"][0]["would"]
        assert lost == 5 * MIB * FIRST_RATES["object"] * 50 // GIB // 1000
        assert capped["owners"][0]["less_permille"] == lost * 1000 // paid[OTHER]

    in_world(tmp_path, script)


def test_only_last_week_counts_and_what_was_clawed_back_does_not(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        one, two = item(world, world.device, MIB), item(world, world.device, 2 * MIB)
        ack = await world.prove(one, two)
        world.clock.time += 3600
        path = f"/v1/settlements/{ack.items[0].jti}/clawback"
        await world.good("POST", path, OPERATOR, {"reason": "a test"}, once="reversal")
        assert (await diff(world))["settlements"] == 1
        world.clock.time += 7 * DAY_S
        changed = await diff(world, rates={"object": 1})  # another proposal: the first is kept as it was
        assert (changed["settlements"], changed["owners"]) == (0, [])

    in_world(tmp_path, script, hold_s=14 * DAY_S)


def test_owners_come_in_pages(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await a_week(world)
        whole = await diff(world)
        first = await diff(world, "?limit=1")
        assert (first["owners"], first["next"]) == (whole["owners"][:1], OTHER)
        second = await diff(world, f"?limit=1&after={first['next']}")
        assert second["owners"] == whole["owners"][1:]
        assert "next" not in second
        assert {**second, "owners": 0} == {**whole, "owners": 0}

    in_world(tmp_path, script)


def test_the_client_reads_all_pages_and_publishes_what_it_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tariff_diffs, "OWNERS_PER_PAGE_MAX", 1)

    async def script(world: World) -> None:
        await a_week(world)
        async with Ledger(world.address, OPERATOR) as ledger:
            found = await ledger.tariff_diff(SAME)
            assert [one["owner"] for one in found["owners"]] == [OTHER, OWNER]
            assert sum(one["would"] for one in found["owners"]) == found["would"] == found["paid"]
            await ledger.add_tariff({**SAME, "valid_from": world.clock.now() + 10})
            assert [one["version"] for one in await ledger.tariffs()] == [2, 1]

    in_world(tmp_path, script)


def test_a_large_week_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, going_on = asyncio.Event(), asyncio.Event()

    async def script(world: World) -> None:
        await a_week(world)
        ask = world.database.ask

        async def slow(work: Any) -> Any:
            found = await ask(work)
            if getattr(work, "func", None) is tariff_diffs._page_of:
                reading.set()
                await going_on.wait()
            return found

        monkeypatch.setattr(world.database, "ask", slow)
        monkeypatch.setattr(tariff_diffs, "WAIT_S", 0)
        answer = await world.call("POST", "/v1/tariffs/diff", OPERATOR, SAME)
        assert (answer.status, answer.json()) == (202, {"done_permille": 0})
        assert answer.headers["Retry-After"] == "1"
        await reading.wait()
        other = await world.call("POST", "/v1/tariffs/diff", OPERATOR, {**SAME, "rates": {}})
        assert (other.status, other.type) == (429, "too-many")
        going_on.set()
        monkeypatch.setattr(tariff_diffs, "WAIT_S", 60)
        assert (await diff(world))["settlements"] == 9

    in_world(tmp_path, script)


def test_only_operators_compare(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for token in (OWNER, OTHER, PUBLISHER, LINK, DEVICE):
            assert (await world.call("POST", "/v1/tariffs/diff", token, SAME)).status == 403
        assert (await world.call("POST", "/v1/tariffs/diff", None, SAME)).status == 401
        assert (await world.call("POST", "/v1/tariffs/diff", OPERATOR, {**SAME, "rates": 1})).status == 400

    in_world(tmp_path, script)
