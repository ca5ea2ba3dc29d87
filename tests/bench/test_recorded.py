"""What a server recorded is replayed: the recorded policy does as the server did."""

from __future__ import annotations

import asyncio
import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from delivery_harness import Harness, running
from fallow_server.recording.config import Config
from fallow_server.recording.recorder import DIRECTORY, Recorder
from fallow_server.recording.shelf import DAY_S
from replay import policies
from simulation.homes import HOUR_S
from simulation.policies import Ours
from simulation.trace import Recorded, Trace, read
from simulation.week import play

MIB = 2**20
ASKED = 40


async def _drive(server: Harness, recorder: Recorder) -> tuple[int, int]:
    """Consumers for two and a half hours; gives the bytes that devices and the origin were asked for."""
    held = await server.publish(os.urandom(2 * MIB), "held.bin", more="&replicas=2")
    other = await server.publish(os.urandom(MIB), "other.bin", more="&replicas=0")
    devices = [await server.device(number, held, owner=f"owner-{number // 2}") for number in range(1, 5)]
    by_devices = by_origin = 0
    for number in range(ASKED):
        server.clock.seconds += 225
        if number == ASKED // 2:
            await devices[0].leave()
            devices = devices[1:]
        for device in devices:
            await device.beat()
        await recorder.sample()
        name, object_id, size = ("held.bin", held, 2 * MIB) if number % 4 else ("other.bin", other, MIB)
        answer = await server.call("GET", f"/o/{object_id}/{name}", who=None)
        if answer.status == 302:
            by_devices += size
        else:
            by_origin += size
        await recorder.flush()
    return by_devices, by_origin


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """The directory of a trace, and the bytes that devices and the origin were asked for."""
    directory = tmp_path_factory.mktemp("server") / "state"

    async def whole() -> tuple[int, int]:
        async with running(directory) as server:
            recorder = Recorder(
                Config(), server.catalogue.catalogue, server.delivery.devices, server.tasks.driver, server.clock,
                directory,
            )  # fmt: skip
            server.delivery.router.routes.append(recorder)
            server.clock.seconds = server.clock.seconds // DAY_S * DAY_S
            await recorder.start()
            found = await _drive(server, recorder)
            await recorder.close()
            return found

    by_devices, by_origin = asyncio.run(whole())
    return directory / DIRECTORY, by_devices, by_origin


@pytest.fixture(scope="module")
def trace(recorded: tuple[Path, int, int]) -> Trace:
    return read(recorded[0])


def test_the_recorded_policy_does_as_the_server_did(recorded: tuple[Path, int, int], trace: Trace) -> None:
    _, by_devices, by_origin = recorded
    assert not trace.synthetic
    assert len(trace.requests) == ASKED
    assert trace.homes.hours == 3
    outcome = play(trace.homes, trace.requests, Recorded(trace), trace.held)
    assert by_devices > by_origin > 0
    assert outcome.demand_bytes == by_devices + by_origin
    assert outcome.served_bytes.sum() == pytest.approx(by_devices, abs=1)
    assert outcome.origin_bytes == pytest.approx(by_origin, abs=1)
    assert outcome.refusals == 0


def test_other_policies_begin_with_the_copies_that_there_were(trace: Trace) -> None:
    assert len(trace.held) == 4
    for policy in policies(trace, "random", {}).values():
        assert play(trace.homes, trace.requests, policy, trace.held).found >= ASKED * 3 // 4


def test_copies_that_publishers_want_are_made_by_our_policy_too(trace: Trace) -> None:
    assert trace.requests.replicas is not None
    assert trace.requests.replicas.tolist() == [0, 2]
    quiet = replace(trace.requests, at_s=trace.requests.at_s + trace.homes.hours * HOUR_S)
    assert play(trace.homes, quiet, Ours(trace.homes, quiet, 1)).fills == 2


def test_a_device_that_left_is_not_there(trace: Trace) -> None:
    hours = trace.homes.idle_bytes()
    assert len(trace.homes) == 4
    assert (hours[0] > 0).all()
    assert (hours[-1] > 0).sum() == 3
    assert len(np.unique(trace.homes.owner)) == 3


def test_what_was_cut_off_by_a_crash_is_left_out(recorded: tuple[Path, int, int], tmp_path: Path) -> None:
    (file,) = recorded[0].iterdir()
    (tmp_path / "2026-11-25.000.jsonl.gz").write_bytes(file.read_bytes() + gzip.compress(b'{"hour": 1}\n' * 1000)[:-9])
    half = gzip.compress(b'{"fallow_trace": 2, "synthetic": false}\n{"half')
    (tmp_path / "2026-11-26.000.jsonl.gz").write_bytes(half)
    with pytest.raises(SystemExit, match=r"25\.000\.jsonl\.gz, line \d+: "):
        read(tmp_path)
    (tmp_path / "2026-11-25.000.jsonl.gz").write_bytes(file.read_bytes() + gzip.compress(b'{"hour"')[:-4])
    assert len(read(tmp_path).requests) == ASKED


def test_one_request_stands_for_those_that_were_not_kept(recorded: tuple[Path, int, int], tmp_path: Path) -> None:
    (file,) = recorded[0].iterdir()
    text = gzip.decompress(file.read_bytes()).replace(b'{"at_ms"', b'{"one_in":3,"at_ms"')
    (tmp_path / file.name).write_bytes(gzip.compress(text))
    trace = read(tmp_path)
    outcome = play(trace.homes, trace.requests, Recorded(trace), trace.held)
    assert outcome.demand_bytes == 3 * (recorded[1] + recorded[2])
    assert outcome.served_bytes.sum() == pytest.approx(3 * recorded[1], abs=1)


def test_a_directory_without_a_trace_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"^{tmp_path}: it has no hour that is over"):
        read(tmp_path)
