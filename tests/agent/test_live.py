"""Live streams on the device: joined, segment by segment, and dropped in time; in memory where there is room."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from edge_world import MIB, manifest_of, put, some_bytes
from fallow_agent.edge.content import ContentConfig, ContentStore
from fallow_agent.edge.fill import NoSpace
from fallow_agent.edge.memory import Memory, memory_directory
from fallow_agent.uplink.live import HELD_S_MAX, MISSED_MAX, SEGMENTS_MAX, STREAMS_MAX, LiveStreams
from fallow_wire.errors import FallowError
from fallow_wire.manifest import SignedManifest
from fallow_wire.session import Source, Task, TaskStatus
from support import NOW, PATIENCE_S, key

KEYS = {key(2).public.thumbprint(): key(2).public}
STREAM = "stream-1"


def join(stream: str = STREAM, until: int = NOW + 3600) -> Task:
    return Task(stream, "live", deadline=until)


def segment(number: int, until: int = NOW + 60, stream: str = STREAM) -> Task:
    signed = manifest_of(b"segment %d" % number)
    return Task(stream, "live", signed.object_id, signed.token, (Source("http://origin.test/o"),), until)


def id_of(number: int) -> str:
    return manifest_of(b"segment %d" % number).object_id


class Carrier:
    """Live streams whose segments come when the test says so."""

    def __init__(self) -> None:
        self.now = NOW
        self.objects: set[str] = set()
        self.told: asyncio.Queue[TaskStatus] = asyncio.Queue()
        self.dropped: asyncio.Queue[str] = asyncio.Queue()
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.streams = LiveStreams(self, self.fill, lambda: KEYS, lambda: self.now)
        self.streams.tell = self.told.put_nowait

    def has(self, object_id: str) -> bool:
        return object_id in self.objects

    def drop(self, object_id: str) -> bool:
        self.objects.discard(object_id)
        self.dropped.put_nowait(object_id)
        return True

    async def fill(self, task: Task, signed: SignedManifest, progress: Callable[[int], None]) -> None:
        gate = self.gates[signed.object_id] = asyncio.get_running_loop().create_future()
        self.started.put_nowait(signed.object_id)
        await gate
        self.objects.add(signed.object_id)

    async def comes(self, number: int, fault: str = "") -> TaskStatus | None:
        """The segment's fetching begins, and ends so. Gives what is told after a good end."""
        assert await self.started.get() == id_of(number)
        gate = self.gates[id_of(number)]
        if fault:
            gate.set_exception(FallowError(fault))
            assert await self.dropped.get() == id_of(number)
            return None
        gate.set_result(None)
        return await self.told.get()

    def later(self, seconds: int) -> None:
        self.now += seconds
        self.streams.accept(join("wakes-it"))


def carrying(script: Callable[[Carrier], Awaitable[None]]) -> None:
    async def main() -> None:
        carrier = Carrier()
        carrier.streams.allow(True)
        running = asyncio.create_task(carrier.streams.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await script(carrier)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_segments_are_held_for_their_time() -> None:
    async def script(carrier: Carrier) -> None:
        carrier.streams.accept(join())
        assert await carrier.told.get() == TaskStatus(STREAM, "running")
        carrier.streams.accept(segment(1, NOW + 30))
        carrier.streams.accept(segment(2, NOW + 10 * HELD_S_MAX))
        assert (await carrier.comes(1)) == TaskStatus(STREAM, "running", 9)
        assert (await carrier.comes(2)) == TaskStatus(STREAM, "running", 18)
        carrier.later(29)
        await carrier.told.get()
        assert carrier.dropped.empty()
        carrier.later(1)
        assert await carrier.dropped.get() == id_of(1)
        carrier.later(HELD_S_MAX - 30)
        assert await carrier.dropped.get() == id_of(2), "no longer than a segment of a live stream is worth"

    carrying(script)


def test_what_was_not_joined_is_not_fetched_and_what_is_left_stays_its_time() -> None:
    async def script(carrier: Carrier) -> None:
        carrier.streams.accept(segment(1))
        carrier.streams.accept(join())
        await carrier.told.get()
        carrier.streams.accept(segment(2))
        await carrier.comes(2)
        carrier.streams.accept(segment(3))
        assert await carrier.started.get() == id_of(3)
        carrier.streams.cancel(STREAM)
        assert await carrier.dropped.get() == id_of(3), "what is half there goes"
        carrier.streams.accept(segment(4))
        carrier.later(60)
        assert await carrier.dropped.get() == id_of(2)
        assert carrier.started.empty()

    carrying(script)


def test_a_segment_that_is_told_twice_is_fetched_once() -> None:
    async def script(carrier: Carrier) -> None:
        carrier.streams.accept(join())
        await carrier.told.get()
        carrier.streams.accept(segment(1))
        carrier.streams.accept(segment(1))
        await carrier.comes(1)
        assert carrier.started.empty()

    carrying(script)


def test_an_object_that_is_held_anyway_is_not_dropped_with_the_stream() -> None:
    async def script(carrier: Carrier) -> None:
        carrier.objects.add(id_of(1))
        carrier.streams.accept(join())
        await carrier.told.get()
        carrier.streams.accept(segment(1))
        assert (await carrier.told.get()).bytes_done == 9
        carrier.later(61)
        await carrier.told.get()
        assert carrier.dropped.empty()

    carrying(script)


def test_one_that_misses_segments_gives_the_stream_up() -> None:
    async def script(carrier: Carrier) -> None:
        carrier.streams.accept(join())
        await carrier.told.get()
        carrier.streams.accept(segment(1))
        await carrier.comes(1, "no source answers")
        carrier.streams.accept(segment(2))
        await carrier.comes(2)  # good again
        carrier.streams.accept(replace(segment(3), manifest=manifest_of(b"x").token[:-4] + "AAAA"))
        carrier.streams.accept(replace(segment(4), sources=()))
        carrier.streams.accept(segment(5))
        await carrier.comes(5, "no source answers")
        failed = await carrier.told.get()
        assert (failed.status, failed.bytes_done) == ("failed", 9)
        assert f"{MISSED_MAX} segments" in (failed.reason or "")
        carrier.streams.accept(segment(6))
        assert carrier.started.empty()

    carrying(script)


def test_pausing_stops_and_resuming_goes_on_with_the_next_segment() -> None:
    async def script(carrier: Carrier) -> None:
        carrier.streams.accept(join())
        await carrier.told.get()
        carrier.streams.accept(segment(1))
        assert await carrier.started.get() == id_of(1)
        carrier.streams.allow(False)
        assert await carrier.dropped.get() == id_of(1)
        carrier.streams.accept(segment(2))
        assert carrier.started.empty()
        carrier.streams.allow(True)
        carrier.streams.accept(segment(3))
        assert (await carrier.comes(3)) == TaskStatus(STREAM, "running", 9)

    carrying(script)


def test_streams_and_segments_are_bounded_and_streams_end() -> None:
    async def script(carrier: Carrier) -> None:
        for number in range(STREAMS_MAX):
            carrier.streams.accept(join(f"s-{number}", NOW + 10 + number))
            assert (await carrier.told.get()).status == "running"
        carrier.streams.accept(join("s-more"))
        assert "are carried" in ((await carrier.told.get()).reason or "")
        for number in range(SEGMENTS_MAX + MISSED_MAX):
            carrier.streams.accept(segment(number, stream="s-5"))
        assert "keep up" in ((await carrier.told.get()).reason or "")
        carrier.now += 10
        carrier.streams.accept(join("s-1", NOW + 11))
        assert {(await carrier.told.get()).status for _ in range(2)} == {"running", "done"}

    carrying(script)


# ------------------------------------------------------------------ in memory


def store(tmp_path: Path, memory: Memory, **config: int) -> ContentStore:
    return ContentStore(tmp_path / "content", ContentConfig(**config), lambda: 10**10, memory)


def put_fleeting(content: ContentStore, data: bytes) -> str:
    signed = manifest_of(data)
    fill = content.begin(signed, fleeting=True)
    fill.recover()
    for index in range(len(signed.manifest.chunks)):
        start, length = signed.manifest.chunk_span(index)
        fill.write(index, data[start : start + length])
    fill.publish(fill.finish())
    return signed.object_id


def memory_in(tmp_path: Path, bytes_max: int = 4 * MIB, available: int = 10**9, *, only: bool = False) -> Memory:
    directory = memory_directory(tmp_path / "content", tmp_path)
    assert directory is not None
    return Memory(directory, bytes_max, lambda: available, instead_of_disk=only)


def files(directory: Path) -> int:
    return sum(1 for path in directory.rglob("*") if path.is_file())


def test_a_fleeting_object_never_touches_the_disk(tmp_path: Path) -> None:
    memory = memory_in(tmp_path)
    content = store(tmp_path, memory)
    data = some_bytes(MIB + 5)
    object_id = put_fleeting(content, data)
    directory = memory.directory_of(object_id)
    assert directory is not None
    assert (files(tmp_path / "content"), files(directory)) == (0, 3)
    assert content.bytes_written_total == 0
    assert content.usage_bytes() == len(data), "it counts for the owner's limit all the same"
    with content.reading(object_id) as descriptor:
        assert os.pread(descriptor, len(data) + 1, 0) == data
    assert asyncio.run(content.scrub_next()) == object_id
    assert content.drop(object_id)
    assert files(directory) == 0
    kept = put(content, data)
    assert files(tmp_path / "content") == 3
    assert memory.directory_of(kept) is None
    put_fleeting(content, b"another")
    content.close()
    assert not directory.exists()


def test_a_fleeting_fill_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    memory = memory_in(tmp_path)
    content = store(tmp_path, memory)
    signed = manifest_of(some_bytes(2 * MIB))
    for end in ("close", "discard"):
        fill = content.begin(signed, fleeting=True)
        fill.write(0, some_bytes(2 * MIB)[:MIB])
        getattr(fill, end)()
        assert files(tmp_path) == 0
        assert content.usage_bytes() == 0
        assert memory.directory_of(signed.object_id) is None


def test_what_finds_no_room_in_memory_goes_to_a_disk_that_bears_it(tmp_path: Path) -> None:
    data = some_bytes(MIB)
    for number, (bytes_max, available) in enumerate([(MIB - 1, 10**9), (4 * MIB, 8 * MIB - 8), (4 * MIB, 0)]):
        place = tmp_path / str(number)
        place.mkdir()
        object_id = put_fleeting(store(place, memory_in(place, bytes_max, available)), data)
        assert (place / "content" / object_id).exists()
        with pytest.raises(NoSpace, match="wear"):
            put_fleeting(store(place, memory_in(place, bytes_max, available, only=True)), data + b"x")
    assert (store(tmp_path, Memory(None)).begin(manifest_of(data), fleeting=True)).object_id


def test_only_a_directory_of_our_own_is_used(tmp_path: Path) -> None:
    content = tmp_path / "content"
    directory = memory_directory(content, tmp_path)
    assert directory is not None
    (directory / "left").write_text("by a former run")
    assert memory_directory(content, tmp_path) == directory
    assert files(directory) == 0
    directory.chmod(0o777)
    assert memory_directory(content, tmp_path) is None
    directory.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("not ours")
    directory.symlink_to(elsewhere)
    assert memory_directory(content, tmp_path) is None
    assert (elsewhere / "precious").exists()
    assert memory_directory(content, tmp_path / "missing") is None
