"""The content store: objects as plain files named by their id.

``<id>`` is a complete object, ``<id>.manifest`` its signed manifest as received, ``<id>.facts`` its size, type and
SHA-256 (JSON). ``<id>.part`` (sparse) and ``<id>.map`` (a byte per chunk) belong to a fill under way (:mod:`.fill`).
Objects that are held for seconds only lie in memory where there is room, in files of the same form (:mod:`.memory`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fallow_wire.encoding import is_hex
from fallow_wire.errors import ChunkMismatch, LocalError, PeerError
from fallow_wire.jws import Kind, parse, split
from fallow_wire.manifest import Manifest, SignedManifest

from .fill import FILL_SUFFIXES, OBJECT_SUFFIXES, Fill, Gone, NoSpace, StoredObject
from .memory import MEMORY_BYTES_MAX, Memory
from .sieve import Sieve

_log = logging.getLogger(__name__)

_NAME = re.compile(r"([0-9a-f]{64})(\.manifest|\.facts|\.part|\.map)?\Z")
_FACTS_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class ContentConfig:
    """``dir``: where the folder of content is made, such as an external disk; None for the state's folder.
    ``free_floor_bytes`` stays free on the disk whatever the quota says: logs and updates need it.

    ``open_files_max``: descriptors kept for objects being read often. ``scrub_chunks``: chunks verified per
    :meth:`ContentStore.scrub_next`, so that it ends within a second even on a router. ``write_bytes_per_day_max``: then
    fills wait until tomorrow, because cards and flash wear out; 0 for no limit, None for the medium's own.
    ``memory_bytes_max``: of what is held for seconds, in memory; 0 for none.
    """

    dir: Path | None = None
    quota_bytes: int = 8 * 2**30
    free_floor_bytes: int = 512 * 2**20
    objects_max: int = 100_000
    open_files_max: int = 64
    scrub_chunks: int = 16
    write_bytes_per_day_max: int | None = None
    memory_bytes_max: int = MEMORY_BYTES_MAX


@dataclass(slots=True)
class _Open:
    descriptor: int
    users: int = 0
    dropped: bool = False


class ContentStore:
    """Works from the loop's thread; only :class:`Fill` and the reading part of scrubbing run in others.

    :param disk_free: bytes free on the directory's disk. :param memory: for what is held for seconds.
    """

    def __init__(
        self, directory: Path, config: ContentConfig, disk_free: Callable[[], int], memory: Memory | None = None
    ) -> None:
        self.on_change: Callable[[tuple[str, ...], tuple[str, ...]], None] = lambda added, dropped: None
        """Called with the ids that were added and dropped."""
        self._directory = directory
        self._config = config
        self._disk_free = disk_free
        self._memory = memory or Memory(None)
        self._quota_bytes = config.quota_bytes
        self._objects: dict[str, StoredObject] = {}
        self._sieve = Sieve()
        """Of the objects: which goes first."""
        self._cached: set[str] = set()
        """Objects and fills that consumers asked for and nobody has placed here: they make room for others."""
        self._fills: dict[str, Fill] = {}
        self._resumable: dict[str, int] = {}
        """Bytes on disk of fills that nobody is working on."""
        self._open: dict[str, _Open] = {}
        self.bytes_written_total = 0
        """By fills to the disk, since the start."""
        self._counting = threading.Lock()
        self._scrub_queue: list[str] = []
        self._scrub_at: tuple[str, Manifest, int] | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_stock()

    # ------------------------------------------------------------------ what is held

    def objects(self) -> tuple[str, ...]:
        """Ids of the complete objects."""
        return tuple(self._objects)

    def has(self, object_id: str) -> bool:
        return object_id in self._objects

    def get(self, object_id: str) -> StoredObject | None:
        return self._objects.get(object_id)

    def usage_bytes(self) -> int:
        """Bytes of complete objects, of fills under way as if they were complete, and of what could be resumed."""
        held = sum(stored.size for stored in self._objects.values())
        return held + sum(fill.manifest.size for fill in self._fills.values()) + sum(self._resumable.values())

    @property
    def quota_bytes(self) -> int:
        return self._quota_bytes

    @quota_bytes.setter
    def quota_bytes(self, quota_bytes: int) -> None:
        """The owner's limit. What is over it is dropped at once: unfinished fills, then what nobody has placed here."""
        self._quota_bytes = quota_bytes
        self._make_room(0, placed=True)
        for fill in tuple(self._fills.values()):
            if self.usage_bytes() > quota_bytes:
                fill.discard()

    def _make_room(self, wanted_bytes: int, *, cached: bool = True, placed: bool = False) -> None:
        """Drop what must make room for so many bytes, as far as there is some.

        :param cached: also fills of what nobody has placed here. :param placed: also what was placed here.
        """
        self._drop_resumable(wanted_bytes)
        dropped = []
        over = self.usage_bytes() + wanted_bytes - self._quota_bytes
        orders = ([self._cached.__contains__] if self._cached else []) + (
            [self._objects.__contains__] if placed else []
        )
        for may_go in orders:
            while over > 0 and (victim := self._sieve.victim(may_go)) is not None:
                over -= self._objects[victim].size
                self._forget(victim)
                dropped.append(victim)
            for fill in [one for one in self._fills.values() if cached and one.object_id in self._cached]:
                if over > 0:
                    over -= fill.manifest.size
                    fill.discard()
        if dropped:
            _log.info("dropped %d objects to make room", len(dropped))
            self.on_change((), tuple(dropped))

    def _drop_resumable(self, wanted_bytes: int) -> None:
        over = self.usage_bytes() + wanted_bytes - self._quota_bytes
        while self._resumable and over > 0:
            oldest = next(iter(self._resumable))
            over -= self._resumable[oldest]
            self._discard_resumable(oldest)

    def _discard_resumable(self, object_id: str) -> None:
        del self._resumable[object_id]
        for suffix in FILL_SUFFIXES:
            self.path(object_id, suffix).unlink(missing_ok=True)

    # ------------------------------------------------------------------ reading

    @contextmanager
    def reading(self, object_id: str) -> Iterator[int]:
        """A descriptor of the object's file, shared by all readers; good until the block ends, even when dropped.

        :raises Gone: not held, or its file no longer has the size it should have; it is dropped then.
        """
        opened = self._open.get(object_id) or self._open_file(object_id)
        opened.users += 1
        self._sieve.visit(object_id)
        try:
            yield opened.descriptor
        finally:
            opened.users -= 1
            if opened.dropped and not opened.users:
                os.close(opened.descriptor)

    def _open_file(self, object_id: str) -> _Open:
        stored = self._objects.get(object_id)
        if stored is None:
            raise Gone(f"object {object_id} is not held")
        try:
            descriptor = os.open(self.path(object_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.lost(object_id, "its file is gone")
            raise Gone(f"object {object_id} is not held") from None
        if os.fstat(descriptor).st_size != stored.size:
            os.close(descriptor)
            self.lost(object_id, "its file has another size")
            raise Gone(f"object {object_id} is not held")
        for idle in [name for name, opened in self._open.items() if not opened.users]:
            if len(self._open) < self._config.open_files_max:
                break
            os.close(self._open.pop(idle).descriptor)
        opened = self._open[object_id] = _Open(descriptor)
        return opened

    # ------------------------------------------------------------------ dropping

    def drop(self, object_id: str) -> bool:
        """Forget an object or the fill of one; False when there was none. Transfers under way end in peace."""
        fill = self._fills.get(object_id)
        if fill is not None:
            fill.discard()
        if object_id in self._resumable:
            self._discard_resumable(object_id)
        if object_id not in self._objects:
            return fill is not None
        self._forget(object_id)
        self.on_change((), (object_id,))
        return True

    def lost(self, object_id: str, why: str) -> None:
        """The object was found corrupt: never serve it again."""
        _log.warning("object %s is dropped: %s", object_id, why)
        self.drop(object_id)

    def clear(self) -> None:
        """Forget everything: the owner leaves."""
        dropped = self.objects()
        for fill in tuple(self._fills.values()):
            fill.discard()
        for object_id in dropped:
            self._forget(object_id)
        self._resumable.clear()
        for path in self._directory.iterdir():
            if _NAME.match(path.name):
                path.unlink()
        if dropped:
            self.on_change((), dropped)

    def close(self) -> None:
        """Close files that nobody reads. Fills under way stay on disk, to be resumed."""
        for fill in tuple(self._fills.values()):
            fill.close()
        for object_id, opened in tuple(self._open.items()):
            self._close_file(object_id, opened)
        self._memory.close()

    def _forget(self, object_id: str) -> None:
        del self._objects[object_id]
        self._sieve.remove(object_id)
        self._cached.discard(object_id)
        opened = self._open.get(object_id)
        if opened is not None:
            self._close_file(object_id, opened)
        for suffix in OBJECT_SUFFIXES:
            self.path(object_id, suffix).unlink(missing_ok=True)
        self._memory.release(object_id)

    def _close_file(self, object_id: str, opened: _Open) -> None:
        del self._open[object_id]
        opened.dropped = True
        if not opened.users:
            os.close(opened.descriptor)

    # ------------------------------------------------------------------ filling

    def begin(self, signed: SignedManifest, *, cached: bool = False, fleeting: bool = False) -> Fill:
        """Begin or resume the fill of an object that is not held. Call :meth:`Fill.recover` next.

        :param cached: nobody has placed it here: it takes no room from what was, and makes room for what is.
        :param fleeting: it is held for seconds, in memory where there is room; what is left of it is not resumed.
        :raises NoSpace: quota, floor or number of objects leave no room.
        """
        object_id, manifest = signed.object_id, signed.manifest
        if object_id in self._fills:
            raise LocalError(f"object {object_id} is being filled already")
        if object_id in self._objects:
            raise LocalError(f"object {object_id} is held already")
        if len(self._objects) + len(self._fills) >= self._config.objects_max:
            raise NoSpace(f"{self._config.objects_max} objects are held already")
        have = self._resumable.get(object_id, 0)
        self._make_room(manifest.size - have, cached=not cached)
        have = self._resumable.pop(object_id, 0)
        if self.usage_bytes() + manifest.size > self._quota_bytes:
            raise NoSpace(f"the quota of {self._quota_bytes} bytes has no room for {manifest.size}")
        in_memory = fleeting and not have and self._memory.take(object_id, manifest.size)
        if fleeting and not in_memory and self._memory.instead_of_disk:
            raise NoSpace("no memory is left for live streams, and the disk would wear out")
        if not in_memory:
            self.check_floor(max(0, manifest.size - have))
        self.path(object_id, ".manifest").write_text(signed.token, "ascii")
        fill = self._fills[object_id] = Fill(self, object_id, manifest, cached=cached, in_memory=in_memory)
        if cached:
            self._cached.add(object_id)
        else:
            self._cached.discard(object_id)
        return fill

    def place(self, fill: Fill) -> None:
        """What consumers asked for is placed here now: it makes no room for others any longer."""
        fill.cached = False
        self._cached.discard(fill.object_id)

    def check_floor(self, more: int) -> None:
        """:raises NoSpace: when ``more`` bytes would go below the free floor. For :class:`Fill`."""
        if self._disk_free() - more < self._config.free_floor_bytes:
            raise NoSpace(f"{self._config.free_floor_bytes} bytes must stay free on the disk")

    def wrote(self, count: int) -> None:
        """A fill has written so many bytes to the disk. For :class:`Fill`, in its thread."""
        with self._counting:
            self.bytes_written_total += count

    def ended(self, fill: Fill, stored: StoredObject | None, left_bytes: int) -> None:
        """A fill has become an object, or left so many bytes to be resumed. For :class:`Fill`."""
        if self._fills.get(fill.object_id) is not fill:
            return
        del self._fills[fill.object_id]
        if stored is None:
            self._cached.discard(fill.object_id)
        if stored is not None:
            self._objects[fill.object_id] = stored
            self._sieve.add(fill.object_id)
            self.on_change((fill.object_id,), ())
        elif self._memory.directory_of(fill.object_id) is not None:
            for suffix in FILL_SUFFIXES:
                self.path(fill.object_id, suffix).unlink(missing_ok=True)
            self._memory.release(fill.object_id)
        elif left_bytes:
            self._resumable[fill.object_id] = left_bytes

    # ------------------------------------------------------------------ scrubbing

    async def scrub_next(self) -> str | None:
        """Verify the next few chunks of what is held, round and round; an object that is corrupt is dropped.

        Call it when the device is idle. Gives the id of the object it looked at, None when nothing is held.
        """
        if self._scrub_at is None:
            self._scrub_queue = self._scrub_queue or list(self._objects)
            while self._scrub_queue and self._scrub_queue[0] not in self._objects:
                self._scrub_queue.pop(0)
            if not self._scrub_queue:
                return None
            object_id = self._scrub_queue.pop(0)
            try:
                manifest = await asyncio.to_thread(self._read_manifest, object_id)
            except (OSError, PeerError) as error:
                self.lost(object_id, f"its manifest cannot be read: {error}")
                return object_id
            self._scrub_at = (object_id, manifest, 0)
        object_id, manifest, first = self._scrub_at
        self._scrub_at = None
        if object_id not in self._objects:
            return object_id
        last = min(len(manifest.chunks), first + self._config.scrub_chunks)
        try:
            with self.reading(object_id) as descriptor:
                await asyncio.to_thread(_verify, descriptor, manifest, first, last)
        except Gone:
            return object_id
        except (OSError, ChunkMismatch) as error:
            self.lost(object_id, str(error))
            return object_id
        if last < len(manifest.chunks):
            self._scrub_at = (object_id, manifest, last)
        return object_id

    def _read_manifest(self, object_id: str) -> Manifest:
        unverified = split(self.path(object_id, ".manifest").read_bytes(), Kind.MANIFEST)
        if hashlib.sha256(unverified.payload).hexdigest() != object_id:
            raise ChunkMismatch("it is not the manifest of this object")
        return parse(unverified, Manifest)

    # ------------------------------------------------------------------ start

    def path(self, object_id: str, suffix: str = "") -> Path:
        return (self._memory.directory_of(object_id) or self._directory) / (object_id + suffix)

    def _take_stock(self) -> None:
        """Find what a former run left; remove what cannot be used."""
        found: dict[str, set[str]] = {}
        for path in self._directory.iterdir():
            match = _NAME.match(path.name)
            if match is None or not path.is_file() or path.is_symlink():
                _log.warning("%s is not content; it is left alone and not counted", path)
                continue
            found.setdefault(match[1], set()).add(match[2] or "")
        by_use = []
        for object_id, suffixes in found.items():
            if "" in suffixes:
                path = self.path(object_id)
                stored = self._read_facts(object_id)
                if stored is not None and ".manifest" in suffixes and path.stat().st_size == stored.size:
                    by_use.append((path.stat().st_atime_ns, stored))
                    suffixes -= set(OBJECT_SUFFIXES)
                else:
                    _log.warning("object %s is incomplete on disk; it is removed", object_id)
            elif {".part", ".manifest"} <= suffixes:
                self._resumable[object_id] = self.path(object_id, ".part").stat().st_blocks * 512
                suffixes -= set(FILL_SUFFIXES)
            for suffix in suffixes:
                self.path(object_id, suffix).unlink(missing_ok=True)
        for _, stored in sorted(by_use, key=lambda item: item[0]):
            self._objects[stored.object_id] = stored
            self._sieve.add(stored.object_id)

    def _read_facts(self, object_id: str) -> StoredObject | None:
        """As :meth:`Fill.finish` wrote them; notes whether it was placed."""
        try:
            with self.path(object_id, ".facts").open("rb") as file:
                facts = json.loads(file.read(_FACTS_BYTES_MAX))
            size, media_type, sha256, cached = facts["size"], facts["type"], facts["sha256"], facts.get("cached")
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if type(size) is not int or type(media_type) is not str or type(sha256) is not str or not is_hex(sha256, 64):
            return None
        if cached is True:
            self._cached.add(object_id)
        return StoredObject(object_id, size, media_type, bytes.fromhex(sha256))


def _verify(descriptor: int, manifest: Manifest, first: int, last: int) -> None:
    for index in range(first, last):
        start, length = manifest.chunk_span(index)
        manifest.verify_chunk(index, os.pread(descriptor, length, start))
