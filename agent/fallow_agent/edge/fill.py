"""One object on its way into the content store: verified chunks in a sparse file, and a map of them.

Nothing is flushed during a fill, because flash is slow and wears; so after a crash the map says only which chunks are
worth reading again, and each is trusted after its digest was checked anew. The same reading feeds the digest of the
whole object. At completion everything is flushed once, and the renaming of ``.part`` to ``<id>`` is what makes the
object exist.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fallow_wire.errors import ChunkMismatch, FallowError, LocalError
from fallow_wire.manifest import Manifest

OBJECT_SUFFIXES = ("", ".facts", ".manifest")
"""The object first: without it the rest is rubbish that the next start removes."""
FILL_SUFFIXES = (".part", ".map", ".manifest")


class NoSpace(FallowError):
    """The quota, the free floor of the disk, or the disk itself leaves no room."""

    slug = "no-space"


class Gone(FallowError):
    """The object is not held, or was dropped because it was found corrupt."""

    slug = "not-held"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """``sha256`` is that of all its bytes, for ``Repr-Digest``; None where not all of them are here."""

    object_id: str
    size: int
    type: str
    sha256: bytes | None


class Shelf(Protocol):
    """What a fill needs of its store."""

    def path(self, object_id: str, suffix: str = "") -> Path: ...

    def check_floor(self, more: int) -> None:
        """:raises NoSpace: when ``more`` bytes would go below what must stay free."""

    def wrote(self, count: int) -> None:
        """So many bytes more went to the disk."""

    def ended(self, fill: Fill, stored: StoredObject | None, left_bytes: int) -> None:
        """The fill has become an object, or left so many bytes to be resumed."""


class Fill:
    """Call :meth:`recover` first. It, :meth:`write` and :meth:`finish` may run in a thread, one at a time."""

    def __init__(
        self, store: Shelf, object_id: str, manifest: Manifest, *, cached: bool = False, in_memory: bool = False
    ) -> None:
        """:param cached: see :meth:`~.content.ContentStore.begin`; kept with the object.
        :param in_memory: its files are in memory, and nothing of them counts for the disk.
        """
        self.cached = cached
        self._in_memory = in_memory
        self.object_id = object_id
        self.manifest = manifest
        self._store = store
        self._part = os.open(store.path(object_id, ".part"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._map = os.open(store.path(object_id, ".map"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held = bytearray(len(manifest.chunks))
        self._hash = hashlib.sha256()
        self._hashed = 0
        """Chunks from the start that went into the hash."""
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        os.truncate(self._part, manifest.size)

    def recover(self) -> int:
        """Read again and verify the chunks that a former run wrote. Gives the bytes that are held."""
        with self._using():
            for index, mark in enumerate(os.pread(self._map, len(self._held), 0)):
                if mark != 1 or self._closed:
                    continue
                start, length = self.manifest.chunk_span(index)
                data = os.pread(self._part, length, start)
                try:
                    self.manifest.verify_chunk(index, data)
                except ChunkMismatch:
                    continue
                self._note(index, data)
        return self.bytes_held()

    def bytes_held(self) -> int:
        """Verified bytes on disk."""
        count = sum(self._held)
        if self._held and self._held[-1]:
            return (count - 1) * self.manifest.chunk_size + self.manifest.chunk_span(len(self._held) - 1)[1]
        return count * self.manifest.chunk_size

    def holds(self, index: int) -> bool:
        return bool(self._held[index])

    def count(self) -> int:
        """Chunks that are held."""
        return sum(self._held)

    @property
    def closed(self) -> bool:
        """It was given up, finished, or left to be resumed."""
        return self._closed

    @contextmanager
    def reading(self) -> Iterator[int]:
        """A descriptor of its file, for the chunks that are held; good until the block ends.

        :raises Gone: the fill was given up.
        """
        with self._using():
            yield self._part

    def missing(self) -> tuple[int, int] | None:
        """The first run of missing chunks, as [first, end); None when all are held."""
        first = self._held.find(0)
        if first < 0:
            return None
        end = self._held.find(1, first)
        return first, end if end >= 0 else len(self._held)

    def write(self, index: int, data: bytes | bytearray) -> None:
        """Verify chunk ``index`` and write it.

        :raises ChunkMismatch: it is not that chunk; nothing was written.
        :raises NoSpace: there is no room for it.
        """
        self.manifest.verify_chunk(index, memoryview(data))
        if not self._in_memory:
            self._store.check_floor(len(data))
        start, _ = self.manifest.chunk_span(index)
        with self._using():
            try:
                _pwrite(self._part, memoryview(data), start)
                if not self._in_memory:
                    self._store.wrote(len(data))
                os.pwrite(self._map, b"\x01", index)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise NoSpace("the disk is full") from None
                raise
        self._note(index, data)

    def _note(self, index: int, data: bytes | bytearray) -> None:
        self._held[index] = 1
        if index == self._hashed:
            self._hash.update(data)
            self._hashed += 1

    def finish(self) -> StoredObject:
        """All chunks are held: flush, and give the object its name. :meth:`publish` it in the loop's thread then.

        :raises LocalError: chunks are missing.
        """
        if self.missing() is not None:
            raise LocalError("chunks are missing")
        path = self._store.path
        with self._using():
            for index in range(self._hashed, len(self._held)):
                start, length = self.manifest.chunk_span(index)
                self._hash.update(os.pread(self._part, length, start))
            sha256 = self._hash.digest()
            stored = StoredObject(self.object_id, self.manifest.size, self.manifest.type, sha256)
            facts = {"size": stored.size, "type": stored.type, "sha256": sha256.hex()} | (
                {"cached": True} if self.cached else {}
            )
            os.fsync(self._part)
            try:
                _write_durably(path(self.object_id, ".facts"), json.dumps(facts).encode("ascii"))
                _sync(path(self.object_id, ".manifest"))
                path(self.object_id, ".part").rename(path(self.object_id))
            except FileNotFoundError:
                raise Gone("the fill was given up") from None
            path(self.object_id, ".map").unlink(missing_ok=True)
            _sync(path(self.object_id).parent)
        return stored

    def publish(self, stored: StoredObject) -> None:
        """Make the finished object known to the store. :raises Gone: the fill was given up meanwhile."""
        if self._closed:
            for suffix in OBJECT_SUFFIXES:
                self._store.path(self.object_id, suffix).unlink(missing_ok=True)
            raise Gone("the fill was given up")
        self._close_files()
        self._store.ended(self, stored, 0)

    def close(self) -> None:
        """Leave the fill as it is on disk, to be resumed. Idempotent."""
        self._close_files()
        self._store.ended(self, None, self.bytes_held())

    def discard(self) -> None:
        """Give the fill up and free its space. A writing under way in a thread ends by itself."""
        self._close_files()
        self._store.ended(self, None, 0)
        for suffix in FILL_SUFFIXES:
            self._store.path(self.object_id, suffix).unlink(missing_ok=True)

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Keep the descriptors open: closed under a thread's hands, their numbers could mean other files."""
        with self._lock:
            if self._closed:
                raise Gone("the fill was given up")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def _close_files(self) -> None:
        with self._lock:
            self._closed = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users and self._part >= 0:
            os.close(self._part)
            os.close(self._map)
            self._part = self._map = -1


def _pwrite(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
