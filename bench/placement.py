"""What a round of placement takes: a hundred thousand devices, a thousand objects, and the event loop beside it.

The server's own code runs: it gathers the fleet in slices, another process reckons, tasks are made of the answer. The
fleet is made up (synthetic: lines, disks and demand by log-normal and Zipf distributions); its sessions are left out,
and so is the database of tasks. Another coroutine measures meanwhile how long the loop is blocked.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import time
from dataclasses import dataclass, replace

import harness
from fallow_server.catalogue.objects import PublishedObject
from fallow_server.clock import Clock
from fallow_server.delivery.devices import Devices
from fallow_server.fleet.live import Fleet, LiveDevice
from fallow_server.scheduling.demand import HOUR_S, Demands
from fallow_server.scheduling.filters import Config as FilterConfig
from fallow_server.scheduling.places import Place
from fallow_server.spreading.config import Config
from fallow_server.spreading.rounds import Round, Spreading
from fallow_wire.session import Disk, Environment, Heartbeat, Line, Processor, ServicePort

DEVICES, OBJECTS, HELD_EACH = 100_000, 1000, 3
FEW = 1000
ROUNDS, ROUNDS_QUICK = 5, 2
KINDS = 500
"""Different heartbeats; each device has one of them."""
PLACES = [Place(64500 + number, country) for number in range(8) for country in ("CN", "DE", "KE", "BR")]
TICK_S = 0.001


@dataclass(frozen=True)
class Measured:
    """``placement_s``: from the first device gathered to the last task; ``block_ms``: the longest meanwhile, and
    ``block_processor_ms`` the most that the loop itself worked at a stretch, whatever else the machine does.
    ``processor_s``: of both processes."""

    placement_s: float
    block_ms: float
    block_processor_ms: float
    processor_s: float
    round: Round


class _Catalogue:
    def __init__(self, objects: list[PublishedObject]) -> None:
        self._objects = objects

    async def wanted(self) -> list[PublishedObject]:
        return self._objects


class _Driver:
    """Takes what is to be done, and does nothing."""

    def __init__(self) -> None:
        self.created = 0

    def away(self) -> dict[str, frozenset[str]]:
        return {}

    def coming(self) -> dict[str, set[str]]:
        return {}

    def open_tasks(self) -> list[object]:
        return []

    async def create_all(self, wanted: list[object]) -> None:
        self.created += len(wanted)


def heartbeats(draw: random.Random) -> list[Heartbeat]:
    found = []
    for _ in range(KINDS):
        line = Line(40_000_000, 100_000_000, "configured", 0, 0, 0, 0, 30_000_000, 90_000_000)
        usual = draw.lognormvariate(15.5, 0.7)
        forecast = tuple(int(usual * draw.uniform(0.3, 1)) for _ in range(24))
        quota = draw.choice((2, 8, 32)) * 2**30
        found.append(
            Heartbeat(
                "active" if draw.random() < 0.95 else "paused",
                line,
                forecast,
                Disk(quota, int(quota * draw.random()), 2**40, "ssd"),
                Processor(4, "aarch64", 80, 2**30),
                Environment((ServicePort("tcp", 32557, "ipv4", "198.51.100.5", "upnp"),), "none", "os", "m", "1"),
                ("object", "fill"),
                0,
                100,
            )
        )
    return found


async def _send(_: str) -> None:
    return


async def population(count: int, objects: int, draw: random.Random) -> tuple[Devices, list[PublishedObject], Demands]:
    """Two devices in three can be reached; each holds three objects; demand is half of what the fleet can give."""
    clock, fleet = Clock(), Fleet()
    devices = Devices(fleet, clock, lambda address: PLACES[int(address.split(".")[2]) % len(PLACES)])
    kinds = heartbeats(draw)
    ids = [f"{number:064x}" for number in range(objects)]
    published = [
        PublishedObject(
            object_id, f"publisher-{number % 10}", f"{number}.bin", "x", int(draw.lognormvariate(16.5, 1)), 2, 0
        )
        for number, object_id in enumerate(ids)
    ]
    able_bytes = 0.0
    for number in range(count):
        # Each with a line of its own.
        address = f"{60 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.9"
        device = LiveDevice(f"fd-{number:024d}", f"owner-{number}", b"", address, clock.now(), _send, lambda *_: None)
        device.heartbeat = draw.choice(kinds)
        if draw.random() < 0.65:
            device.service_urls = (f"http://{address}:32557",)
            able_bytes += sum(device.heartbeat.forecast_idle_up_bps) * 450 / 2
        await fleet.attach(device)
        device.content = set(draw.choices(ids, k=HELD_EACH))
        for observer in fleet.observers:
            await observer.content_changed(device.device_id)
    demands = Demands(Config().demand)
    now = clock.now()
    share = sum(1 / rank for rank in range(1, objects + 1))
    for rank, object_id in enumerate(ids, 1):
        for place in draw.sample(PLACES, 4):
            # A week of it, in hours; the pairs are as many as they would be.
            for back in range(7 * 24, 0, -12):
                demands.note(object_id, place, int(able_bytes / 2 / share / rank / 4 / 2) + 1, now - back * HOUR_S)
    return devices, published, demands


async def measure(count: int, objects: int, rounds: int, seed: int = 1) -> list[Measured]:
    """Rounds over one fleet. The first is the dearest: everything is still to be placed."""
    devices, published, demands = await population(count, objects, random.Random(seed))
    config = replace(Config(), thread_pairs_max=0)  # also the small fleet in a process, so that the two compare
    spreading = Spreading(config, FilterConfig(), _Catalogue(published), devices, _Driver(), lambda: demands, Clock())
    found = []
    for number in range(rounds):
        now = Clock().now()
        for device in devices.fleet.devices():
            device.last_seen = now
        # As the server does: what is there at the start is not looked at again.
        gc.collect()
        gc.freeze()
        longest = [0.0, 0.0]
        ticking = asyncio.create_task(_tick(longest))
        await asyncio.sleep(0.05)
        longest[:] = 0.0, 0.0
        before = _processor_s()
        ended = await spreading.round(seed=number)
        processor_s = _processor_s() - before
        ticking.cancel()
        assert ended is not None
        found.append(Measured(ended.seconds, longest[0] * 1000, longest[1] * 1000, processor_s, ended))
    return found


async def _tick(longest: list[float]) -> None:
    while True:
        began, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(TICK_S)
        longest[0] = max(longest[0], time.perf_counter() - began - TICK_S)
        longest[1] = max(longest[1], time.thread_time() - worked)


def _processor_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _worst(figure_id: str, values: list[float], unit: str, goal_max: float) -> harness.Figure:
    """Of the rounds, the worst is what counts."""
    worst = max(values)
    return harness.Figure(figure_id, worst, unit, min(values), worst, f"<= {goal_max}", worst <= goal_max)


def main() -> None:
    options = harness.arguments(__doc__ or "").parse_args()
    # One core for both processes, as on a small server.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rounds = ROUNDS_QUICK if options.quick else ROUNDS
    few, many = (asyncio.run(measure(count, OBJECTS, rounds)) for count in (FEW, DEVICES))
    growth = [m.processor_s / DEVICES / (f.processor_s / FEW) for f, m in zip(few, many, strict=True)]
    figures = [
        _worst("placement_s", [one.placement_s for one in many], "s", 5),
        _worst("loop_block_ms", [one.block_ms for one in many], "ms", 20),
        _worst("loop_block_processor_ms", [one.block_processor_ms for one in many], "ms", 20),
        _worst("growth", growth, "ratio", 1.3),
    ]
    last = many[0].round
    print(
        f"{last.devices:,} devices, {last.objects:,} objects: {len(last.fills):,} copies to make, "
        f"{len(last.drops):,} to drop; of {last.asked_bytes / 1e12:.2f} TB a day "
        f"{last.unserved_bytes / last.asked_bytes:.1%} unserved. All on one core."
    )
    harness.publish("placement", figures, quick=options.quick)


if __name__ == "__main__":
    main()
