"""The WebSocket of a device: hello, messages, limits, replacement, the end."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_server.fleet.connection import Connection
from fallow_server.fleet.live import LiveDevice
from fallow_server.fleet.records import Seen
from fallow_wire.session import (
    SUBPROTOCOL,
    Cancel,
    Challenge,
    Content,
    Policy,
    TaskStatus,
    sign_hello,
)
from heartbeats import plain
from server_world import FakeDevice, MovableClock, ServerWorld, heartbeat, running_server
from support import key

A, B, C = "a" * 64, "b" * 64, "c" * 64


class Recorder:
    """A fleet observer that keeps what it hears; ``next`` waits for it."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def connected(self, device_id: str) -> None:
        self.heard.put_nowait(("connected", device_id))

    async def lost(self, device_id: str) -> None:
        self.heard.put_nowait(("lost", device_id))

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        self.heard.put_nowait(("task_status", status))

    async def content_changed(self, device_id: str) -> None:
        self.heard.put_nowait(("content_changed", device_id))

    async def reported(self, device_id: str) -> None:
        self.heard.put_nowait(("reported", device_id))

    async def next(self) -> tuple[Any, ...]:
        async with asyncio.timeout(10):
            return await self.heard.get()


def observe(world: ServerWorld) -> Recorder:
    # A dial-back reports what it found in its own time, and what is tested here are sessions.
    world.scheduler.fleet.observers.remove(world.scheduler.dial_backs)
    recorder = Recorder()
    world.scheduler.fleet.observers.append(recorder)
    return recorder


def test_what_a_device_says_is_seen_and_passed_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            heard = observe(world)
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])
            assert await heard.next() == ("connected", device.device_id)
            live = world.scheduler.fleet.get(device.device_id)
            assert live is not None
            assert (live.owner, live.heartbeat, live.remote_address) == (owner["id"], None, "127.0.0.1")

            await device.send(heartbeat())
            assert await heard.next() == ("reported", device.device_id)
            assert live.heartbeat is not None
            assert plain(live.heartbeat) == heartbeat()
            assert b"fallow_idle_up_bps 3e+07" in await world.scheduler.metrics.text()
            await device.send(Content((A, B), ()))
            await device.send(Content((C,), (A,)))
            await device.send(Content((A,), (), True))
            for expected in ({A, B}, {B, C}, {A}):
                assert await heard.next() == ("content_changed", device.device_id)
                del expected  # several may be there at once; the last state is what counts
            assert live.content == {A}
            status = TaskStatus("task-1", "running", 5)
            await device.send(status)
            assert await heard.next() == ("task_status", status)

            await live.send(Cancel("task-1"))
            assert await device.receive() == Cancel("task-1")
            await device.close()
            assert await heard.next() == ("lost", device.device_id)
            assert world.scheduler.fleet.get(device.device_id) is None
            with pytest.raises(ConnectionError):
                await live.send(Cancel("task-1"))

    asyncio.run(run())


def test_a_refused_hello_closes_with_4401(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, session={"hello_timeout_s": 1}) as world:
            owner = await world.account("owner")
            assert await (await world.dial(key(1))).closed() == 4401, "unknown"
            await world.enrol(key(1), await world.claim(owner["token"]))
            async with world.http.ws_connect(f"{world.url}/v1/session", protocols=(SUBPROTOCOL,)) as socket:
                device = FakeDevice(key(1), socket)
                challenge = await device.receive()
                assert isinstance(challenge, Challenge)
                stale = Challenge("A" * 32, challenge.now)
                await device.send(sign_hello(stale, f"127.0.0.1:{world.app.scheduler_port}", key(1), "0.1.0"))
                assert await device.closed() == 4401, "another nonce"
            for first in ("not json", '{"type":"heartbeat"}', "[]"):
                async with world.http.ws_connect(f"{world.url}/v1/session", protocols=(SUBPROTOCOL,)) as socket:
                    await socket.send_str(first)
                    assert await FakeDevice(key(1), socket).closed() == 4401, first
            async with world.http.ws_connect(f"{world.url}/v1/session", protocols=(SUBPROTOCOL,)) as socket:
                assert await FakeDevice(key(1), socket).closed() == 4401, "silence"
            impostor = await world.dial(key(2))
            assert await impostor.closed() == 4401
            path = f"/v1/devices/{key(1).public.device_id()}"
            assert (await world.call("DELETE", path, owner["token"])).status == 204
            assert await (await world.dial(key(1))).closed() == 4401, "unbound"
            assert len(world.scheduler.fleet) == 0

    asyncio.run(run())


def test_a_hello_for_another_host_is_a_relay_and_refused(tmp_path: Path) -> None:
    async def dial(world: ServerWorld, signed_host: str, host_header: str) -> FakeDevice:
        socket = await world.http.ws_connect(
            f"{world.url}/v1/session", protocols=(SUBPROTOCOL,), headers={"Host": host_header}
        )
        device = FakeDevice(key(1), socket)
        challenge = await device.receive()
        assert isinstance(challenge, Challenge)
        await device.send(sign_hello(challenge, signed_host, key(1), "0.1.0"))
        return device

    async def run() -> None:
        http = {"scheduler_url": "https://fallow.example", "names": ["other.example:32550"]}
        async with running_server(tmp_path, http=http) as world:
            await world.enrol(key(1), await world.claim((await world.account("owner"))["token"]))
            true = f"127.0.0.1:{world.app.scheduler_port}"
            for host in ("fallow.example", "fallow.example:443", "other.example:32550", true):
                # A proxy may pass any Host header on: what the device signed is what counts.
                device = await dial(world, host, "backend.internal")
                assert isinstance(await device.receive(), Policy), host
                await device.close()
            for host in ("evil.example", "fallow.example:80", "other.example"):
                assert await (await dial(world, host, host)).closed() == 4401, host

    asyncio.run(run())


def test_a_newer_session_takes_the_place_of_the_older(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            heard = observe(world)
            older = await world.new_device(key(1), (await world.account("owner"))["token"])
            await older.send(heartbeat())
            newer = await world.connect(key(1))
            assert await older.closed() == 4409
            await newer.send(heartbeat(state="paused"))
            seen = [await heard.next() for _ in range(4)]
            assert [one[0] for one in seen] == ["connected", "reported", "connected", "reported"], "and never lost"
            live = world.scheduler.fleet.get(newer.device_id)
            assert live is not None
            assert live.heartbeat is not None
            assert live.heartbeat.state == "paused"
            assert len(world.scheduler.fleet) == 1

    asyncio.run(run())


def test_unbinding_ends_the_session(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])
            assert (await world.call("DELETE", f"/v1/devices/{device.device_id}", owner["token"])).status == 204
            assert await device.closed() == 4401
            assert (await world.call("GET", "/v1/devices", owner["token"])).json == []

    asyncio.run(run())


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            heard = observe(world)
            device = await world.new_device(key(1), (await world.account("owner"))["token"])
            await heard.next()
            for text in (
                "",
                "{",
                '{"type":"of tomorrow"}',
                '{"type":"content","added":["x"],"dropped":[]}',
                "[" * 9000,
            ):
                await device.socket.send_str(text)
            await device.send(heartbeat())
            assert await heard.next() == ("reported", device.device_id)

    asyncio.run(run())


def test_what_a_device_says_is_dealt_with_in_its_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            heard = observe(world)
            device = await world.new_device(key(1), (await world.account("owner"))["token"])
            said = (heartbeat(), Content((A,), ()), heartbeat(), heartbeat(), TaskStatus("t", "done"))
            for one in said:
                await device.send(one)
            seen = [(await heard.next())[0] for _ in range(6)]
            assert seen == ["connected", "reported", "content_changed", "reported", "reported", "task_status"]
            await device.send(heartbeat(state="paused"))
            await device.close()
            assert [(await heard.next())[0] for _ in range(2)] == ["reported", "lost"]

    asyncio.run(run())


def test_a_heartbeat_that_cannot_be_dealt_with_ends_its_session_alone(tmp_path: Path) -> None:
    class Broken(Recorder):
        async def reported(self, device_id: str) -> None:
            if device_id == key(1).public.device_id():
                raise ZeroDivisionError

    async def run() -> None:
        async with running_server(tmp_path) as world:
            world.scheduler.fleet.observers.append(Broken())
            heard = observe(world)
            owner = (await world.account("owner"))["token"]
            first, second = await world.new_device(key(1), owner), await world.new_device(key(2), owner)
            await first.send(heartbeat())
            await second.send(heartbeat())
            assert await first.closed() == 1011
            while (one := await heard.next()) != ("reported", second.device_id):
                assert one[0] in ("connected", "lost")

    asyncio.run(run())


def test_limits_of_a_session(tmp_path: Path) -> None:
    async def run() -> None:
        limits = {"messages_burst": 5, "content_objects_max": 3}
        async with running_server(tmp_path, session=limits) as world:
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])
            for _ in range(7):
                await device.send(heartbeat())
            assert await device.closed() == 4429, "messages"
            device = await world.connect(key(1))
            await device.send(Content((A, B, C, "d" * 64), ()))
            assert await device.closed() == 4429, "objects"
            device = await world.connect(key(1))
            await device.socket.send_str("x" * (128 * 1024 + 1))
            assert await device.closed() == 1009
            device = await world.connect(key(1))
            await device.socket.send_bytes(b"{}")
            assert await device.closed() == 1003

    asyncio.run(run())


def test_what_a_session_leaves_dies_by_itself(tmp_path: Path) -> None:
    """A running server does not look for cycles among what has lived for long (garbage.py)."""

    def left() -> dict[str, int]:
        names = Counter(type(one).__name__ for one in gc.get_objects())
        return {name: names[name] for name in ("LiveDevice", "WebSocketResponse", "Heartbeat", "Request", "Task")}

    async def run() -> None:
        async with running_server(tmp_path) as world:
            heard = observe(world)
            owner = await world.account("owner")

            async def sessions(first: int, count: int) -> None:
                for number in range(first, first + count):
                    device = await world.new_device(key(number), owner["token"])
                    await device.send(heartbeat())
                    await device.send(Content((A, B), (), True))
                    while await heard.next() != ("content_changed", device.device_id):
                        pass
                    if number % 2:
                        await device.close()
                    else:
                        assert device.socket._response.connection is not None
                        device.socket._response.connection.transport.abort()
                    while await heard.next() != ("lost", device.device_id):
                        pass
                await world.scheduler.sessions.remember()
                await asyncio.sleep(0)

            gc.disable()
            try:
                await sessions(1, 2)  # what is made once is there
                gc.collect()
                before = left()
                await sessions(3, 8)
                after = left()
            finally:
                gc.enable()
            for name in ("LiveDevice", "WebSocketResponse", "Heartbeat"):
                assert after[name] == before[name], (name, before, after)
            # The last calls of this test itself may still be there.
            assert after["Request"] - before["Request"] <= 1
            assert after["Task"] - before["Task"] <= 2

    asyncio.run(run())


def test_a_plain_get_is_told_what_is_wanted(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            answer = await world.call("GET", "/v1/session")
            assert (answer.status, answer.slug) == (400, "subprotocol-missing")
            answer = await world.call("GET", "/v1/session", headers={"Sec-WebSocket-Protocol": SUBPROTOCOL})
            assert answer.status == 400
            assert answer.slug
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await world.http.ws_connect(f"{world.url}/v1/session", protocols=("fallow.v9",))

    asyncio.run(run())


def test_what_was_seen_outlives_the_session_and_the_server(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            heard = observe(world)
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])
            await device.send(heartbeat(state="paused", version="9.9"))
            await heard.next(), await heard.next()
            (listed,) = (await world.call("GET", "/v1/devices", owner["token"])).json
            assert listed["connected"] is True
            assert (listed["state"], listed["version"]) == ("paused", "9.9")
            operator_token = world.operator_token
            closing = asyncio.create_task(device.closed(), name="device")
            await world.app.close()
            assert await closing == 1012, "a server that stops says that it will be back"
        async with running_server(tmp_path, operator_token=operator_token) as world:
            (listed,) = (await world.call("GET", "/v1/devices", world.operator_token)).json
            assert listed["connected"] is False
            assert (listed["state"], listed["version"], listed["owner"]) == ("paused", "9.9", owner["id"])
            assert listed["last_seen"] >= listed["bound_at"]
            await world.connect(key(1))

    asyncio.run(run())


def test_the_database_hears_what_is_news_and_now_and_then_of_who_stays(tmp_path: Path) -> None:
    """Not of each heartbeat: with a hundred thousand devices that would be most of what it writes."""

    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            heard, sessions = observe(world), world.scheduler.sessions
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])
            told: list[str] = []
            records = sessions._records

            async def remember(seen: Mapping[str, Seen]) -> None:
                told.extend(one.state for one in seen.values())

            records.remember = remember  # type: ignore[method-assign]

            async def beat(**said: str) -> None:
                await device.send(heartbeat(**said))
                while await heard.next() != ("reported", device.device_id):
                    pass
                await sessions.remember()

            await beat()
            await beat()
            assert told == ["active"]
            await beat(state="paused")
            assert told[1:] == ["paused"]
            clock.moved_s += 590
            await beat(state="paused")
            assert told[2:] == []
            clock.moved_s += 10
            await beat(state="paused")
            assert told[2:] == ["paused"]
            await device.close()
            while await heard.next() != ("lost", device.device_id):
                pass
            await sessions.remember()
            assert told[3:] == ["paused"]

    asyncio.run(run())


async def send_on(live: LiveDevice) -> None:
    """More than the kernel's buffers hold."""
    for _ in range(500):
        await live.send(Cancel("task-1", "x" * 60_000))


def test_a_device_that_takes_nothing_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, session={"send_timeout_s": 1}) as world:
            heard = observe(world)
            device = await world.new_device(key(1), (await world.account("owner"))["token"])
            await heard.next()
            live = world.scheduler.fleet.get(device.device_id)
            assert live is not None
            # The client reads on into its buffers; pausing its transport is what a dead line looks like.
            connection = device.socket._response.connection  # type: ignore[attr-defined]
            connection.transport.pause_reading()
            with pytest.raises(ConnectionError):
                await send_on(live)
            assert await heard.next() == ("lost", device.device_id)
            connection.transport.abort()

    asyncio.run(run())


def test_a_device_without_a_word_is_asked_and_then_cut(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            heard, pulse = observe(world), world.scheduler.sessions.feel_pulse
            owner = (await world.account("owner"))["token"]
            # A client answers pings while it reads; the second one does not.
            awake, asleep = await world.new_device(key(1), owner), await world.new_device(key(2), owner)
            reading = asyncio.create_task(awake.closed(), name="reads on")
            await heard.next(), await heard.next()
            clock.moved_s += 29
            await pulse()
            assert not asked(world)
            clock.moved_s += 1
            await pulse()
            assert len(asked(world)) == 2
            while len(asked(world)) != 1:  # noqa: ASYNC110  # until the answer of the one is there
                await asyncio.sleep(0.01)
            clock.moved_s += 14
            await pulse()
            assert len(world.scheduler.fleet) == 2
            clock.moved_s += 1
            await pulse()
            assert await heard.next() == ("lost", asleep.device_id)
            assert world.scheduler.fleet.get(awake.device_id) is not None
            await world.app.close()
            assert await reading == 1012
            await asleep.close()

    asyncio.run(run())


def asked(world: ServerWorld) -> list[Connection]:
    """Connections whose answer to a ping is waited for."""
    return [connection for connection in world.scheduler.sessions._open if connection._ping is not None]


def test_strangers_who_say_no_hello_leave_room(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, session={"strangers_per_caller_max": 3}) as world:
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])  # greeted: it is no stranger any more
            mute = [await world.http.ws_connect(f"{world.url}/v1/session", protocols=(SUBPROTOCOL,)) for _ in range(3)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await world.http.ws_connect(f"{world.url}/v1/session", protocols=(SUBPROTOCOL,))
            assert refused.value.status == 503
            for socket in mute:
                await socket.close()
            await device.close()
            await (await world.connect(key(1))).close()

    asyncio.run(run())
