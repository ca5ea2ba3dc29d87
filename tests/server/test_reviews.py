"""What looks made up is put in front of an operator, its owner can read why, and honest days raise no alarm."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from fallow_client.ledger import Ledger
from fallow_server.ledger.reviews import deliveries_of
from fallow_server.ledger.suspicion import Delivery, binomial_tail, unlikely_pairs, unlikely_shares
from fallow_wire.ids import uuid7
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import LINK, MIB, OPERATOR, OTHER, OWNER, PUBLISHER, Chain, World, in_world

DAY_S = 86_400


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0, 1))
def test_the_tail_is_that_of_the_binomial_distribution(at_least: int, trials: int, share: float) -> None:
    at_least = min(at_least, trials)
    exact = math.fsum(
        math.comb(trials, n) * share**n * (1 - share) ** (trials - n) for n in range(at_least, trials + 1)
    )
    assert math.isclose(binomial_tail(at_least, trials, share), exact, rel_tol=1e-6, abs_tol=1e-9)


def honest_day(draw: random.Random, devices: int = 30, consumers: int = 200) -> list[Delivery]:
    """Objects on some devices each, a few of them popular, consumers with favourites, devices of unequal strength."""
    holders = {f"o{n}": draw.sample(range(devices), draw.choice([1, 2, 3, 8])) for n in range(20)}
    strength = [draw.uniform(0.2, 5) for _ in range(devices)]
    found = []
    for consumer in range(consumers):
        favourites = draw.sample(sorted(holders), 3)
        for _ in range(draw.choice([1, 5, 40, 120])):
            name = draw.choice(favourites)
            device = draw.choices(holders[name], [strength[d] for d in holders[name]])[0]
            found.append(Delivery(f"d{device}", f"c{consumer}", name))
    return found


def test_honest_days_raise_no_alarm() -> None:
    for seed in range(20):
        day = honest_day(random.Random(seed))
        assert unlikely_pairs(day) == [], seed


def test_a_consumer_that_keeps_to_its_own_device_is_found() -> None:
    draw = random.Random(3)
    day = honest_day(draw)
    popular = max({one.object_id for one in day}, key=lambda name: len({d.line for d in day if d.object_id == name}))
    own = next(one.line for one in day if one.object_id == popular)
    made_up = [Delivery(own, "cheat", popular)] * 60
    (found,) = unlikely_pairs(day + made_up)
    assert (found.line, found.consumer, found.met, found.tickets) == (own, "cheat", 60, 60)
    assert "60 of its 60" in found.detail()


def test_a_device_that_takes_more_than_the_choice_gives_it_is_found() -> None:
    even = [Delivery(f"d{device}", f"c{n}", "film") for device in range(8) for n in range(device, 400, 8)]
    assert unlikely_shares(even) == []
    found, *_ = unlikely_shares(even + [Delivery("d3", f"fresh{n}", "film") for n in range(200)])
    assert (found.line, found.count, found.deliveries, found.most) == ("d3", 250, 600, 0.25)
    assert unlikely_shares([Delivery("d1", f"c{n}", "rare") for n in range(500)]) == []
    odds = [Delivery(f"d{n % 8}", f"c{n}", "film", 125) for n in range(400)]
    assert unlikely_shares(odds) == []
    (found, *_) = unlikely_shares(odds + [Delivery("d3", f"fresh{n}", "film", 125) for n in range(50)])
    assert (found.line, found.count, found.most) == ("d3", 100, 0.125)


def test_consumers_are_compared_with_those_of_their_region() -> None:
    """Whoever lives near a device meets it more often than the rest of the world, and that is no fraud."""
    draw = random.Random(5)
    world = [Delivery(f"d{draw.randrange(50)}", f"c{draw.randrange(400)}", "film", 20, "all") for _ in range(4000)]
    local = [Delivery(f"local{n % 2}", f"l{draw.randrange(20)}", "film", 500, "DE") for n in range(400)]
    assert unlikely_pairs(world + local) == []
    assert unlikely_shares(world + local) == []
    without = [Delivery(one.line, one.consumer, one.object_id, one.odds) for one in world + local]
    assert unlikely_pairs(without) != []
    made_up = [Delivery("local0", f"fresh{n}", "film", 500, "DE") for n in range(100)]
    assert unlikely_shares([Delivery(d.line, d.consumer, d.object_id, d.odds) for d in world + local + made_up]) == []
    found, *_ = unlikely_shares(world + local + made_up)
    assert (found.line, found.count, found.deliveries, found.most) == ("local0", 300, 500, 0.5)


@pytest.mark.both_databases
def test_of_a_day_with_too_many_deliveries_an_even_sample_is_compared(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        day, number = world.clock.now() // DAY_S, 0
        for _ in range(2):
            tickets = []
            for _ in range(100):
                number += 1
                jti = uuid7(world.clock.now_ms() + number, bytes(9) + bytes([number]))
                tickets.append(world.ticket(jti=jti))
            await world.prove(*map(world.item, tickets))

        async def taken(count_max: int) -> int:
            return len(await world.database.ask(lambda rows: deliveries_of(rows, day, count_max)))

        assert (await taken(1000), await taken(200)) == (200, 200)
        # Last bytes from 1 to 200, of which as many hold as stand below the bound.
        assert (await taken(100), await taken(50), await taken(0)) == (127, 63, 0)

    in_world(tmp_path, script)


def test_a_failed_audit_is_reviewed(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        audit = {
            "device": world.device.id,
            "jti": world.ticket().jti,
            "bytes": 0,
            "agreed": False,
            "reason": "no answer",
        }
        await world.good("POST", "/v1/audits", OPERATOR, audit)
        world.clock.time += 4 * DAY_S
        await world.service.sweep()
        (review,) = await world.good("GET", "/v1/reviews", OWNER)
        assert (review["reason"], review["state"]) == ("failed-audit", "open")
        assert "no answer" in review["detail"]

    in_world(tmp_path, script)


def test_who_claims_more_than_a_canary_got_is_reviewed(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        tickets = [world.ticket(max_bytes=9 * MIB) for _ in range(2)]
        for ticket in tickets:
            found = {"device": world.device.id, "jti": ticket.jti, "bytes": 2 * MIB, "agreed": True}
            await world.good("POST", "/v1/audits", LINK, found)
        honest, forged = tickets
        await world.prove(world.item(honest, confirmed=2 * MIB, claimed=2 * MIB))
        world.clock.time += 1
        assert (await world.good("GET", "/v1/reviews", OWNER)) == []
        await world.prove(world.item(forged, confirmed=3 * MIB, claimed=3 * MIB))
        world.clock.time += 4 * DAY_S
        await world.service.sweep()
        (review,) = await world.good("GET", "/v1/reviews", OWNER)
        assert review["reason"] == "failed-audit"
        assert f"it claimed {3 * MIB} bytes, and {2 * MIB} came" in review["detail"]

    in_world(tmp_path, script)


async def suspicious_day(world: World) -> Chain:
    """Ten consumers meet two devices in equal shares; one meets the second alone."""
    second = Chain(50)
    await world.bind(second, OTHER)

    def item(chain: Chain, consumer: str) -> Any:
        jti = uuid7(world.clock.now_ms(), random.randbytes(10))
        return world.item(world.ticket(chain=chain, sub=consumer, jti=jti), confirmed=MIB)

    for chain in (world.device, second):
        await world.prove(*(item(chain, f"c{n}") for n in range(10) for _ in range(6)), chain=chain)
    await world.prove(*(item(second, "cheat") for _ in range(40)), chain=second)
    return second


def test_a_review_is_made_read_and_upheld(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        device = await suspicious_day(world)
        assert await world.good("GET", "/v1/reviews", OPERATOR) == []
        world.clock.time += 4 * DAY_S
        await world.service.sweep()
        await world.restart()
        await world.service.sweep()  # looks again, and makes nothing twice
        (review,) = await world.good("GET", "/v1/reviews", OPERATOR)
        assert (review["device"], review["owner"], review["state"]) == (device.id, OTHER, "open")
        assert "40 of its 40" in review["detail"]
        assert await world.good("GET", "/v1/reviews", OTHER) == [review]
        assert await world.good("GET", "/v1/reviews", OWNER) == []
        assert await world.good("GET", "/v1/reviews?state=open", OPERATOR) == [review]
        assert await world.good("GET", "/v1/reviews?state=upheld", OPERATOR) == []
        assert (await world.call("GET", "/v1/reviews?state=other", OPERATOR)).status == 400
        held = (await world.account(OTHER))["held"]
        for token in (OTHER, OPERATOR):
            assert await world.good("GET", f"/v1/reviews/{review['id']}", token) == review | {"held": held}
        assert (await world.call("GET", f"/v1/reviews/{review['id']}", OWNER)).status == 404
        path = f"/v1/reviews/{review['id']}/resolution"
        for token in (OWNER, OTHER, PUBLISHER, LINK):
            assert (await world.call("POST", path, token, {"outcome": "upheld"})).status == 403
        before = await world.account(OTHER)
        decided = await world.good("POST", path, OPERATOR, {"outcome": "upheld"})
        assert (decided["state"], decided["micro_points"]) == ("upheld", before["held"])
        assert (await world.account(OTHER))["held"] == 0
        again = await world.good("POST", path, OPERATOR, {"outcome": "upheld"})
        assert again["micro_points"] == 0
        assert (await world.account(OWNER))["held"] == 60 * (1_000_000 // 1024)
        await world.reconciled()

    in_world(tmp_path, script, hold_s=14 * DAY_S)


def test_the_client_decides_and_takes_back(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await suspicious_day(world)
        world.clock.time += 4 * DAY_S
        await world.service.sweep()
        async with Ledger(world.address, OPERATOR) as ledger, Ledger(world.address, OTHER) as owner:
            (review,) = await ledger.reviews("open")
            assert await owner.reviews() == [review]
            held = (await owner.review(review["id"]))["held"]
            (jti,) = {one["ref"] for one in await owner.entries("me", limit=1)}
            taken = await ledger.claw_back(jti, "made up")
            assert taken["micro_points"] > 0
            decided = await ledger.decide_review(review["id"], "upheld")
            assert decided["micro_points"] == held - taken["micro_points"]
            assert await ledger.reviews("open") == []
        await world.reconciled()

    in_world(tmp_path, script, hold_s=14 * DAY_S)


def test_what_is_cleared_stays_so(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await suspicious_day(world)
        world.clock.time += 4 * DAY_S
        await world.service.sweep()
        (review,) = await world.good("GET", "/v1/reviews", OPERATOR)
        path = f"/v1/reviews/{review['id']}/resolution"
        held = (await world.account(OTHER))["held"]
        assert (await world.good("POST", path, OPERATOR, {"outcome": "cleared"}))["state"] == "cleared"
        assert (await world.call("POST", path, OPERATOR, {"outcome": "upheld"})).type == "already-resolved"
        assert (await world.account(OTHER))["held"] == held > 0
        assert (await world.call("POST", "/v1/reviews/x/resolution", OPERATOR, {"outcome": "cleared"})).status == 404

    in_world(tmp_path, script, hold_s=14 * DAY_S)
