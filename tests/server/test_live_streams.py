"""Live tasks: an origin is followed, devices are told, and players see what has arrived. In real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from delivery_harness import ALICE, BOB, HandDevice, Harness, origin_server, run, running, until
from encoder import Encoder
from fallow_server.catalogue.config import Config
from fallow_server.streaming import broadcast
from fallow_server.streaming.config import Config as StreamingConfig
from fallow_server.streaming.courier import Parcel
from fallow_server.tasks.config import Config as TaskConfig
from fallow_server.tasks.model import NetworkTask
from fallow_wire.manifest import verify_manifest
from fallow_wire.session import Cancel, Task
from server_world import MovableClock
from support import PATIENCE_S

T = TypeVar("T")
OPEN = Config(disk_free_bytes_min=0, allow_private_addresses=True)
PARTS: dict[str, Any] = {
    "catalogue": OPEN,
    "tasks": TaskConfig(gap_s=0.01, tick_s=0.2),
    "streaming": StreamingConfig(live_retry_s=0.1, live_window_s=4),
}
SERVICES = ("object", "fill", "live")


def live_text(first: int, count: int, *, ended: bool = False) -> str:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number in range(first, first + count):
        lines += ["#EXTINF:1,", f"{number}.ts"]
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else []), ""])


class Station:
    """An encoder, and a server that carries its stream."""

    def __init__(self, server: Harness, encoder: Encoder, url: str) -> None:
        self.server = server
        self.encoder = encoder
        self.url = url

    def shows(self, first: int, count: int, *, ended: bool = False) -> None:
        for number in range(first, first + count):
            self.encoder.files[f"/media/live/{number}.ts"] = b"segment %d" % number
        self.encoder.files["/media/live/index.m3u8"] = live_text(first, count, ended=ended)

    async def add(self, **more: Any) -> dict[str, Any]:
        body = {"kind": "live", "parameters": {"playlist": f"{self.url}/media/live/index.m3u8"}, **more}
        found: dict[str, Any] = (await self.server.call("POST", "/v1/tasks", json=body, status=201)).json()
        return found

    async def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.server.call("GET", f"/v1/tasks/{task_id}", status=200)).json()
        return found

    async def text(self) -> str:
        answer = await self.server.call("GET", "/s/tv/live/index.m3u8", who=None)
        return answer.body.decode() if answer.status == 200 else ""

    async def until(self, ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
        """Ask until the answer is good, at most 30 s: what is waited for is the server's to bring about."""
        async with asyncio.timeout(PATIENCE_S):
            while not good(answer := await ask()):  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.05)
        return answer

    async def until_shown(self, number: int) -> str:
        return await self.until(self.text, lambda text: f"{number}.ts" in text)

    async def until_task(self, task_id: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return await self.until(lambda: self.task(task_id), good)

    def keys(self) -> dict[str, Any]:
        key = self.server.keys.current
        return {key.public.thumbprint(): key.public}


def open_on(task: dict[str, Any]) -> set[str]:
    return {one["device"] for one in task["placements"] if one["state"] in ("placed", "running")}


def running_on(task: dict[str, Any]) -> set[str]:
    return {one["device"] for one in task["placements"] if one["state"] == "running"}


async def joined(station: Station, number: int, task_id: str) -> HandDevice:
    device = await station.server.device(number, services=SERVICES)
    await until(lambda: any(isinstance(one, Task) and one.id == task_id for one in device.received))
    order = next(one for one in device.received if isinstance(one, Task))
    assert (order.kind, order.object, order.sources) == ("live", None, ())
    await device.says(task_id, "running")
    # Heard of in the next round; before that it is not offered segments.
    await station.until_task(task_id, lambda task: device.id in running_on(task))
    return device


def segment(device: HandDevice, number: int) -> Task | None:
    """The order for a segment, when the device has it."""
    orders = (one for one in device.received if isinstance(one, Task) and one.sources)
    return next((one for one in orders if one.sources[-1].url.endswith(f"/{number}.ts?source=origin&fill=1")), None)


def with_station(tmp_path: Path, script: Any, **parts: Any) -> None:
    async def inner(server: Harness) -> None:
        encoder = Encoder()
        async with origin_server(encoder) as url:
            await server.call("POST", "/v1/sites", json={"name": "tv", "origin": url + "/media/"}, status=201)
            await script(Station(server, encoder, url))

    run(tmp_path / "state", inner, **{**PARTS, "clock": MovableClock(), **parts})


def test_segments_reach_devices_and_then_players(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2)
        task = await station.add(replicas=3)
        assert task["parameters"] == {
            "playlist": f"{station.url}/media/live/index.m3u8",
            "address": f"{station.server.url}/s/tv/live/index.m3u8",
        }
        assert (task["replicas"], task["needs"]["service"]) == (3, "live")
        devices = [await joined(station, number, task["id"]) for number in (1, 2, 3)]
        assert "live" not in (await station.server.device(4, services=("object", "fill"))).received
        station.shows(0, 3)
        await until(lambda: all(segment(device, 2) is not None for device in devices))
        order = segment(devices[0], 2)
        assert order is not None
        object_id = order.object or ""
        assert (order.id, order.kind) == (task["id"], "live")
        manifest = verify_manifest(order.manifest or "", station.keys(), object_id)
        assert manifest.manifest.size == len(b"segment 2")
        assert (order.deadline or 0) > station.server.clock.now()
        await devices[0].holds(object_id)
        text = await station.until_shown(2)
        assert f"/o/{object_id}/2.ts" in text
        assert station.encoder.asked.count("/media/live/2.ts") == 1
        # A player who asks for it is sent to the device.
        answer = await station.server.call("GET", f"/o/{object_id}/2.ts", who=None, status=302)
        assert "?ticket=" in answer.headers["Location"]

    with_station(tmp_path, script)


def test_a_segment_goes_to_two_devices_and_from_those_to_the_rest(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"segment", "1.ts", more="&replicas=0")
        published = await server.catalogue.catalogue.own(object_id, ALICE)
        assert published is not None
        devices = [await server.device(number, services=SERVICES) for number in range(1, 6)]
        task = NetworkTask("stream", ALICE, "live", "", 0, 4, 2**40, 0)
        for device in devices:
            task.place(device.id, 0)
        for device in devices[:4]:
            task.placements[device.id].move("running", 0)
        courier = server.streaming.courier
        delivery = asyncio.create_task(courier.deliver(task, Parcel(published, 2**40), turn=7, patience_s=1000))
        await until(lambda: segment(devices[3], 1) is not None and segment(devices[0], 1) is not None)
        assert [segment(device, 1) is not None for device in devices] == [True, False, False, True, False]
        await devices[3].holds(object_id)
        await delivery
        for device in devices[1:3]:
            order = segment(device, 1)
            assert order is not None
            assert [source.ticket is not None for source in order.sources] == [True, False]
            assert order.sources[0].url.startswith("http://203.0.113.4:32557/o/")
        # Where none of the first has it in time, nobody waits for them any longer.
        late = asyncio.create_task(courier.deliver(task, Parcel(published, 2**40), turn=0, patience_s=0))
        await late
        assert segment(devices[4], 1) is None, "it has not joined"

    run(tmp_path / "state", script)


def test_nobody_waits_for_a_device_that_takes_no_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Harness) -> None:
        published = await server.catalogue.catalogue.own(
            await server.publish(b"segment", "1.ts", more="&replicas=0"), ALICE
        )
        assert published is not None
        devices = [await server.device(number, services=SERVICES) for number in range(1, 5)]
        task = NetworkTask("stream", ALICE, "live", "", 0, 4, 2**40, 0)
        for device in devices:
            task.place(device.id, 0)
            task.placements[device.id].move("running", 0)
        courier, send, never = server.streaming.courier, server.streaming.courier._send, asyncio.Event()

        async def slow(device: Any, *what: Any) -> None:
            if device.device_id == devices[0].id:
                await never.wait()
            await send(device, *what)

        monkeypatch.setattr(courier, "_send", slow)
        delivery = asyncio.create_task(courier.deliver(task, Parcel(published, 2**40), turn=0, patience_s=0.01))
        await until(lambda: all(segment(device, 1) is not None for device in devices[1:]))
        never.set()
        await delivery

    run(tmp_path / "state", script)


def test_without_devices_a_stream_plays_from_here(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(5, 3)
        await station.add()
        text = await station.until_shown(7)
        paths = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(paths) == 3
        for number, path in enumerate(paths, 5):
            assert path.startswith("/o/")
            answer = await station.server.call("GET", path, who=None, status=200)
            assert answer.body == b"segment %d" % number

    with_station(tmp_path, script)


def test_a_stream_that_ends_ends_its_task_and_leaves_nothing(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2, ended=False)
        task = await station.add()
        device = await joined(station, 1, task["id"])
        station.shows(0, 2, ended=True)
        assert (await station.until_shown(1)).endswith("#EXT-X-ENDLIST\n")
        await station.until_task(task["id"], lambda told: told["state"] == "done")
        await until(lambda: any(isinstance(one, Cancel) for one in device.received))
        lives = station.server.streaming.lives
        await lives.sweep()
        assert len((await station.server.call("GET", "/v1/objects")).json()) == 1, "for players that are late"
        station.server.clock.moved_s = 60
        await lives.sweep()
        assert (await station.server.call("GET", "/v1/objects")).json() == []

    with_station(tmp_path, script, streaming=StreamingConfig(live_retry_s=0.1, live_window_s=1))


def test_an_origin_that_is_away_is_told_and_waited_for(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2)
        task = await station.add()
        await station.until_shown(1)
        station.encoder.broken = True
        await station.until_task(task["id"], lambda told: "500" in told.get("reason", ""))
        station.encoder.broken = False
        station.shows(0, 3)
        await station.until_shown(2)
        await station.until_task(task["id"], lambda told: "reason" not in told)
        await station.server.call("DELETE", f"/v1/tasks/{task['id']}", status=200)
        assert (await station.task(task["id"]))["state"] == "cancelled"

    with_station(tmp_path, script)


def test_a_device_that_goes_is_replaced_and_one_too_many_is_let_go(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2)
        task = await station.add(replicas=1)
        first = await joined(station, 1, task["id"])
        await first.leave()
        second = await joined(station, 2, task["id"])
        await first.connect()
        await station.until_task(task["id"], lambda told: len(running_on(told)) == 1)
        # One whose owner pauses it is as good as gone.
        (left,) = running_on(await station.task(task["id"]))
        paused, other = (first, second) if left == first.id else (second, first)
        await paused.beat(state="paused")
        await station.until_task(task["id"], lambda told: other.id in open_on(told))

    with_station(tmp_path, script)


def test_a_stream_of_several_qualities_is_followed_whole(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2)
        station.encoder.files["/media/low/index.m3u8"] = live_text(0, 1)
        station.encoder.files["/media/low/0.ts"] = b"low 0"
        station.encoder.files["/media/all.m3u8"] = (
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2\nlive/index.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/index.m3u8\n"
        )
        await station.add(parameters={"playlist": f"{station.url}/media/all.m3u8"})
        assert "/o/" in await station.until_shown(1)
        answer = await station.server.call("GET", "/s/tv/all.m3u8", who=None, status=200)
        assert "/s/tv/low/index.m3u8" in answer.body.decode()
        low = await station.server.call("GET", "/s/tv/low/index.m3u8", who=None, status=200)
        assert "/o/" in low.body.decode()

    with_station(tmp_path, script)


def test_a_removed_site_ends_its_stream(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2)
        task = await station.add()
        await station.until_shown(1)
        await station.server.call("DELETE", "/v1/sites/tv", status=204)
        await station.server.streaming.lives.sweep()
        found = await station.until_task(task["id"], lambda told: told["state"] == "failed")
        assert "site" in found["reason"]

    with_station(tmp_path, script)


def test_a_stream_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def script() -> None:
        encoder = Encoder()
        async with origin_server(encoder) as url:
            for life in (1, 2):
                async with running(tmp_path / "state", **{**PARTS, "clock": MovableClock()}) as server:
                    station = Station(server, encoder, url)
                    station.shows(life, 3)
                    if life == 1:
                        site = {"name": "tv", "origin": url + "/media/"}
                        await server.call("POST", "/v1/sites", json=site, status=201)
                        await station.add()
                    await station.until(station.text, lambda text: f"/{life + 2}.ts" in text and "/o/" in text)  # noqa: B023
                    names = [one["name"] for one in (await server.call("GET", "/v1/objects")).json()]
                    assert sorted(names) == [f"{number}.ts" for number in range(life, life + 3)], "of this life only"

    asyncio.run(script())


def test_what_is_no_live_stream_is_refused(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        good = f"{station.url}/media/live/index.m3u8"
        station.shows(0, 2)
        station.encoder.files["/media/page.m3u8"] = "<html>"
        station.encoder.files["/media/away.m3u8"] = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://other.test/a.m3u8\n"
        station.encoder.files["/media/film.m3u8"] = live_text(0, 1, ended=True)

        async def refused(body: dict[str, Any], who: str = ALICE) -> tuple[int, str]:
            answer = await station.server.call("POST", "/v1/tasks", json={"kind": "live", **body}, who=who)
            return answer.status, answer.problem

        def playing(address: str) -> dict[str, Any]:
            return {"parameters": {"playlist": address}}

        assert await refused({}) == (400, "malformed")
        assert await refused({"parameters": {"playlist": good, "more": "x"}}) == (400, "malformed")
        assert await refused({**playing(good), "object": "a" * 64}) == (400, "malformed")
        assert await refused({**playing(good), "replicas": 65}) == (400, "malformed")
        assert await refused(playing(good), who=BOB) == (400, "not-below-site")
        assert await refused(playing(good + "?x=1")) == (400, "not-below-site")
        assert await refused(playing(f"{station.url}/media/page.mp4")) == (400, "not-below-site")
        assert await refused(playing(f"{station.url}/media/page.m3u8")) == (400, "bad-playlist")
        assert await refused(playing(f"{station.url}/media/away.m3u8")) == (400, "bad-playlist")
        assert await refused(playing(f"{station.url}/media/none.m3u8")) == (502, "origin-failed")
        assert await refused(playing(f"{station.url}/media/film.m3u8")) == (400, "not-live")
        await station.add()
        assert await refused(playing(good)) == (503, "too-many-streams")

    with_station(tmp_path, script, streaming=StreamingConfig(live_streams_max=1))


def test_of_streams_that_are_handed_in_at_once_no_more_begin_than_can_be_followed(tmp_path: Path) -> None:
    async def script(station: Station) -> None:
        station.shows(0, 2)
        lives = station.server.streaming.lives
        tasks = [NetworkTask(f"stream-{number}", ALICE, "live", "", 0, 1, 2**40, 0) for number in range(3)]
        for task in tasks:
            task.parameters = {"playlist": f"{station.url}/media/live/index.m3u8"}
            lives.settle(task, 0)
        assert [task.is_open for task in tasks] == [True, True, False]
        assert "can follow" in (tasks[2].reason or "")

    with_station(tmp_path, script, streaming=StreamingConfig(live_streams_max=2))


def test_an_origin_that_names_ever_new_segments_is_not_followed_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "PULLS_MAX", 2)

    async def script(station: Station) -> None:
        station.shows(0, 4)
        await station.add()
        # A playlist may be shown before the first pulls have ended.
        text = await station.until(station.text, lambda text: "3.ts" in text and text.count("/o/") >= 2)
        assert [line.startswith("/o/") for line in text.splitlines() if line[0] != "#"] == [True, True, False, False]

    with_station(tmp_path, script)


def test_players_that_find_no_place_to_wait_are_shown_what_the_origin_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "WAITING_MAX", 0)

    async def script(station: Station) -> None:
        station.shows(0, 2)
        await station.add()
        assert "1.ts" in await station.text()

    with_station(tmp_path, script)
