"""How much of its time online consumers could reach a device, and what the ledger makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from delivery_harness import Harness, run
from fallow_server.ledger.counterfactuals import REACH_MIN, counterfactuals, not_told
from fallow_server.scheduling.reached import ASKED_MIN, FORGOTTEN_S, ONLINE_S_MIN, Reached
from fallow_wire.jws import Kind, parse, split
from fallow_wire.tariff import GIB, Factors, LegacyCaps, Tariff
from fallow_wire.tickets import Ticket
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import OWNER, World, in_world

V4, V6 = "http://203.0.113.1:32557", "http://[2001:db8::1]:32557"
DAY_S = 86_400
POINT = 1_000_000


def test_time_online_is_reachable_or_not_and_time_away_is_neither() -> None:
    found = Reached()
    assert found.permille("d", 0) is None
    found.online("d", (V4,), 0)
    assert found.permille("d", ONLINE_S_MIN - 1) is None
    found.online("d", (), 7 * 3600)
    found.lost("d", 8 * 3600)
    told = found.permille("d", 8 * 3600)
    assert told == pytest.approx(875, abs=10)
    assert found.permille("d", 20 * 3600) == told
    found.online("d", (V4,), 20 * 3600)
    assert found.permille("d", 20 * 3600 + 30 * DAY_S) == 1000  # what was is forgotten


@given(st.lists(st.tuples(st.integers(1, DAY_S), st.sampled_from([(), (V4,), (V6,), (V4, V6), None])), max_size=30))
def test_it_is_a_share(passed: list[tuple[int, tuple[str, ...] | None]]) -> None:
    found, now = Reached(), 0
    for seconds, urls in passed:
        if urls is None:
            found.lost("d", now)
        else:
            found.online("d", urls, now)
        now += seconds
    told = found.permille("d", now)
    assert told is None or 0 <= told <= 1000
    if all(urls for _, urls in passed) and sum(seconds for seconds, _ in passed) > 2 * ONLINE_S_MIN:
        assert told == 1000


def test_ipv6_alone_reaches_those_who_have_it() -> None:
    found = Reached()
    for number in range(4 * ASKED_MIN):
        found.asked("ipv6" if number % 4 == 0 else "ipv4")
    for device, urls in (("6", (V6,)), ("4", (V4,)), ("both", (V6, V4)), ("name", ("https://home.example:32557",))):
        found.online(device, urls, 0)
    told = {device: found.permille(device, DAY_S) for device in ("6", "4", "both", "name")}
    assert told == {"6": 250, "4": 1000, "both": 1000, "name": 1000}


def test_who_is_away_for_long_is_forgotten() -> None:
    found = Reached()
    found.online("away", (V4,), 0)
    found.online("here", (V4,), 0)
    found.lost("away", DAY_S)
    found.forget(DAY_S + FORGOTTEN_S + 1)
    assert found.permille("away", DAY_S + FORGOTTEN_S + 2) is None
    assert found.permille("here", DAY_S + FORGOTTEN_S + 2) == 1000


def test_tickets_say_it(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 1000)
        device = await server.device(1, object_id)
        path = f"/o/{object_id}/file"

        async def reach() -> int | None:
            answer = await server.call("GET", path, who=None, status=302)
            token = answer.headers["Location"].partition("?ticket=")[2]
            return parse(split(token, Kind.TICKET), Ticket).reach

        assert await reach() is None
        assert device.live is not None
        urls = device.live.service_urls
        await server.fleet.changed_service_urls(device.live, ())
        for reachable in ((), urls):
            await server.fleet.changed_service_urls(device.live, reachable)
            server.clock.seconds += 3600  # type: ignore[attr-defined]
            await device.beat()
        assert await reach() == pytest.approx(500, abs=10)

    run(tmp_path / "state", script)


def test_what_a_reachable_port_would_have_brought(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        tickets = [world.ticket(max_bytes=GIB, reach=reach) for reach in (877, 1000, None, REACH_MIN - 1)]
        await world.prove(*(world.item(ticket, confirmed=GIB, claimed=GIB) for ticket in tickets))

        async def told(ticket: Ticket) -> tuple[list[Any], list[str]]:
            found = await world.good("GET", f"/v1/settlements/{ticket.jti}", OWNER)
            return found["otherwise"], [one["if"] for one in found["not_told"]]

        more = {"if": "reachable-port", "micro_points": POINT * 1000 // 877, "more_permille": 140}
        assert [await told(ticket) for ticket in tickets] == [
            ([more], []),
            ([], []),
            ([], ["reachable-port"]),
            ([], ["reachable-port"]),
        ]

    in_world(tmp_path, script)


@given(st.integers(0, 10 * GIB), st.integers(0, 1000))
def test_being_reached_more_never_brings_less(size: int, reach: int) -> None:
    factors = Factors(size, POINT, 1000, 1000, 1000)
    tariff = Tariff(1, 0, {}, {"countersigned": 1000}, LegacyCaps(0, 0))
    cases = counterfactuals("countersigned", factors, size, tariff, reach)
    assert all(one["micro_points"] > factors.micro_points() for one in cases)
    assert bool(not_told(reach)) == (reach < REACH_MIN)
