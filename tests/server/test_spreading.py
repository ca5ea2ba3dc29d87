"""Copies follow demand: rounds over a scheduler with devices made by hand."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from delivery_harness import ALICE, HandDevice, Harness, running
from fallow_server.scheduling.costs import PARTS
from fallow_server.scheduling.filters import Config as FilterConfig
from fallow_server.scheduling.places import NOWHERE, Place
from fallow_server.spreading import answering
from fallow_server.spreading.answering import ReckoningFailed
from fallow_server.spreading.config import Config
from fallow_server.spreading.rounds import Round, Spreading
from fallow_server.spreading.service import FILE_NAME, SpreadingService
from fallow_wire.session import Cancel, Disk, Task
from server_world import running_server

MIB = 2**20
HERE = Place(64500, "CN")
THREAD = Config(thread_pairs_max=10**9)
"""No other process, whose start takes a second."""


class SpreadingHarness:
    def __init__(self, server: Harness, config: Config) -> None:
        self.server = server
        self.service = SpreadingService(
            config,
            FilterConfig(),
            server.catalogue.catalogue,
            server.delivery.devices,
            server.tasks.driver,
            server.clock,
            server.directory,
        )
        self.spreading: Spreading = self.service.spreading

    def asked(self, object_id: str, bytes_: int, place: Place = HERE) -> None:
        self.service.note(object_id, place, bytes_, self.server.clock.now())

    async def round(self) -> Round:
        """Of placement, and of the tasks that come of it."""
        found = await self.spreading.round(seed=1)
        assert found is not None
        await self.server.round()
        return found

    async def beats(self, *devices: HandDevice) -> None:
        for device in devices:
            await device.beat()


def run(directory: Path, script: Callable[[SpreadingHarness], Awaitable[None]], config: Config = THREAD) -> None:
    async def whole() -> None:
        async with running(directory) as server:
            harness = SpreadingHarness(server, config)
            await harness.service.start()
            await script(harness)
            await harness.service.close()

    asyncio.run(whole())


def tasks(device: HandDevice, kind: str) -> list[str | None]:
    return [one.object for one in device.received if isinstance(one, Task) and one.kind == kind]


async def object_on(harness: SpreadingHarness, *devices: HandDevice, size: int = MIB) -> str:
    """An object of which one copy is wanted; all the devices hold it."""
    object_id = await harness.server.publish(os.urandom(size), more="&replicas=0")
    for device in devices:
        assert device.live is not None
        await device.holds(*device.live.content, object_id)
    await harness.server.round()
    # Wanted only now: the publisher's own task would have looked for a device meanwhile.
    await harness.server.catalogue.catalogue.want(object_id, ALICE, 1)
    return object_id


def test_copies_come_with_demand_and_no_more_than_it_takes(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        devices = [await server.device(number) for number in range(1, 7)]
        object_id = await object_on(harness, devices[0])
        harness.asked(object_id, 10**12)
        first = await harness.round()
        fillers = [device for device in devices if tasks(device, "fill")]
        assert {one for one, _ in first.fills} == {object_id}
        assert len(fillers) == len(first.fills) == 5
        assert first.unserved_bytes < first.asked_bytes
        listed = (await server.call("GET", "/v1/tasks")).json()
        (spread,) = [task for task in listed if task["kind"] == "spread"]
        assert int(spread["parameters"]["served_bytes"]) > int(spread["parameters"]["fill_bytes"]) > 0
        why = (await server.call("GET", f"/v1/tasks/{spread['id']}/why", status=200)).json()
        (decision,) = why["decisions"]
        assert {one["device"] for one in decision["best"]} == {device.id for device in fillers}
        score = decision["best"][0]["score_permille"]
        assert score["value"] == pytest.approx(score["served"] - sum(score[one] for one in PARTS[1:]), abs=5)
        # What is under way counts, and so does what is done.
        assert (await harness.round()).fills == ()
        for device in fillers:
            await device.holds(object_id)
        await server.round()
        state = (await server.call("GET", f"/v1/tasks/{spread['id']}")).json()["state"]
        assert state == "done"
        assert (await harness.round()).fills == ()

    run(tmp_path / "state", script)


def test_a_little_demand_is_left_to_the_copy_that_there_is(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        devices = [await harness.server.device(number) for number in range(1, 4)]
        object_id = await object_on(harness, devices[0])
        harness.asked(object_id, MIB // 24)
        assert (await harness.round()).fills == ()

    run(tmp_path / "state", script)


def test_what_is_asked_for_often_has_three_copies(tmp_path: Path) -> None:
    """Each of the two would do for what is asked; three are what makes cheating show."""

    async def script(harness: SpreadingHarness) -> None:
        devices = [await harness.server.device(number) for number in range(1, 6)]
        object_id = await object_on(harness, devices[0])
        for _ in range(40):
            harness.asked(object_id, MIB)
        found = await harness.round()
        assert len(found.fills) >= 2

    run(tmp_path / "state", script)


def test_devices_that_may_not_are_left_alone(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        holder = await server.device(1)
        others = [
            await server.device(2, state="paused"),
            await server.device(3, services=("fill",)),
            await server.device(4, disk=Disk(2**20, 2**20, 2**30, "sd")),
            await server.device(5),
            await server.device(6),
        ]
        assert others[3].live is not None
        others[3].live.service_urls = ()
        object_id = await object_on(harness, holder)
        harness.asked(object_id, 10**12)
        await others[4].says("some-task", "accepted", reason="writing")
        found = await harness.round()
        assert found.unfit == {"paused": 1, "service-off": 1, "no-disk": 1, "unreachable": 1, "puts-off": 1}
        assert found.fills == ()
        # It goes on, and so it gets one.
        await others[4].says("some-task", "running")
        assert len((await harness.round()).fills) == 1

    run(tmp_path / "state", script)


def test_a_device_that_failed_at_an_object_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        holder, failing = await server.device(1), await server.device(2)
        object_id = await object_on(harness, holder)
        harness.asked(object_id, 10**12)
        await harness.round()
        task = next(one for one in failing.received if isinstance(one, Task))
        await failing.says(task.id, "failed", reason="no room")
        await server.round()
        assert (await harness.round()).fills == ()
        server.clock.seconds += 3600
        await harness.beats(holder, failing)
        harness.asked(object_id, 10**12)
        assert len((await harness.round()).fills) == 1

    run(tmp_path / "state", script)


def test_a_device_that_is_seldom_there_gets_nothing(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        holder, seldom = await server.device(1), await server.device(2)
        object_id = await object_on(harness, holder)
        for _ in range(10):
            await seldom.leave()
            server.clock.seconds += 86_400
            await seldom.connect()
            server.clock.seconds += 3600
        await harness.beats(holder, seldom)
        harness.asked(object_id, 10**12)
        assert (await harness.round()).unfit == {"seldom-there": 1}

    run(tmp_path / "state", script)


def test_a_reboot_makes_no_copies_and_a_loss_does(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        devices = [await server.device(number) for number in range(1, 4)]
        spare = devices[2]
        object_id = await object_on(harness, devices[0], devices[1])
        # Little enough for two lines, and not often.
        harness.asked(object_id, MIB)
        spare.changes["state"] = "paused"
        await harness.beats(*devices)
        await harness.round()
        await devices[0].leave()
        spare.changes["state"] = "active"
        await harness.beats(*devices[1:])
        found = await harness.round()
        assert (found.fills, found.unfit, found.devices) == ((), {"away": 1}, 3)
        server.clock.seconds += 601
        harness.asked(object_id, 20 * MIB)
        await harness.beats(*devices[1:])
        assert len((await harness.round()).fills) == 1
        assert tasks(spare, "fill") == [object_id]

    run(tmp_path / "state", script)


def test_what_nobody_asks_for_makes_room_down_to_what_is_wanted(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        crowded = Disk(20 * MIB, 19 * MIB, 2**30, "sd")
        devices = [await server.device(number, disk=crowded) for number in range(1, 4)]
        object_id = await object_on(harness, *devices)
        dropped: list[HandDevice] = []
        for _ in range(4):
            await harness.round()
            for device in devices:
                if tasks(device, "drop") and device not in dropped:
                    dropped.append(device)
                    await device.holds()
            await server.round()
        assert len(dropped) == 2
        assert server.delivery.devices.holder_ids(object_id) == {
            device.id for device in devices if device not in dropped
        }

    run(tmp_path / "state", script)


def test_one_round_begins_no_more_than_it_may(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        crowded = Disk(20 * MIB, 19 * MIB, 2**30, "sd")
        holders = [await harness.server.device(number, disk=crowded) for number in range(1, 5)]
        others = [await harness.server.device(number) for number in range(5, 9)]
        for _ in range(3):
            await object_on(harness, *holders)
        harness.asked(await object_on(harness, others[0]), 10**12)
        found = await harness.round()
        assert (len(found.fills), len(found.drops)) == (2, 2)
        # Four are under way.
        assert await harness.spreading.round() is None

    run(tmp_path / "state", script, replace(THREAD, open_max=2))


def test_what_its_publisher_does_not_want_is_not_copied(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        devices = [await server.device(number) for number in range(1, 4)]
        object_id = await object_on(harness, devices[0])
        harness.asked(object_id, 10**12)
        await harness.round()
        other = next(device for device in devices[1:] if tasks(device, "fill"))
        await server.call("POST", "/v1/tasks", json={"kind": "drop", "object": object_id}, status=201)
        await server.round()
        assert isinstance(other.received[-1], Cancel)
        await object_on(harness, devices[0])
        assert (await harness.round()).fills == ()

    run(tmp_path / "state", script)


def test_what_a_publishers_own_task_places_is_not_placed_twice(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        server = harness.server
        devices = [await server.device(number) for number in range(1, 7)]
        await server.publish(os.urandom(MIB), more="&replicas=2")
        await harness.round()
        await harness.round()
        assert sum(len(tasks(device, "fill")) for device in devices) == 2

    run(tmp_path / "state", script)


def test_a_large_round_is_reckoned_in_another_process(tmp_path: Path) -> None:
    async def script(harness: SpreadingHarness) -> None:
        devices = [await harness.server.device(number) for number in range(1, 4)]
        object_id = await object_on(harness, devices[0])
        harness.asked(object_id, 10**12)
        assert len((await harness.round()).fills) == 2

    run(tmp_path / "state", script, Config(thread_pairs_max=0))


def test_a_process_that_dies_is_said_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(harness: SpreadingHarness) -> None:
        devices = [await harness.server.device(number) for number in range(1, 4)]
        object_id = await object_on(harness, devices[0])
        harness.asked(object_id, 10**12)
        with monkeypatch.context() as changed:
            changed.setattr("sys.executable", shutil.which("false"))
            with pytest.raises(ReckoningFailed):
                await harness.round()
        assert len((await harness.round()).fills) == 2

    run(tmp_path / "state", script, Config(thread_pairs_max=0))


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o755)

    async def script(harness: SpreadingHarness) -> None:
        devices = [await harness.server.device(number) for number in range(1, 4)]
        harness.asked(await object_on(harness, devices[0]), 10**12)
        with monkeypatch.context() as changed:
            changed.setattr("sys.executable", str(hangs))
            changed.setattr(answering, "RECKONING_S_MAX", 0.01)
            with pytest.raises(ReckoningFailed, match="no answer"):
                await harness.round()

    run(tmp_path / "state", script, Config(thread_pairs_max=0))


# ------------------------------------------------------------------ over a restart


def test_demand_is_remembered(tmp_path: Path) -> None:
    async def first(harness: SpreadingHarness) -> None:
        harness.asked("a", 1000)
        harness.asked("b", 500, NOWHERE)

    async def second(harness: SpreadingHarness) -> None:
        expected = harness.service.demand.expected(harness.server.clock.now())
        assert dict(zip(expected.objects, expected.places, strict=True)) == {"a": HERE, "b": NOWHERE}
        assert expected.bytes_by_hour.sum() > 0

    run(tmp_path / "state", first)
    assert stat.S_IMODE((tmp_path / "state" / FILE_NAME).stat().st_mode) == 0o600
    run(tmp_path / "state", second)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        '{"version": 2, "shapes": []}\n',
        '{"version": 1, "shapes": [["CN", 0, 0, [1]]]}\n',
        '{"version": 1, "shapes": []}\n["a", 1, "CN", 1, 1]\n',
        '{"version": 1, "shapes": []}\n["a", 1, "CN", 1, 1, 1, 1, 1, "x"]\n',
        '{"version": 1, "shapes": []}\nhalf a li',
    ],
)
def test_a_file_that_cannot_be_read_is_said_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    async def script(harness: SpreadingHarness) -> None:
        assert len(harness.service.demand) == 0
        harness.asked("a", 1000)

    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).write_text(text)
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "state", script)
    assert f"{FILE_NAME} cannot be read" in caplog.text


def test_it_belongs_to_nobody_but_the_publisher(tmp_path: Path) -> None:
    """Tasks that demand makes are seen by the publisher of the object alone."""

    async def script(harness: SpreadingHarness) -> None:
        devices = [await harness.server.device(number) for number in range(1, 3)]
        harness.asked(await object_on(harness, devices[0]), 10**12)
        await harness.round()
        kinds = {task["kind"] for task in (await harness.server.call("GET", "/v1/tasks", who=ALICE)).json()}
        assert "spread" in kinds
        assert (await harness.server.call("GET", "/v1/tasks", who="publisher-b")).json() == []

    run(tmp_path / "state", script)


def test_a_whole_server_counts_what_consumers_ask_for_and_remembers_it(tmp_path: Path) -> None:
    async def script() -> None:
        async with running_server(tmp_path) as world:
            publisher = await world.account("publisher")
            published = await world.call("POST", "/v1/objects?name=a.bin", publisher["token"], data=os.urandom(MIB))
            object_id = published.json["id"]
            fetched = await world.call("GET", f"/o/{object_id}/a.bin")
            assert fetched.status == 200
            # What is told to be the origin's is not asked of anybody else.
            await world.call("GET", f"/o/{object_id}/a.bin?source=origin")
        async with running_server(tmp_path, operator_token=world.operator_token) as again:
            saved = again.scheduler.spreading.demand.saved()
            assert saved.pairs == [(object_id, NOWHERE)]
            assert saved.columns[0][0] == MIB

    asyncio.run(script())
