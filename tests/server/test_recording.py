"""The record of decisions: what it holds, that it stays small, and that it never disturbs what it records."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from delivery_harness import Harness, run
from fallow_server.recording.config import Config
from fallow_server.recording.hours import Hour
from fallow_server.recording.recorder import DIRECTORY, SAMPLE_S, Recorder
from fallow_server.recording.shelf import DAY_S, Shelf
from fallow_server.scheduling.places import NOWHERE
from fallow_wire.session import Task
from server_world import running_server

MIB = 2**20
DAY = "2026-11-25"


def recorded(directory: Path) -> list[list[dict[str, Any]]]:
    """The lines of each file."""
    found = []
    for file in sorted((directory / DIRECTORY).iterdir()):
        with gzip.open(file, "rt") as lines:
            found.append([json.loads(line) for line in lines])
    return found


def with_recorder(
    directory: Path, script: Callable[[Harness, Recorder], Awaitable[None]], config: Config | None = None
) -> None:
    async def whole(server: Harness) -> None:
        recorder = Recorder(
            config or Config(),
            server.catalogue.catalogue,
            server.delivery.devices,
            server.tasks.driver,
            server.clock,
            server.directory,
        )
        server.delivery.router.routes.append(recorder)
        server.clock.seconds = server.clock.seconds // DAY_S * DAY_S
        await recorder.start()
        await script(server, recorder)
        await recorder.close()

    run(directory, whole)


async def get(server: Harness, object_id: str, status: int, **more: Any) -> None:
    await server.call("GET", f"/o/{object_id}/file.bin", who=None, status=status, **more)


def test_what_was_seen_and_decided_is_written_down(tmp_path: Path) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        object_id = await server.publish(os.urandom(MIB), more="&replicas=0")
        holder = await server.device(1, object_id, owner="an-owner")
        await server.device(2, owner="an-owner")
        await recorder.sample()
        await get(server, object_id, 302)
        await get(server, object_id, 302, headers={"Range": "bytes=0-99"})
        await holder.beat(state="paused")
        await get(server, object_id, 200)
        await recorder.sample()

    with_recorder(tmp_path / "state", script)
    (lines,) = recorded(tmp_path / "state")
    assert lines[0] == {"fallow_trace": 2, "synthetic": False}
    devices = [line for line in lines if "id" in line and "device" in line]
    assert [(one["device"], one["owner"], one["quota_bytes"]) for one in devices] == [
        (0, 0, 10 * 2**30),
        (1, 0, 10 * 2**30),
    ]
    (wanted,) = [line for line in lines if "held" in line]
    assert (wanted["object"], wanted["size"], wanted["held"]) == (0, MIB, [0])
    whole, part, origin = [line for line in lines if "bytes" in line]
    assert (whole["bytes"], whole["devices"], part["bytes"]) == (MIB, [0], 100)
    assert 0 < whole["booked_bps"][0] <= 2_500_000
    assert (origin["devices"], origin["origin"]) == ([], "busy")
    assert "origin" not in whole
    (hour,) = [line for line in lines if "hour" in line]
    assert (hour["samples"], hour["first"], hour["present"]) == (2, 0, [1, 2])
    assert (hour["idle_up_bps"], hour["foreseen_up_bps"]) == ([40_000_000] * 2, [30_000_000] * 2)
    assert not any("203.0.113" in json.dumps(line) or "127.0.0.1" in json.dumps(line) for line in lines)
    directory = tmp_path / "state" / DIRECTORY
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


def test_an_hour_is_means_and_what_was_foreseen_first() -> None:
    hour = Hour(7)
    hour.samples = 3
    hour.add(1, 1000, 0, 500)
    hour.add(1, 2_469_135, 90, 700)
    hour.add(0, 0, 0, 0)
    assert list(hour.lines()) == [
        {
            "hour": 7, "samples": 3, "first": 0, "present": [1, 2], "idle_up_bps": [0, 1_230_000],
            "own_up_bps": [0, 45], "foreseen_up_bps": [0, 500],
        }
    ]  # fmt: skip
    hour.add(2500, 10, 0, 0)
    assert [(line["first"], len(line["present"])) for line in hour.lines()] == [(0, 1000), (1000, 1000), (2000, 501)]


def test_copies_are_recorded_when_devices_take_them_on(tmp_path: Path) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        devices = [await server.device(number) for number in range(1, 5)]
        object_id = await server.publish(os.urandom(MIB), more="&replicas=3")
        await server.round()
        asked = [(one, task.id) for one in devices for task in one.received if isinstance(task, Task)]
        (other,) = set(devices) - {device for device, _ in asked}
        (slow, first), (quick, second), (failing, third) = asked
        await slow.says(first, "accepted")
        await slow.says(first, "running")
        # So small a copy is there, and the task done, before the device writes anything.
        await quick.holds(object_id)
        await quick.says(second, "done")
        await failing.says(third, "failed")
        await other.says(first, "accepted")
        await slow.says("unknown", "accepted")
        await server.round()
        await recorder.flush()
        await slow.says(first, "running")

    with_recorder(tmp_path / "state", script)
    (lines,) = recorded(tmp_path / "state")
    assert [line["fill"] for line in lines if "fill" in line] == [0, 1]
    # It was no copy that had been there before.
    assert [(line["held"], line["replicas"]) for line in lines if "held" in line] == [([], 3)]


def test_hours_end_and_days_have_files_of_their_own(tmp_path: Path) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        object_id = await server.publish(os.urandom(MIB), more="&replicas=0")
        device = await server.device(1, object_id)
        for _ in range(2):
            await recorder.sample()
            server.clock.seconds += 3600
            await device.beat()
        await recorder.sample()
        server.clock.seconds += 86_400
        await device.beat()
        await recorder.sample()
        await get(server, object_id, 302)

    with_recorder(tmp_path / "state", script)
    first, second = recorded(tmp_path / "state")
    hours = [[line["hour"] for line in lines if "hour" in line] for lines in (first, second)]
    assert [len(one) for one in hours] == [3, 1]
    assert hours[1][0] == hours[0][2] + 24
    # Each file says what its numbers mean.
    assert [sum("device" in line and "id" in line for line in lines) for lines in (first, second)] == [1, 1]


def test_a_restart_begins_another_file(tmp_path: Path) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        await server.device(1)
        await recorder.sample()

    for _ in range(2):
        with_recorder(tmp_path / "state", script)
    assert len(recorded(tmp_path / "state")) == 2


def test_nothing_is_recorded_where_it_is_turned_off(tmp_path: Path) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        object_id = await server.publish(os.urandom(MIB), more="&replicas=0")
        await server.device(1, object_id)
        await recorder.sample()
        await get(server, object_id, 302)

    with_recorder(tmp_path / "state", script, Config(days=0))
    assert not (tmp_path / "state" / DIRECTORY).exists()


def test_a_server_runs_without_a_record(tmp_path: Path) -> None:
    async def whole() -> None:
        async with running_server(tmp_path / "state", recording={"days": 0}) as world:
            await world.http.get(world.app.scheduler_url)
            assert not world.app._background.failed.is_set()

    asyncio.run(whole())
    assert not (tmp_path / "state" / DIRECTORY).exists()


def test_a_failure_of_the_record_is_said_and_ends_only_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        failed = asyncio.Event()

        async def fails() -> None:
            failed.set()
            raise RuntimeError("a mistake")

        monkeypatch.setattr("fallow_server.recording.recorder.FLUSH_S", 0)
        monkeypatch.setattr(recorder, "flush", fails)
        running = asyncio.ensure_future(recorder.run())
        await failed.wait()
        await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        monkeypatch.undo()

    with_recorder(tmp_path / "state", script)
    assert "a mistake" in caplog.text


def test_a_disk_that_cannot_be_written_is_said_once_and_serves_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        object_id = await server.publish(os.urandom(MIB), more="&replicas=0")
        device = await server.device(1, object_id)
        for _ in range(3):
            await recorder.sample()
            await get(server, object_id, 302)
            await recorder.flush()
        (tmp_path / "state" / DIRECTORY).unlink()
        server.clock.seconds += 86_400
        await device.beat()
        await recorder.sample()
        await get(server, object_id, 302)

    (tmp_path / "state").mkdir()
    (tmp_path / "state" / DIRECTORY).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        with_recorder(tmp_path / "state", script)
    assert [record.getMessage() for record in caplog.records if "not recorded" in record.getMessage()] == [
        f"decisions are not recorded for the rest of this day: {tmp_path / 'state' / DIRECTORY} cannot be written:"
        " File exists"
    ]
    # The next day it is there again.
    (lines,) = recorded(tmp_path / "state")
    assert sum("bytes" in line for line in lines) == 1


def test_a_day_that_takes_more_than_its_share_keeps_fewer_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(server: Harness, recorder: Recorder) -> None:
        device = await server.device(1)
        await recorder.sample()
        for number in range(12_000):
            recorder.routed(f"object-{number % 9}", MIB, number, NOWHERE, [(device.id, number * 997 % 10_007)], None)
            if number % 200 == 0:
                await recorder.flush()

    config = Config(days=1, bytes_max=2 * 50_000)
    with caplog.at_level(logging.WARNING):
        with_recorder(tmp_path / "state", script, config)
    (lines,) = recorded(tmp_path / "state")
    rates = [line.get("one_in", 1) for line in lines if "bytes" in line]
    assert rates == sorted(rates)
    assert rates[0] == 1
    assert rates[-1] > 1
    # What is kept stands for what was not.
    assert sum(rates) == pytest.approx(12_000, rel=0.1)
    assert sum(file.stat().st_size for file in (tmp_path / "state" / DIRECTORY).iterdir()) <= 50_000


def test_old_days_go_and_all_files_together_stay_small(tmp_path: Path) -> None:
    noise = [{"noise": os.urandom(600).hex()}]
    shelf = Shelf(tmp_path / "trace", 2, 1000)
    shelf.begin("2026-11-20", "2026-11-18")
    assert shelf.append(noise) == 2
    assert shelf.append(noise) is None
    # Another start on the same day has what the first one left.
    again = Shelf(tmp_path / "trace", 2, 1000)
    again.begin("2026-11-20", "2026-11-18")
    assert again.append(noise) is None
    assert again.append([{}]) == 2
    shelf.begin(DAY, "2026-11-23")
    assert [file.name for file in sorted((tmp_path / "trace").iterdir())] == [f"{DAY}.000.jsonl.gz"]
    shelf.append(noise)
    # The setting was lowered.
    smaller = Shelf(tmp_path / "trace", 2, 100)
    smaller.begin("2026-11-26", "2026-11-24")
    assert [file.name for file in sorted((tmp_path / "trace").iterdir())] == ["2026-11-26.000.jsonl.gz"]


def test_looks_at_the_fleet_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At full five minutes, so that an hour has twelve."""
    slept: list[float] = []

    async def script(server: Harness, recorder: Recorder) -> None:
        server.clock.seconds = server.clock.seconds // SAMPLE_S * SAMPLE_S + 100
        stop = asyncio.Event()

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            stop.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as changed:
            changed.setattr("fallow_server.recording.recorder.asyncio.sleep", sleep)
            running = asyncio.ensure_future(recorder.run())
            await stop.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with_recorder(tmp_path / "state", script)
    assert slept == [SAMPLE_S - 100]
