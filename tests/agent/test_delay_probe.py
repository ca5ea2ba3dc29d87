"""The driver of round-trip times, over a network that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fallow_agent.clock import Clock
from fallow_agent.line.delay import SILENT_AFTER
from fallow_agent.line.delay_probe import GENTLE_S, LOOK_S, RETRY_S, DelayProbe
from fallow_agent.line.echo import LOST_AFTER_S, Echoes, Heard
from fallow_agent.line.icmp import PAYLOAD_BYTES_MIN, Kind
from fallow_agent.line.path import HOPS_MAX, Hop
from fallow_agent.line.path import Path as Way
from fallow_agent.line.train import PACKETS, PAYLOAD_BYTES, SPACING_S, TRAIN_BYTES, TRAINS_MIN
from support import PATIENCE_S

ROUTER, PROVIDER, FAR, SCHEDULER = "192.168.1.1", "100.64.0.1", "203.0.113.1", "198.51.100.9"
ROUTE = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0101A8C0\t0003\n"


class Now(Clock):
    at = 1000.0

    def monotonic(self) -> float:
        return self.at


class Network(Echoes):
    """``way``: the routers; ``silent`` answer no echo, ``mute`` tell of no expiry either."""

    def __init__(self, clock: Now) -> None:
        self.clock = clock
        self.unavailable = None
        self.wire_up = self.wire_down = 0
        self.way = [ROUTER, PROVIDER, FAR, SCHEDULER]
        self.silent: set[str] = set()
        self.mute: set[str] = set()
        self.rtt_ms = {ROUTER: 1.0, PROVIDER: 8.0, FAR: 12.0, SCHEDULER: 20.0}
        self.asked: list[tuple[str, int | None]] = []
        self.spaced_s = 0.0

    def send(
        self,
        to: str,
        *,
        ttl: int | None = None,
        payload_bytes: int = PAYLOAD_BYTES_MIN,
        lost_after_s: float = LOST_AFTER_S,
    ) -> asyncio.Future[Heard]:
        self.asked.append((to, ttl))
        now, by, kind = self.clock.at, to, Kind.REPLY
        if ttl is not None and ttl < self.way.index(to) + 1:
            by, kind = self.way[ttl - 1], Kind.EXPIRED
        answers = by in self.way and by not in (self.silent if kind is Kind.REPLY else self.mute)
        heard: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        rtt_ms = self.rtt_ms.get(by, 1.0)
        if payload_bytes == PAYLOAD_BYTES:
            rtt_ms += 1000 * self.spaced_s * len(self.asked)
        heard.set_result(Heard(kind, now, rtt_ms, by, now + rtt_ms / 1000) if answers else Heard(Kind.LOST, now))
        return heard

    def close(self) -> None:
        self.unavailable = "closed"


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = Now()
        self.network = Network(self.clock)
        self.routes = folder / "route"
        self.routes.write_text(ROUTE)
        self.target: str | None = SCHEDULER
        self.at_edge = False
        self.probe = DelayProbe(
            lambda: self.target,
            self.clock,
            at_edge=lambda: self.at_edge,
            echoes=self.network,
            routes=self.routes,
        )

    async def step(self, seconds: float = 0.15, times: int = 1) -> None:
        for _ in range(times):
            self.clock.at += seconds
            await self.probe.step()
            await asyncio.sleep(0)


def in_loop(test: Callable[[World], Awaitable[None]]) -> Callable[[Path], None]:
    """A test of its own world, in its own event loop."""

    def run(tmp_path: Path) -> None:
        async def main() -> None:
            await test(World(tmp_path))

        asyncio.run(main())

    return run


@in_loop
async def test_the_path_is_found_and_both_sides_are_asked(world: World) -> None:
    assert "searched" in world.probe.reading.reason
    await world.step(times=4)
    assert world.probe.path == Way(Hop(ROUTER, 1), Hop(PROVIDER, 2))
    reading = world.probe.reading
    assert (reading.queueing_ms, reading.rtt_ms, reading.lan_queueing_ms) == (0, 8, 0)
    world.network.rtt_ms |= {ROUTER: 31.0, PROVIDER: 98.0}
    await world.step(times=4)
    reading = world.probe.reading
    assert (reading.queueing_ms, reading.rtt_ms, reading.rtt_base_ms) == (60, 98, 8)
    assert (reading.lan_queueing_ms, reading.hop, reading.reason) == (30, PROVIDER, "")


@in_loop
async def test_the_homes_router_has_no_home_before_it(world: World) -> None:
    await world.step()
    world.at_edge = True
    await world.step(LOOK_S)
    assert world.probe.path == Way(None, Hop(PROVIDER, 2))


@in_loop
async def test_nobody_is_contacted_but_on_the_way_to_the_scheduler(world: World) -> None:
    await world.step(times=50)
    assert {to for to, _ in world.network.asked} <= set(world.network.way)
    assert all(ttl is None or 1 <= ttl <= HOPS_MAX for _, ttl in world.network.asked)


@in_loop
async def test_a_hop_without_echo_gives_way_to_the_next(world: World) -> None:
    world.network.silent = {ROUTER, PROVIDER}
    await world.step()
    assert world.probe.path == Way(None, Hop(FAR, 3))


@in_loop
async def test_where_none_echoes_packets_expire_there_once_a_second(world: World) -> None:
    world.network.silent = {PROVIDER, FAR, SCHEDULER}
    await world.step(times=3)
    assert world.probe.path.provider == Hop(PROVIDER, 2, by_expiry=True)
    assert world.probe.reading.queueing_ms == 0
    world.network.asked.clear()
    await world.step(0.1, times=20)
    assert 1 <= world.network.asked.count((SCHEDULER, 2)) <= 2.0 / GENTLE_S + 1
    assert {asked for asked in world.network.asked if asked != (SCHEDULER, 2)} <= {(ROUTER, None)}


@in_loop
async def test_the_scheduler_itself_is_the_last_resort(world: World) -> None:
    world.network.mute = {ROUTER, PROVIDER, FAR}
    world.network.way = [ROUTER, *["10.9.9.9"] * HOPS_MAX, SCHEDULER]
    world.network.mute.add("10.9.9.9")
    await world.step()
    assert world.probe.path.provider == Hop(SCHEDULER, 0, distant=True)


@in_loop
async def test_where_nobody_answers_there_is_no_signal_and_it_is_said(world: World) -> None:
    world.network.mute = world.network.silent = {ROUTER, PROVIDER, FAR, SCHEDULER}
    await world.step()
    reading = world.probe.reading
    assert reading.queueing_ms is None
    assert SCHEDULER in reading.reason
    searched = len(world.network.asked)
    await world.step(RETRY_S - 1)
    assert len(world.network.asked) == searched, "and they are left alone for a while"
    world.network.mute = world.network.silent = set()
    await world.step(2)
    assert world.probe.path.provider == Hop(PROVIDER, 2)


@in_loop
async def test_a_hop_that_falls_silent_is_searched_again(world: World) -> None:
    await world.step(times=3)
    world.network.silent = world.network.mute = {PROVIDER}
    await world.step(RETRY_S / SILENT_AFTER, times=SILENT_AFTER + 2)
    assert world.probe.path.provider == Hop(FAR, 3)
    assert world.probe.reading.rtt_base_ms == 12


@in_loop
async def test_another_default_route_is_another_path(world: World) -> None:
    await world.step(times=3)
    world.network.way = ["192.168.8.1", FAR, SCHEDULER]
    world.routes.write_text(ROUTE.replace("eth0", "wwan0"))
    world.network.rtt_ms[FAR] = 40.0
    await world.step(LOOK_S)
    assert world.probe.path == Way(Hop("192.168.8.1", 1), Hop(FAR, 2))
    await world.step(times=2)
    assert world.probe.reading.queueing_ms == 0, "what was known of the other line is forgotten"


@in_loop
async def test_without_scheduler_or_permission_nothing_is_sent(world: World) -> None:
    world.target = None
    await world.step(times=3)
    assert "no scheduler" in world.probe.reading.reason
    world.target = "127.0.0.1"
    await world.step(LOOK_S)
    assert "on this device" in world.probe.reading.reason
    world.target = "not a name"
    await world.step(LOOK_S)
    assert "no IPv4 address" in world.probe.reading.reason
    world.network.unavailable = "ICMP is not allowed"
    assert world.probe.reading.reason == "ICMP is not allowed"
    await asyncio.wait_for(world.probe.run(), PATIENCE_S)
    assert world.network.asked == []


@in_loop
async def test_a_loop_that_runs_wakes_up_when_the_line_is_used(world: World) -> None:
    running = asyncio.get_running_loop().create_task(world.probe.run())
    try:
        world.probe.active(True)
        while len(world.network.asked) < 3 * HOPS_MAX + 20:
            world.clock.at += 0.1
            await asyncio.sleep(0.01)
    finally:
        running.cancel()
    world.probe.close()
    assert world.probe.reading.reason == "closed"


@in_loop
async def test_trains_are_sent_while_nothing_queues(world: World) -> None:
    await world.step(times=3)
    world.network.spaced_s = (TRAIN_BYTES / PACKETS) * 8 / 20e6
    for _ in range(TRAINS_MIN):
        before = len(world.network.asked)
        await world.probe.train(lambda: (0, 0))
        assert len(world.network.asked) == before + PACKETS
        await world.probe.train(lambda: (0, 0))
        assert len(world.network.asked) == before + PACKETS, "not so soon"
        world.clock.at += SPACING_S - 1
        await world.step(2)
    assert world.probe.trains.bps == pytest.approx(20e6, rel=0.01)


@in_loop
async def test_trains_wait_until_the_line_is_idle(world: World) -> None:
    await world.step(times=3)
    before, looks = len(world.network.asked), iter([False, False, True])
    trained, calls = asyncio.Event(), []

    def carried() -> tuple[int, int]:
        """Asked before a train and after it."""
        calls.append(len(world.network.asked))
        if len(calls) == 2:
            trained.set()
        return 0, 0

    running = asyncio.get_running_loop().create_task(world.probe.run_trains(lambda: next(looks, False), carried, 0))
    await asyncio.wait_for(trained.wait(), PATIENCE_S)
    assert next(looks, None) is None, "only at the third look"
    assert len(world.network.asked) == before + PACKETS
    running.cancel()


@in_loop
async def test_no_train_into_a_queue_or_to_a_hop_that_is_spared(world: World) -> None:
    await world.step(times=3)
    world.network.rtt_ms[PROVIDER] = 60.0
    await world.step(times=3)
    before = len(world.network.asked)
    await world.probe.train(lambda: (0, 0))
    assert len(world.network.asked) == before


@in_loop
async def test_what_others_send_spoils_a_train(world: World) -> None:
    await world.step(times=3)
    world.network.spaced_s = 0.0006
    carried = iter([(0, 0), (0, TRAIN_BYTES)])
    await world.probe.train(lambda: next(carried))
    assert world.probe.trains.spoilt == "others used the line"
    assert next(carried, None) is None
