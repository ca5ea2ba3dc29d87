"""A crowd's object is spread at once over devices that hold it in part; turns and help at the origin."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections import Counter
from pathlib import Path

import pytest
from delivery_harness import HandDevice, Harness, run, until
from fallow_server.delivery import crowds
from fallow_server.delivery.config import Config
from fallow_server.delivery.crowds import HEAT_OBJECTS_MAX, HEAT_S, Heat, holders_wanted
from fallow_server.delivery.router import ticket_bytes
from fallow_server.delivery.stripes import COVER, Stripes
from fallow_server.delivery.turns import AT_ONCE, HELPS_AT_ONCE, Busy, Turns
from fallow_server.scheduling.hashing import LOAD_FACTOR
from fallow_wire.fields import decode, encode
from fallow_wire.plans import Plan, first_chunk
from fallow_wire.session import Task
from fallow_wire.tickets import verify_ticket
from support import key

MIB = 2**20
JWK = encode(key(77).public.jwk())


def test_heat_fades_and_is_bounded() -> None:
    heat = Heat()
    for _ in range(8):
        heat.note("hot", 0.0)
    assert heat.of("hot", 0.0) == 8
    assert heat.of("hot", HEAT_S) == pytest.approx(4)
    for number in range(HEAT_OBJECTS_MAX):
        heat.note(str(number), 1.0)
    assert heat.of("hot", 1.0) == 0


def test_two_requests_are_no_crowd_and_many_want_a_device_for_each_two() -> None:
    assert [holders_wanted(heat, whole=0) for heat in (0, 2.9, 3, 60, 10_000)] == [0, 0, 16, 30, 64]
    assert [holders_wanted(heat, whole=2) for heat in (0, 3, 4, 60)] == [0, 1, 2, 30]


def test_tickets_of_many_sources_allow_four_objects_together() -> None:
    assert ticket_bytes(27 * MIB, 4) == 27 * MIB
    assert ticket_bytes(27 * MIB, 16) == 7 * MIB
    assert ticket_bytes(MIB // 2, 16) == MIB // 2


def test_consumers_begin_at_the_same_chunk_of_a_device_and_at_others_of_others() -> None:
    starts = [first_chunk("a" * 64, f"fd-{number}", 26) for number in range(100)]
    assert starts == [first_chunk("a" * 64, f"fd-{number}", 26) for number in range(100)]
    assert set(starts) <= set(range(26))
    assert len(set(starts)) > 20
    assert first_chunk("a" * 64, "fd-1", 0) == 0


def test_each_chunk_has_three_devices_and_more_only_where_several_begin_with_the_same() -> None:
    for chunks, devices in ((26, 16), (26, 20), (1000, 7), (3, 6), (26, 4), (1, 30)):
        stripes = Stripes()
        for number in range(devices):
            stripes.add(f"fd-{number}")
        held = Counter(
            (stripe.first + step) % chunks for stripe in stripes.of(chunks).values() for step in range(stripe.chunks)
        )
        assert min(held[chunk] for chunk in range(chunks)) >= min(COVER, devices)
        assert sum(held.values()) <= COVER * chunks + devices


def test_who_comes_takes_the_place_of_who_left_and_the_others_keep_theirs() -> None:
    stripes = Stripes()
    for number in range(20):
        stripes.add(f"fd-{number}")
    before = stripes.of(260)
    stripes.discard("fd-3")
    without = stripes.of(260)
    assert {one: stripe.first for one, stripe in without.items()} == {
        one: stripe.first for one, stripe in before.items() if one != "fd-3"
    }
    assert sum(before[one] != stripe for one, stripe in without.items()) == COVER
    stripes.add("fd-new")
    assert stripes.of(260)["fd-new"] == before["fd-3"]
    assert len(stripes) == 20


async def plan_of(server: Harness, object_id: str) -> Plan:
    answer = await server.call("POST", "/v1/plans", who=None, json={"object": object_id, "jwk": JWK}, status=200)
    return decode(Plan, answer.json(), strict=True)


async def answer_pull(device: HandDevice) -> Task:
    """As an agent does: take the task, and say that the object is held in part."""
    while not any(isinstance(message, Task) for message in device.received):
        device.heard.clear()
        await device.heard.wait()
    task = next(message for message in device.received if isinstance(message, Task))
    assert task.object is not None
    await device.holds_in_part(task.object)
    return task


def test_the_third_consumer_finds_devices_that_the_first_two_did_not_have(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(3 * MIB), "film.mp4", more="&replicas=0")
        devices = [await server.device(number) for number in range(1, 7)]
        paused = await server.device(9, state="paused")
        for _ in range(2):
            plan = await plan_of(server, object_id)
            assert (plan.sources, plan.origin) == ((), f"{server.url}/o/{object_id}/film.mp4?source=origin")
        answering = [asyncio.create_task(answer_pull(device)) for device in devices]
        plan = await plan_of(server, object_id)
        tasks = await asyncio.gather(*answering)
        assert {source.device_id for source in plan.sources} == {device.id for device in devices}
        assert plan.origin.endswith("?source=origin&help=1")
        for task in tasks:
            assert (task.kind, task.object) == ("pull", object_id)
            assert [source.url for source in task.sources] == [
                f"{server.url}/o/{object_id}/film.mp4?source=origin&turn=1"
            ]
        starts = [source.stripe for source in plan.sources if source.stripe is not None]
        assert (len(starts), {stripe.first for stripe in starts}) == (6, {0, 1, 2})
        ticket = verify_ticket(plan.sources[0].ticket, server.keys.public_keys().get).value
        assert (ticket.odds, ticket.max_bytes) == (167, 2 * MIB)
        # The same devices serve the next one, and are not asked twice; a redirect is for whole copies.
        assert len((await plan_of(server, object_id)).sources) == 6
        assert all(len(device.received) == 1 for device in devices)
        assert paused.received == []
        await server.call("GET", f"/o/{object_id}/film.mp4", who=None, status=200)
        # What was dropped, or left, is named no more.
        await devices[0].holds_in_part()
        await devices[1].leave()
        assert {one.device_id for one in (await plan_of(server, object_id)).sources} == {one.id for one in devices[2:]}

    run(tmp_path / "state", script)


def test_crowds_are_shared_among_devices_by_consistent_hashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Harness) -> None:
        monkeypatch.setattr(crowds, "HOLDERS_MIN", 3)
        devices = [await server.device(number) for number in range(1, 7)]
        for number in range(6):
            object_id = await server.publish(os.urandom(MIB) + bytes([number]), f"{number}.bin", more="&replicas=0")
            for _ in range(3):
                await plan_of(server, object_id)
        named = [sum(isinstance(message, Task) for message in device.received) for device in devices]
        assert sum(named) == 18
        assert max(named) <= math.ceil(LOAD_FACTOR * 18 / 6)

    run(tmp_path / "state", script)


def test_a_plan_does_not_wait_for_devices_that_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Harness) -> None:
        monkeypatch.setattr(crowds, "CONFIRM_S_MAX", 0.01)
        object_id = await server.publish(os.urandom(MIB), more="&replicas=0")
        silent, deaf = await server.device(1), await server.device(2)
        deaf.deaf = True
        for _ in range(5):
            assert (await plan_of(server, object_id)).sources == ()
        assert len(silent.received) == 1

    run(tmp_path / "state", script)


def test_a_plan_does_not_wait_for_a_device_that_takes_no_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(server: Harness) -> None:
        monkeypatch.setattr(crowds, "CONFIRM_S_MAX", 0.01)
        object_id = await server.publish(os.urandom(MIB), more="&replicas=0")
        full = await server.device(1)
        assert full.live is not None
        asked, never = asyncio.Event(), asyncio.Event()

        async def send(message: object) -> None:
            asked.set()
            await never.wait()

        monkeypatch.setattr(type(full.live), "send", lambda live, message: send(message))
        for _ in range(3):
            assert (await plan_of(server, object_id)).sources == ()
        await asked.wait()

    run(tmp_path / "state", script)


def test_what_was_named_and_never_answered_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Harness) -> None:
        monkeypatch.setattr(crowds, "CONFIRM_S_MAX", 0.01)
        first = await server.publish(os.urandom(MIB), more="&replicas=0")
        second = await server.publish(os.urandom(MIB), more="&replicas=0")
        crowd = server.delivery.router.crowds
        for _ in range(3):
            await plan_of(server, first)
        assert crowd._named == {}, "there is no device"
        device = await server.device(1)
        await plan_of(server, first)
        assert crowd._named.keys() == {first}
        server.clock.seconds += 1000
        await device.beat()
        for _ in range(3):
            await plan_of(server, second)
        assert crowd._named.keys() == {second}

    run(tmp_path / "state", script)


def test_one_address_has_a_few_objects_spread_and_then_the_origin_serves(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = [await server.device(number) for number in range(1, 3)]

        async def spread(number: int) -> bool:
            """Whether the third request for a new object has devices asked to hold it."""
            object_id = await server.publish(os.urandom(1000) + bytes([number]), f"{number}.bin", more="&replicas=0")
            before = len(devices[0].received) + len(devices[1].received)
            for _ in range(4):
                await plan_of(server, object_id)
            return len(devices[0].received) + len(devices[1].received) > before

        assert [await spread(number) for number in range(4)] == [True, True, False, False]
        server.clock.seconds += 10
        for device in devices:
            await device.beat()
        assert [await spread(number) for number in range(4, 6)] == [True, False]

    run(tmp_path / "state", script, delivery=Config(consumer_crowds_burst=2, consumer_crowds_per_s=0.1))


def test_all_crowds_together_name_so_many_devices_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "NAMINGS_BURST", 1)
    monkeypatch.setattr(crowds, "CONFIRM_S_MAX", 0.01)

    async def script(server: Harness) -> None:
        device = await server.device(1)
        for number in range(2):
            object_id = await server.publish(os.urandom(1000), f"{number}.bin", more="&replicas=0")
            for _ in range(3):
                await plan_of(server, object_id)
            assert len(device.received) == 1

    run(tmp_path / "state", script)


def test_devices_take_turns_and_consumers_get_no_help_while_they_wait() -> None:
    async def script() -> None:
        turns, order, go = Turns(), [], asyncio.Event()

        async def pull(number: int) -> None:
            async with turns.turn("o"):
                order.append(number)
                await go.wait()

        with turns.help("o"):
            pulling = [asyncio.create_task(pull(number)) for number in range(AT_ONCE + 2)]
            await asyncio.sleep(0)
            while len(order) < AT_ONCE:  # noqa: ASYNC110 - one step of the loop at a time
                await asyncio.sleep(0)
        assert order == list(range(AT_ONCE))
        with pytest.raises(Busy), turns.help("o"):
            pass
        with turns.help("another"):
            assert len(turns) == 2
        go.set()
        await asyncio.gather(*pulling)
        assert order == list(range(AT_ONCE + 2))
        assert len(turns) == 0
        helps = [turns.help("o") for _ in range(HELPS_AT_ONCE)]
        for one in helps:
            one.__enter__()
        with pytest.raises(Busy), turns.help("o"):
            pass
        for one in helps:
            one.__exit__(None, None, None)
        assert len(turns) == 0

    asyncio.run(script())


def test_who_takes_long_makes_room() -> None:
    async def script() -> None:
        turns, go = Turns(at_once=1, slow_s=0.0), asyncio.Event()

        async def slow() -> None:
            async with turns.turn("o"):
                await go.wait()

        first = asyncio.create_task(slow())
        async with turns.turn("o"):  # it comes only when the first has made room
            go.set()
        await first
        async with turns.turn("o"):
            assert len(turns) == 1

    asyncio.run(script())


def helps(turns: Turns) -> bool:
    try:
        with turns.help("o"):
            return True
    except Busy:
        return False


def test_who_takes_long_keeps_consumers_from_no_help() -> None:
    async def script() -> None:
        turns = Turns(slow_s=0.0)
        async with turns.turn("o"):
            assert not helps(turns)
            while not helps(turns):  # noqa: ASYNC110 - one step of the loop at a time
                await asyncio.sleep(0)
            async with turns.turn("o"):  # another that has just begun counts
                assert not helps(turns)
        assert len(turns) == 0

    asyncio.run(script())


def test_the_origin_helps_and_serves_in_turn(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        data = os.urandom(2 * MIB)
        object_id = await server.publish(data)
        for flag in ("help=1", "turn=1"):
            answer = await server.call("GET", f"/o/{object_id}/x?source=origin&{flag}", who=None, status=200)
            assert answer.body == data
        turns = server.delivery._transfer._turns
        async with turns.turn(object_id):
            answer = await server.call("GET", f"/o/{object_id}/x?source=origin&help=1", who=None, status=503)
            assert answer.json()["type"] == "origin-busy"
            assert answer.headers["Retry-After"] == "2"
            assert (await server.call("GET", f"/o/{object_id}/x?source=origin", who=None, status=200)).body == data

    run(tmp_path / "state", script)


def test_one_address_does_not_fill_the_queue_of_devices(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(MIB))
        path = f"/o/{object_id}/x?source=origin&turn=1"
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(AT_ONCE):
                await stack.enter_async_context(server.delivery._transfer._turns.turn(object_id))
            waits = asyncio.create_task(server.call("GET", path, who=None, status=200))
            await until(lambda: bool(server.delivery._transfer._waiting))
            refused = await server.call("GET", path, who=None)
            assert (refused.status, refused.problem) == (429, "too-many")
        assert len((await waits).body) == MIB
        await server.call("GET", path, who=None, status=200)

    run(tmp_path / "state", script, delivery=Config(transfers_per_consumer_max=1))
