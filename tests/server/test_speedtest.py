"""The other end of speed tests, over real sockets: what it reads and gives, and whom it turns away."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from fallow_server.fleet import speedtest
from fallow_server.fleet.speedtest import DOWN, SEEN_S_MIN, UP, SpeedtestConfig, Speedtests, Window
from fallow_server.http import ApiProblem
from fallow_wire.limits import MIB, SPEEDTEST_BYTES_MAX, SPEEDTEST_S_MAX, SPEEDTEST_STREAMS_MAX
from server_world import MovableClock, ServerWorld, running_server
from support import PATIENCE_S, key

PATH = "/v1/speedtest"


class World:
    def __init__(self, server: ServerWorld, clock: MovableClock, owner: str) -> None:
        self.server = server
        self.clock = clock
        self.owner = owner

    async def device(self, number: int) -> str:
        """The token of a new device of the owner."""
        enrolled = await self.server.enrol(key(number), await self.server.claim(self.owner))
        return str(enrolled.json["ledger_token"])

    def get(self, token: str, size: int | str) -> aiohttp.client._RequestContextManager:
        headers = {"Authorization": f"Bearer {token}"}
        return self.server.http.get(f"{self.server.url}{PATH}?bytes={size}", headers=headers)


def script(tmp_path: Path, act: Callable[[World], Awaitable[None]], **settings: int) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock, speedtest=settings) as server:
            owner = await server.account("owner")
            await act(World(server, clock, owner["token"]))

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE_S))


def refused(tests: Speedtests, device: str, direction: str, now: float) -> tuple[str, int]:
    with pytest.raises(ApiProblem) as caught, tests.stream(device, direction, now):
        pass
    assert caught.value.problem.status == 429
    return caught.value.problem.type, int(caught.value.headers["Retry-After"])


# ------------------------------------------------------------------ who may, and when


def test_a_test_has_its_streams_each_way_and_then_the_device_waits() -> None:
    tests = Speedtests(SpeedtestConfig(interval_s=600))
    with tests.stream("a", DOWN, 100.0), tests.stream("a", DOWN, 100.1), tests.stream("a", DOWN, 100.2):
        with tests.stream("a", DOWN, 100.3):
            assert SPEEDTEST_STREAMS_MAX == 4
            assert refused(tests, "a", DOWN, 101.0) == ("too-many", SPEEDTEST_S_MAX - 1)
            with tests.stream("a", UP, 101.0):
                pass
        with tests.stream("a", DOWN, 102.0):
            pass
    assert refused(tests, "a", UP, 100.0 + SPEEDTEST_S_MAX) == ("too-soon", 600 - SPEEDTEST_S_MAX)
    assert refused(tests, "a", UP, 699.5) == ("too-soon", 1)
    with tests.stream("a", UP, 700.0):
        pass


def test_few_test_at_once_and_none_where_it_is_turned_off() -> None:
    tests = Speedtests(SpeedtestConfig(at_once_max=2))
    for device, now in (("a", 0.0), ("b", 10.0)):
        with tests.stream(device, UP, now):
            pass
    assert refused(tests, "c", UP, 20.0) == ("too-many", SPEEDTEST_S_MAX - 20)
    with tests.stream("a", DOWN, 20.0):
        pass
    with tests.stream("c", UP, float(SPEEDTEST_S_MAX)):
        pass
    with pytest.raises(ApiProblem) as caught, Speedtests(SpeedtestConfig(at_once_max=0)).stream("a", UP, 0.0):
        pass
    assert (caught.value.problem.status, caught.value.problem.type) == (404, "no-speedtest")


def test_the_bytes_of_a_test_are_counted_over_its_streams() -> None:
    tests = Speedtests(SpeedtestConfig())
    with tests.stream("a", UP, 0.0) as window:
        window.carried[UP] += SPEEDTEST_BYTES_MAX
        assert refused(tests, "a", UP, 1.0)[0] == "too-many"
        with tests.stream("a", DOWN, 1.0):
            pass


def test_what_is_remembered_of_devices_is_forgotten() -> None:
    tests = Speedtests(SpeedtestConfig(interval_s=600))
    for number in range(100):
        with tests.stream(f"d{number}", UP, number * 100.0):
            assert len(tests._windows) <= 6


# ------------------------------------------------------------------ the bytes


def test_the_sink_tells_what_came_and_the_source_gives_what_is_asked_for(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = await world.device(1)
        answer = await world.server.call("POST", PATH, token, data=b"x" * (3 * MIB))
        assert answer.status == 200
        assert answer.json["bytes"] == 3 * MIB
        assert 0 <= answer.json["ms"] < PATIENCE_S * 1000
        assert answer.headers["Cache-Control"] == "no-store"
        async with world.get(token, 2 * MIB + 1) as response:
            assert response.headers["Cache-Control"] == "no-store, no-transform"
            assert len(await response.read()) == 2 * MIB + 1
        for size in ("", "0", "-1", "1.5", str(SPEEDTEST_BYTES_MAX + 1), "9" * 20):
            async with world.get(token, size) as response:
                assert response.status == 400

    script(tmp_path, act)


def test_a_second_test_is_for_later_and_another_device_tests_meanwhile(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        first, second = await world.device(1), await world.device(2)
        assert (await world.server.call("POST", PATH, first)).status == 200
        world.clock.moved_s = SPEEDTEST_S_MAX
        answer = await world.server.call("POST", PATH, first)
        assert (answer.status, answer.slug) == (429, "too-soon")
        assert 0 < int(answer.headers["Retry-After"]) <= 600 - SPEEDTEST_S_MAX
        assert (await world.server.call("POST", PATH, second)).status == 200
        world.clock.moved_s = 600
        assert (await world.server.call("POST", PATH, first)).status == 200

    script(tmp_path, act)


def test_over_its_bytes_the_sink_refuses_and_the_source_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedtest, "SPEEDTEST_BYTES_MAX", MIB)

    async def act(world: World) -> None:
        token = await world.device(1)
        async with world.get(token, MIB) as response:
            assert len(await response.read()) == MIB
        answer = await world.server.call("GET", f"{PATH}?bytes=1", token)
        assert (answer.status, answer.slug) == (429, "too-many")
        answer = await world.server.call("POST", PATH, token, data=b"x" * (MIB + 1))
        assert (answer.status, answer.slug) == (413, "too-large")

    script(tmp_path, act)


def test_who_takes_too_long_is_cut_at_the_end_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedtest, "SPEEDTEST_S_MAX", 0.2)

    async def read_slowly(response: aiohttp.ClientResponse) -> None:
        async for _ in response.content.iter_any():
            await asyncio.sleep(0.01)  # slower than it comes: it would go on for minutes

    async def act(world: World) -> None:
        async with world.get(await world.device(1), SPEEDTEST_BYTES_MAX) as response:
            with pytest.raises(aiohttp.ClientError):
                await read_slowly(response)

    script(tmp_path, act)


def test_no_memory_grows_with_the_bytes(tmp_path: Path) -> None:
    size = 256 * MIB

    async def pieces() -> object:
        for _ in range(size // MIB):
            yield bytes(MIB)

    async def act(world: World) -> None:
        token = await world.device(1)
        tracemalloc.start()
        answer = await world.server.call("POST", PATH, token, data=pieces())
        assert answer.json["bytes"] == size
        async with world.get(token, size) as response:
            count = 0
            async for piece in response.content.iter_any():
                count += len(piece)
        assert count == size
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < size // 8

    script(tmp_path, act)


def test_what_a_line_was_seen_to_carry_is_of_all_streams_and_of_long_enough() -> None:
    window = Window(10)
    assert window.seen_bps(20) is None, "nothing came"
    window.came_at = 11
    window.carried[UP] = 10_000_000
    assert window.seen_bps(11 + SEEN_S_MIN / 2) is None, "buffers on the way hold more than the line carries"
    assert window.seen_bps(15) == 20_000_000
