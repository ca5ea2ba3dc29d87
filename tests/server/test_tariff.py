"""Tariffs: signed, kept as they were, never retroactive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fallow_wire.jws import Kind, verify
from fallow_wire.tariff import DAY_S, GIB, Tariff
from ledger_world import OPERATOR, OWNER, PUBLISHER, World, in_world

NEW: dict[str, Any] = {
    "rates": {"object": 3_000_000, "fill": 1},
    "weights": {"countersigned": 1000},
    "legacy_caps": {"device_day_bytes": 0, "publisher_day_bytes": 0},
}


def test_a_fresh_ledger_has_a_signed_tariff_and_keeps_it(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        current = await world.good("GET", "/v1/tariffs/current")
        tariff = verify(current["tariff"], Kind.TARIFF, Tariff, world.keys.public_keys().get).value
        assert tariff.tariff_id() == current["id"]
        assert (tariff.version, tariff.valid_from) == (1, world.clock.now())
        assert tariff.rates == {"object": 1_000_000, "fill": 250_000, "live": 1_000_000, "probe": 0}
        assert tariff.weights == {"countersigned": 1000, "legacy": 500}
        world.clock.time += 1000
        await world.restart()
        assert await world.good("GET", "/v1/tariffs/current") == current
        assert await world.good("GET", f"/v1/tariffs/{current['id']}") == current
        assert (await world.call("GET", "/v1/tariffs/" + "0" * 64)).status == 404
        assert (await world.call("GET", "/v1/tariffs/x")).status == 400

    in_world(tmp_path, script, populate=False)


def test_tariffs_are_made_for_the_future_only(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        now, first = world.clock.now(), await world.good("GET", "/v1/tariffs/current")
        for valid_from in (0, now - 1, now):
            answer = await world.call("POST", "/v1/tariffs", OPERATOR, {**NEW, "valid_from": valid_from})
            assert (answer.status, answer.type) == (409, "not-prospective")
        second = await world.good("POST", "/v1/tariffs", OPERATOR, {**NEW, "valid_from": now + 100})
        assert second["tariff"]["version"] == 2
        for valid_from in (now + 50, now + 100):  # nothing comes before what was announced already
            answer = await world.call("POST", "/v1/tariffs", OPERATOR, {**NEW, "valid_from": valid_from})
            assert answer.type == "not-prospective"
        world.clock.time += 99
        assert await world.good("GET", "/v1/tariffs/current") == first
        world.clock.time += 1
        assert (await world.good("GET", "/v1/tariffs/current"))["id"] == second["id"]

    in_world(tmp_path, script)


@pytest.mark.parametrize(
    "change",
    [
        {"rates": {"object": -1}},
        {"rates": {"object": 10**12 + 1}},
        {"rates": {"teleport": 1}},
        {"weights": {"legacy": 10_001}},
        {"weights": {"legacy": 0.5}},
        {"legacy_caps": {}},
        {"valid_from": None},
        {"quality": []},
        {"quality": [{"delivered": 0, "permille": 499}]},
        {"quality": [{"delivered": 0, "permille": 1501}]},
        {"scarcity": {"DE": [1000] * 23}},
        {"scarcity": {"DE": [1000] * 23 + [10_001]}},
        {"scarcity": {"de": [1000] * 24}},
    ],
)
def test_tariffs_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async def script(world: World) -> None:
        body = {**NEW, "valid_from": world.clock.now() + 10, **change}
        answer = await world.call("POST", "/v1/tariffs", OPERATOR, body)
        assert (answer.status, answer.type) == (400, "malformed")

    in_world(tmp_path, script)


def test_only_operators_make_tariffs(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for token, status in ((None, 401), ("nobody", 401), (OWNER, 403), (PUBLISHER, 403)):
            body = {**NEW, "valid_from": world.clock.now() + 10}
            assert (await world.call("POST", "/v1/tariffs", token, body)).status == status

    in_world(tmp_path, script)


EVENING = [1000] * 18 + [1500] * 4 + [1000] * 2


def test_other_scarcity_is_published_a_week_ahead(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        now = world.clock.now()
        scarce = {**NEW, "scarcity": {"DE": EVENING}}
        answer = await world.call("POST", "/v1/tariffs", OPERATOR, {**scarce, "valid_from": now + 7 * DAY_S - 1})
        assert (answer.status, answer.type) == (409, "scarcity-too-soon")
        await world.good("POST", "/v1/tariffs", OPERATOR, {**scarce, "valid_from": now + 7 * DAY_S})
        # The same hours may stay at once, and none may be withdrawn at once.
        await world.good("POST", "/v1/tariffs", OPERATOR, {**scarce, "valid_from": now + 7 * DAY_S + 1, "rates": {}})
        world.clock.time += 6 * DAY_S
        answer = await world.call("POST", "/v1/tariffs", OPERATOR, {**NEW, "valid_from": now + 7 * DAY_S + 2})
        assert answer.type == "scarcity-too-soon"

    in_world(tmp_path, script)


def test_scarcity_is_that_of_the_region_and_hour_of_the_ticket(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        begin = (world.clock.now() // DAY_S + 8) * DAY_S
        scarce = {**NEW, "rates": {"object": 1_000_000}, "valid_from": begin, "scarcity": {"DE": EVENING}}
        for default in (None, [2000] * 24):
            if default is not None:
                scarce = {**scarce, "valid_from": begin + 8 * DAY_S, "scarcity": {"DE": EVENING, "*": default}}
            tariff = (await world.good("POST", "/v1/tariffs", OPERATOR, scarce))["id"]
            elsewhere = 1000 if default is None else 2000
            for hour, region, wanted in (
                (17, "DE", 1000),
                (18, "DE", 1500),
                (18, "FR", elsewhere),
                (18, None, elsewhere),
            ):
                world.clock.time = int(scarce["valid_from"]) + hour * 3600
                await world.reserve(10**7)
                ticket = world.ticket(tariff=tariff, region=region, max_bytes=GIB)
                (item,) = (await world.prove(world.item(ticket, confirmed=GIB, claimed=GIB))).items
                assert item.micro_points == wanted * 1000
                shown = await world.good("GET", f"/v1/settlements/{ticket.jti}", OWNER)
                assert shown["factors"]["scarcity"] == wanted
                assert shown.get("region") == region
        await world.reconciled()

    in_world(tmp_path, script)


def test_all_tariffs_are_listed_newest_first(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for later in (10, 20):
            await world.good("POST", "/v1/tariffs", OPERATOR, {**NEW, "valid_from": world.clock.now() + later})
        found = await world.good("GET", "/v1/tariffs")
        assert [one["version"] for one in found] == [3, 2, 1]
        for one in found:
            tariff = verify(one["tariff"], Kind.TARIFF, Tariff, world.keys.public_keys().get).value
            assert (tariff.tariff_id(), tariff.valid_from) == (one["id"], one["valid_from"])
        assert await world.good("GET", "/v1/tariffs?before=3&limit=1") == found[1:2]

    in_world(tmp_path, script)
