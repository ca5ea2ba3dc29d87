"""The content store: crashes, corruption, quota, and what is left after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from edge_world import MIB, manifest_of, new_store, put, some_bytes
from fallow_agent.edge.content import ContentConfig, ContentStore
from fallow_agent.edge.fill import Gone, NoSpace
from fallow_wire.errors import ChunkMismatch, LocalError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

DATA = some_bytes(3 * MIB + 777)
SIGNED = manifest_of(DATA)


def chunk(index: int) -> bytes:
    start, length = SIGNED.manifest.chunk_span(index)
    return DATA[start : start + length]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_an_object_is_found_again_whole(tmp_path: Path) -> None:
    changes: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    store = new_store(tmp_path)
    store.on_change = lambda added, dropped: changes.append((added, dropped))
    object_id = put(store, DATA)
    assert changes == [((object_id,), ())]
    store.close()
    again = new_store(tmp_path)
    stored = again.get(object_id)
    assert stored is not None
    assert (stored.size, stored.type, stored.sha256) == (len(DATA), "video/mp4", hashlib.sha256(DATA).digest())
    with again.reading(object_id) as descriptor:
        assert os.pread(descriptor, len(DATA) + 1, 0) == DATA
    assert (tmp_path / f"{object_id}.manifest").read_text() == SIGNED.token
    assert names(tmp_path) == {object_id, f"{object_id}.manifest", f"{object_id}.facts"}
    assert again.usage_bytes() == len(DATA)


def test_a_wrong_chunk_is_not_written(tmp_path: Path) -> None:
    fill = new_store(tmp_path).begin(SIGNED)
    for wrong in (chunk(1), chunk(0)[:-1], b""):
        with pytest.raises(ChunkMismatch):
            fill.write(0, wrong)
    assert fill.bytes_held() == 0
    assert fill.recover() == 0
    with pytest.raises(LocalError):
        fill.finish()
    fill.discard()


def test_a_killed_fill_goes_on_and_trusts_only_what_it_reads_again(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill = store.begin(SIGNED)
    for index in (0, 1, 3):
        fill.write(index, chunk(index))
    # The power fails: the map came to the disk, a chunk's bytes did not.
    with (tmp_path / f"{SIGNED.object_id}.part").open("r+b") as file:
        file.seek(MIB + 5)
        file.write(b"\0" * 1000)
    again = new_store(tmp_path)
    assert not again.has(SIGNED.object_id)
    resumed = again.begin(SIGNED)
    assert resumed.recover() == len(chunk(0)) + len(chunk(3))
    assert resumed.missing() == (1, 3)
    for index in (2, 1):
        resumed.write(index, chunk(index))
    stored = resumed.finish()
    resumed.publish(stored)
    assert stored.sha256 == hashlib.sha256(DATA).digest()
    with again.reading(SIGNED.object_id) as descriptor:
        assert os.pread(descriptor, len(DATA), 0) == DATA
    fill.close()


@pytest.mark.parametrize("victim", ["", ".facts", ".manifest"])
def test_an_object_that_lacks_a_part_is_removed_at_start(tmp_path: Path, victim: str) -> None:
    store = new_store(tmp_path)
    object_id = put(store, DATA)
    store.close()
    (tmp_path / (object_id + victim)).unlink()
    (tmp_path / "notes.txt").write_text("the owner's")
    again = new_store(tmp_path)
    assert again.objects() == ()
    assert names(tmp_path) == {"notes.txt"}


def test_an_object_of_another_size_is_removed_at_start(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    object_id = put(store, DATA)
    os.truncate(tmp_path / object_id, 10)
    assert new_store(tmp_path).objects() == ()
    assert names(tmp_path) == set()


@pytest.mark.parametrize("facts", [b"", b"[]", b"{}", b'{"size": "3", "type": 1, "sha256": null}', b"\xff"])
def test_damaged_facts_are_no_object(tmp_path: Path, facts: bytes) -> None:
    store = new_store(tmp_path)
    object_id = put(store, DATA)
    (tmp_path / f"{object_id}.facts").write_bytes(facts)
    assert new_store(tmp_path).objects() == ()


def test_quota_counts_fills_and_drops_the_least_recently_used(tmp_path: Path) -> None:
    store = new_store(tmp_path, quota_bytes=3 * MIB)
    first, second = put(store, some_bytes(MIB, 1)), put(store, some_bytes(MIB, 2))
    with pytest.raises(NoSpace):
        store.begin(SIGNED)
    fill = store.begin(manifest_of(some_bytes(MIB, 3)))
    with pytest.raises(NoSpace):
        store.begin(manifest_of(some_bytes(MIB, 4)))
    with store.reading(first):
        pass
    dropped: list[str] = []
    store.on_change = lambda _, gone: dropped.extend(gone)
    store.quota_bytes = 2 * MIB
    assert dropped == [second]
    assert store.objects() == (first,)
    store.quota_bytes = 0
    assert store.objects() == ()
    assert store.usage_bytes() == 0
    with pytest.raises(Gone):
        fill.write(0, some_bytes(MIB, 3))
    assert names(tmp_path) == set()


def test_what_consumers_brought_makes_room_for_what_is_placed_and_not_the_other_way_round(tmp_path: Path) -> None:
    store = new_store(tmp_path, quota_bytes=4 * MIB)
    placed = put(store, some_bytes(MIB, seed=1))
    brought = [put(store, some_bytes(MIB, seed=seed), cached=True) for seed in (2, 3)]
    with store.reading(brought[0]):
        pass
    store.close()
    store = new_store(tmp_path, quota_bytes=4 * MIB)  # marks are lost, and what was brought is known
    with store.reading(brought[0]):
        pass
    dropped: list[str] = []
    store.on_change = lambda more, less: dropped.extend(less)
    with pytest.raises(NoSpace):
        store.begin(manifest_of(some_bytes(4 * MIB, seed=4)), cached=True)
    assert placed not in dropped
    dropped.clear()
    brought = [put(store, some_bytes(MIB, seed=seed), cached=True) for seed in (2, 3)]
    with store.reading(brought[0]):
        pass
    put(store, some_bytes(2 * MIB, seed=5))
    assert dropped == [brought[1]]
    assert store.has(placed)
    assert store.has(brought[0])
    # A cached fill makes room too, and what was cached is placed when it is filled again.
    coming = manifest_of(some_bytes(MIB, seed=6))
    store.drop(brought[0])
    fill = store.begin(coming, cached=True)
    put(store, some_bytes(MIB, seed=7))
    assert fill.closed
    with pytest.raises(NoSpace):
        store.begin(coming)


def test_unfinished_fills_of_a_former_run_make_room(tmp_path: Path) -> None:
    store = new_store(tmp_path, quota_bytes=5 * MIB)
    store.begin(SIGNED).write(0, chunk(0))
    again = new_store(tmp_path, quota_bytes=3 * MIB)
    assert again.usage_bytes() >= MIB
    put(again, some_bytes(3 * MIB, 1))
    assert not any(SIGNED.object_id in name for name in names(tmp_path))


def test_free_floor_before_and_during_a_fill(tmp_path: Path) -> None:
    free = [10 * MIB]
    store = ContentStore(tmp_path, ContentConfig(free_floor_bytes=8 * MIB), lambda: free[0])
    with pytest.raises(NoSpace):
        store.begin(SIGNED)
    assert names(tmp_path) == set()
    free[0] = 12 * MIB
    fill = store.begin(SIGNED)
    fill.write(0, chunk(0))
    free[0] = 8 * MIB
    with pytest.raises(NoSpace):
        fill.write(1, chunk(1))
    fill.discard()


def test_dropped_while_read_and_given_up_while_finished(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    object_id = put(store, DATA)
    with store.reading(object_id) as descriptor:
        assert store.drop(object_id)
        assert os.pread(descriptor, len(DATA), 0) == DATA
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(Gone), store.reading(object_id):
        pass
    fill = store.begin(SIGNED)
    for index in range(4):
        fill.write(index, chunk(index))
    stored = fill.finish()
    assert store.drop(object_id)
    with pytest.raises(Gone):
        fill.publish(stored)
    assert names(tmp_path) == set()
    assert not store.drop(object_id)


def test_scrubbing_finds_a_flipped_bit(tmp_path: Path) -> None:
    store = new_store(tmp_path, scrub_chunks=2)
    good, bad = put(store, some_bytes(MIB, 1)), put(store, DATA)
    with (tmp_path / bad).open("r+b") as file:
        file.seek(3 * MIB)
        byte = file.read(1)
        file.seek(3 * MIB)
        file.write(bytes([byte[0] ^ 1]))
    looked_at = [asyncio.run(store.scrub_next()) for _ in range(5)]
    assert looked_at == [good, bad, bad, good, good]
    assert store.objects() == (good,)
    (tmp_path / f"{good}.manifest").write_text(SIGNED.token)
    asyncio.run(store.scrub_next())
    assert store.objects() == ()
    assert asyncio.run(store.scrub_next()) is None


def test_open_files_are_bounded(tmp_path: Path) -> None:
    store = new_store(tmp_path, open_files_max=2)
    ids = [put(store, some_bytes(10, seed)) for seed in range(5)]
    before = len(os.listdir("/proc/self/fd"))
    for object_id in ids:
        with store.reading(object_id):
            pass
    assert len(os.listdir("/proc/self/fd")) == before + 2
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before


PIECES = [some_bytes(size, 40 + size) for size in (0, 1, MIB, MIB + 1, 2 * MIB)]
MANIFESTS = [manifest_of(data) for data in PIECES]


class StoreMachine(RuleBasedStateMachine):
    """Fills, drops, crashes and quota changes in any order, against a model of what must be held."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = Path(tempfile.mkdtemp(prefix="fallow-content-"))
        self.store = new_store(self.directory, quota_bytes=10 * MIB)
        self.fills: dict[int, object] = {}
        self.held: set[int] = set()

    number = st.integers(0, len(PIECES) - 1)

    @rule(number=number)
    def begin(self, number: int) -> None:
        if number in self.held or number in self.fills:
            return
        fill = self.store.begin(MANIFESTS[number])
        fill.recover()
        self.fills[number] = fill

    @precondition(lambda self: self.fills)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.fills)))
        fill = self.fills[number]
        missing = fill.missing()  # type: ignore[attr-defined]
        if missing is None:
            fill.publish(fill.finish())  # type: ignore[attr-defined]
            del self.fills[number]
            self.held.add(number)
            return
        index = missing[1] - 1
        fill.write(index, PIECES[number][index * MIB : (index + 1) * MIB])  # type: ignore[attr-defined]

    @rule(number=number)
    def drop(self, number: int) -> None:
        known = number in self.held or number in self.fills
        dropped = self.store.drop(MANIFESTS[number].object_id)
        assert dropped or not known
        self.held.discard(number)
        self.fills.pop(number, None)

    @rule()
    def crash(self) -> None:
        for fill in self.fills.values():
            os.close(fill._part)  # type: ignore[attr-defined]
            os.close(fill._map)  # type: ignore[attr-defined]
        self.fills.clear()
        self.store = new_store(self.directory, quota_bytes=10 * MIB)

    @invariant()
    def holds_what_it_should(self) -> None:
        assert set(self.store.objects()) == {MANIFESTS[number].object_id for number in self.held}
        for number in self.held:
            assert (self.directory / MANIFESTS[number].object_id).stat().st_size == len(PIECES[number])
        assert self.store.usage_bytes() <= self.store.quota_bytes

    def teardown(self) -> None:
        self.store.clear()
        assert list(self.directory.iterdir()) == []
        self.directory.rmdir()


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestStoreMachine = StoreMachine.TestCase
