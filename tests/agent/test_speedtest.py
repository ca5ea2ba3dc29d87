"""The owner's speed test: what readings are worth, and a whole test of a real agent against a real server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_agent.app import Agent
from fallow_agent.clock import Clock
from fallow_agent.config import Config, LanConfig, ProcessConfig
from fallow_agent.host.environment import ServiceConfig
from fallow_agent.life import ACTIVE, PAUSED
from fallow_agent.lifecycle import ActivationRequested, PauseRequested, RequestRefused
from fallow_agent.line import speedtest, speedtest_probe
from fallow_agent.line.capacity import LineConfig
from fallow_agent.line.pacer import WIRE_PERMILLE
from fallow_agent.line.speedtest import (
    BUSY_SHARE_MAX,
    HOUSEHOLD_SHARE_MAX,
    MEASURED_S_MIN,
    QUIET,
    RUN_S,
    UNSEEN,
    USED,
    WARM_UP_S,
    Course,
    Measured,
    Reading,
    Result,
    believed,
    restored,
    result_of,
    stored,
)
from fallow_agent.line.tcp_info import carried_by
from fallow_agent.line.train import Spoilt
from fallow_agent.store import DATABASE_FILE, Settings, open_database
from fallow_wire.lan import Limits
from hypothesis import given
from hypothesis import strategies as st
from server_world import ServerWorld, running_server
from support import PATIENCE_S

NOW = 1_800_000_000
MBIT = 1_000_000


def course(
    payload_bps: float,
    *,
    until: float = RUN_S,
    household_bps: float | None = None,
    busy: float = 0.1,
    slow_s: float = 0,
) -> Course:
    """A test of a line that carries so much payload, nothing in the first ``slow_s``."""
    found = Course(0.0)
    for tick in range(1, round(until * 10) + 1):
        at = tick / 10
        payload = int(payload_bps / 8 * max(0.0, at - slow_s))
        own = payload * WIRE_PERMILLE // 1000
        line = None if household_bps is None else own + int(household_bps / 8 * at)
        found = found.after(Reading(at, payload, busy * at, own, line))
    return found


def measured(found: Course) -> Measured:
    result = found.measured()
    assert isinstance(result, Measured), result
    return result


# ------------------------------------------------------------------ what readings are worth


def test_the_rate_is_of_the_wire_and_the_slow_start_is_left_out() -> None:
    wire_bps = 20 * MBIT * WIRE_PERMILLE / 1000
    assert measured(course(20 * MBIT)).bps == pytest.approx(wire_bps, rel=1e-4)
    assert measured(course(20 * MBIT, slow_s=WARM_UP_S)).bps == pytest.approx(wire_bps, rel=1e-4)


def test_a_test_that_ends_by_its_bytes_counts_while_it_is_long_enough() -> None:
    assert measured(course(500 * MBIT, until=WARM_UP_S + MEASURED_S_MIN)).bps > 500 * MBIT
    found = course(5000 * MBIT, until=WARM_UP_S + MEASURED_S_MIN - 0.1).measured()
    assert found == Spoilt("the line is faster than this test can tell")
    assert isinstance(Course(0.0).measured(), Spoilt)


def test_a_device_that_is_slower_than_its_line_measures_nothing() -> None:
    assert course(100 * MBIT, busy=BUSY_SHARE_MAX + 0.05).measured() == Spoilt("the device is slower than its line")
    measured(course(100 * MBIT, busy=BUSY_SHARE_MAX - 0.05))


def test_a_direction_has_its_time() -> None:
    begun = Course(5.0)
    assert begun.left_s(5.0) == RUN_S
    assert begun.left_s(5.0 + RUN_S) == 0
    assert begun.left_s(100.0) == 0


@pytest.mark.parametrize(
    ("household_bps", "expected"),
    [(None, UNSEEN), (0, QUIET), (HOUSEHOLD_SHARE_MAX * 20 * MBIT, QUIET), (0.06 * 22 * MBIT, USED), (5 * MBIT, USED)],
)
def test_who_uses_the_line_meanwhile_spoils_the_capacity(household_bps: float | None, expected: str) -> None:
    found = measured(course(20 * MBIT, household_bps=household_bps))
    assert found.household == expected
    quiet = Measured(100 * MBIT, None if expected == UNSEEN else 0)
    for result in (result_of(found, quiet, NOW), result_of(quiet, found, NOW)):
        assert result.household == expected
        assert result.counts == (expected != USED)
        assert result.estimates() == ([], []) or result.counts
        assert result.as_status()["counts"] == result.counts


def test_an_interface_that_counts_anew_has_not_seen_the_household() -> None:
    found = Course(0.0).after(Reading(2.0, 0, line_bytes=10**6)).after(Reading(8.0, 10**7, line_bytes=5))
    assert measured(found).household == UNSEEN


def test_what_something_on_the_way_took_is_no_upload() -> None:
    assert believed(1000, 1000)
    assert believed(1000, 900)
    assert not believed(1000, 899)


def test_the_result_is_kept_with_its_date() -> None:
    result = Result(20 * MBIT, 100 * MBIT, NOW, UNSEEN)
    kept = json.loads(json.dumps(stored(result)))
    assert restored(kept) == result
    [up], [down] = result.estimates()
    assert (up.bps, up.source, up.measured_at) == (20 * MBIT, "speedtest", NOW)
    assert down.bps == 100 * MBIT


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["up", "down", "household"]), inner),
    max_leaves=12,
)


@given(Json)
def test_what_cannot_be_read_is_measured_again(value: Any) -> None:
    found = restored(value)
    assert found is None or found.counts


def test_the_kernel_says_what_has_arrived_read_or_not() -> None:
    size = 50_000
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as sender,
        listening.accept()[0] as receiver,
    ):
        sender.sendall(bytes(size))
        while True:
            sent, came = carried_by(sender), carried_by(receiver)
            assert sent is not None
            assert came is not None
            # Some kernels count the opening packet as one byte.
            if came.down_bytes == size and size <= sent.up_bytes <= size + 1:
                break
        assert max(sent.down_bytes, came.up_bytes) <= 1
    assert carried_by(sender) is None


# ------------------------------------------------------------------ a real agent against a real server


@pytest.fixture(autouse=True)
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedtest_probe, "SETTLE_S", 0.01)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second instead of eighteen; and both ends share this process, so that its time says nothing of the device."""
    for name, value in (("RUN_S", 0.5), ("WARM_UP_S", 0.1), ("MEASURED_S_MIN", 0.05), ("BUSY_SHARE_MAX", 100.0)):
        monkeypatch.setattr(speedtest, name, value)


class World:
    def __init__(self, agent: Agent, server: ServerWorld, http: aiohttp.ClientSession, claim: str) -> None:
        self.agent = agent
        self.server = server
        self.http = http
        self.claim = claim

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - the agent's own loops move it on
                await asyncio.sleep(0.01)

    async def activate(self) -> None:
        self.agent.request(ActivationRequested(self.server.url, self.claim, "1", self.agent.now()))
        await self.until(lambda: self.agent.life.state == ACTIVE and self.agent._membership.online is not None)

    async def online(self) -> Any:
        await self.until(lambda: self.agent._membership.online is not None)
        return self.agent._membership.online

    async def ended(self) -> dict[str, Any]:
        await self.until(lambda: self.agent.status()["speedtest"]["state"] != "running")
        return dict(self.agent.status()["speedtest"])


def script(tmp_path: Path, *acts: Callable[[World], Awaitable[None]], **settings: Any) -> None:
    """Each act in an agent of its own on the same state."""
    config = Config(
        name="box",
        model="test",
        state_dir=tmp_path / "agent",
        lan=LanConfig(bind=("127.0.0.1",), port=0, mdns=False),
        line=LineConfig(interface="no-such-interface"),
        service=ServiceConfig(bind=("127.0.0.1",), port=0),
        process=ProcessConfig(spare_percent_min=0, temperature_c_max=0),
    )

    async def run() -> None:
        async with running_server(tmp_path / "server", speedtest=settings) as server:
            owner = await server.account("owner")
            claim = await server.claim(owner["token"])
            for act in acts:
                agent = Agent(config)
                running = asyncio.ensure_future(agent.run())
                await agent.listening.wait()
                try:
                    async with aiohttp.ClientSession() as http:
                        await act(World(agent, server, http, claim))
                finally:
                    agent.stop()
                    assert await running == 0

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE_S))


def test_a_whole_test_is_counted_kept_and_believed_through_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    seen: dict[str, Any] = {}

    async def first(world: World) -> None:
        await world.activate()
        online = await world.online()
        assert "speedtest" not in world.agent.status()
        assert world.agent.status()["line"]["capacity_source"] == "unknown"
        before = world.agent._controls.usage.month_bytes
        world.agent.start_speedtest(insist=False)
        assert world.agent.status()["speedtest"] == {"state": "running"}
        await world.until(lambda: online._sharing._held)
        assert online._pacer.rate_bps == 0
        assert online._sharing.download_bps() == 0
        with pytest.raises(RequestRefused) as caught:
            world.agent.start_speedtest(insist=True)
        assert caught.value.problem.type == "speedtest-running"
        found = await world.ended()
        assert found["state"] == "done", found
        assert (found["household"], found["counts"]) == ("unseen", True)
        seen.update(found)
        assert not online._sharing._held
        await world.until(lambda: online._pacer.rate_bps > 0)
        up, down = online._speedtest.wire_bytes()
        assert min(up, down) > 10**6
        await world.until(lambda: world.agent._controls.usage.month_bytes >= before + up + down)
        await world.until(lambda: world.agent.status()["line"]["capacity_source"] != "unknown")
        assert online._survey.capacity.up_bps == found["up_bps"]
        harm = online._sharing._harm
        assert harm.shared_s + sum(day.shared_s for day in harm.days) == 0, "the owner's own use is not our record's"

    async def second(world: World) -> None:
        online = await world.online()
        assert world.agent.status()["speedtest"] == seen
        capacity = online._survey.capacity
        assert (capacity.source, capacity.up_bps, capacity.measured_at) == (
            "speedtest",
            seen["up_bps"],
            seen["measured_at"],
        )
        assert (capacity.down_source, capacity.down_bps) == ("speedtest", seen["down_bps"])
        # The server's word: one in ten minutes.
        monkeypatch.setattr("fallow_server.fleet.speedtest.SPEEDTEST_S_MAX", 0)
        world.agent.start_speedtest(insist=False)
        found = await world.ended()
        assert (found["state"], found["error"]["type"]) == ("failed", "too-soon")
        assert online._survey.capacity.source == "speedtest"

    script(tmp_path, first, second)


def test_beside_a_busy_household_the_result_is_told_and_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)

    async def act(world: World) -> None:
        await world.activate()
        online = await world.online()
        line = [0]

        def carried() -> tuple[int, int]:
            line[0] += 10**9
            return line[0], line[0]

        online._speedtest._line_bytes = carried
        world.agent.start_speedtest(insist=False)
        found = await world.ended()
        assert (found["state"], found["household"], found["counts"]) == ("done", "used", False)
        assert found["up_bps"] > 0
        assert online._survey.capacity.source == "unknown"

    async def restarted(world: World) -> None:
        await world.online()
        assert "speedtest" not in world.agent.status()

    script(tmp_path, act, restarted)


def test_a_paused_device_tests_and_dear_bytes_need_insistence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)

    async def act(world: World) -> None:
        with pytest.raises(RequestRefused) as caught:
            world.agent.start_speedtest(insist=True)
        assert caught.value.problem.type == "not-active"
        await world.activate()
        online = await world.online()
        assert world.agent.request(PauseRequested(world.agent.now())).state == PAUSED
        world.agent.set_limits(Limits(monthly_bytes_max=0))
        with pytest.raises(RequestRefused) as caught:
            world.agent.start_speedtest(insist=False)
        assert caught.value.problem.detail == "This month's bytes are used up."
        online._survey.interface = "wwan0"
        await world.until(lambda: world.agent._controls.costs().startswith("The line costs money"))
        with pytest.raises(RequestRefused) as caught:
            world.agent.start_speedtest(insist=False)
        assert caught.value.problem.type == "speedtest-costs"
        world.agent.start_speedtest(insist=True)
        assert (await world.ended())["state"] == "done"

    script(tmp_path, act)


def test_a_server_that_offers_none_is_told_as_it_says(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        online = await world.online()
        world.agent.start_speedtest(insist=False)
        found = await world.ended()
        assert (found["state"], found["error"]["type"]) == ("failed", "no-speedtest")
        assert not online._sharing._held
        await world.server.app.close()
        world.agent.start_speedtest(insist=False)
        found = await world.ended()
        assert (found["state"], found["error"]["type"]) == ("failed", "speedtest-failed")
        assert "cannot be tested against" in found["error"]["detail"]

    script(tmp_path, act, at_once_max=0)


def test_an_agent_that_stops_during_a_test_stops_at_once(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        online = await world.online()
        world.agent.start_speedtest(insist=False)
        await world.until(lambda: online._speedtest.wire_bytes()[1] > 0)

    script(tmp_path, act)
    settings = Settings(open_database(tmp_path / "agent" / DATABASE_FILE))
    assert settings.get("speedtest") is None


def test_stored_rubbish_costs_the_result_alone(tmp_path: Path) -> None:
    settings = Settings(open_database(tmp_path / "a.sqlite"))
    settings.set("speedtest", {"up": [["speedtest", -1, 5]], "down": 3})
    taken: list[Any] = []
    probe = speedtest_probe.SpeedtestProbe(
        "http://127.0.0.1:9",
        "token",
        clock=Clock(),
        settings=settings,
        hold=taken.append,
        line_bytes=lambda: None,
        own_bytes=lambda: (0, 0),
        take=lambda up, down: taken.append((up, down)),
    )
    assert (probe.status, taken) == (None, [])
