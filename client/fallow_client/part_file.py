"""Where fetched chunks go: a part file that a later fetch resumes, or a stream in order.

A part file needs no record of what it holds: on resuming, its chunks are checked against the signed manifest, as
every chunk is before use. Holes are skipped, so that a fresh part file costs nothing to check.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO, Protocol

from fallow_wire.errors import ChunkMismatch
from fallow_wire.manifest import Manifest

from .errors import ClientError


class Sink(Protocol):
    """Takes verified chunks in any order."""

    @property
    def ahead_chunks_max(self) -> int | None:
        """How far beyond the first missing chunk it can take one; None: any."""

    async def open(self, manifest: Manifest) -> list[int]:
        """The chunks that are there already."""

    async def write(self, index: int, data: memoryview) -> None:
        """Keep one verified chunk; it may be used by others as soon as this returns."""

    async def finish(self) -> None:
        """All chunks are written."""

    async def abandon(self) -> None:
        """Stop; keep what is of use."""


def _no_space(error: OSError, path: Path) -> ClientError:
    remedy = "free some space and start again: it resumes" if error.errno == errno.ENOSPC else "check the path"
    return ClientError(f"{path}: {error.strerror}", remedy)


class PartFile:
    """``<path>.part`` while incomplete, renamed to ``path`` at the end.

    :raises ClientError: it cannot be written, or another fetch is writing it.
    """

    ahead_chunks_max: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._fd = -1
        self._manifest: Manifest | None = None
        self._writes: set[asyncio.Task[None]] = set()

    async def open(self, manifest: Manifest) -> list[int]:
        self._manifest = manifest
        try:
            self._fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, manifest.size)
        except BlockingIOError as error:
            self._close()
            raise ClientError(f"{self.part} is being written by another fetch", "wait for it, or use -o") from error
        except OSError as error:
            self._close()
            raise _no_space(error, self.part) from error
        return await asyncio.to_thread(self._held, manifest)

    def _held(self, manifest: Manifest) -> list[int]:
        held = []
        data_from = 0
        buffer = memoryview(bytearray(manifest.chunk_size))
        for index in range(len(manifest.chunks)):
            start, length = manifest.chunk_span(index)
            if start + length <= data_from:
                continue
            data_from = self._next_data(start)
            if data_from >= start + length:
                continue
            view = buffer[:length]
            if os.preadv(self._fd, [view], start) == length:
                try:
                    manifest.verify_chunk(index, view)
                except ChunkMismatch:
                    continue
                held.append(index)
        return held

    def _next_data(self, start: int) -> int:
        """Where data begins at or after ``start``; the end of the file where there is none."""
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as error:
            # ENXIO: only a hole follows. Anything else: this file system has no such call, so look at the bytes.
            return os.fstat(self._fd).st_size if error.errno == errno.ENXIO else start

    async def write(self, index: int, data: memoryview) -> None:
        assert self._manifest is not None
        start, _ = self._manifest.chunk_span(index)
        # A cancelled caller does not stop the thread: the file stays open until every write has ended.
        task = asyncio.create_task(asyncio.to_thread(self._write, data, start), name=f"write chunk {index}")
        self._writes.add(task)
        task.add_done_callback(self._written)
        await asyncio.shield(task)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has it, or was cancelled by the same error of another write

    def _write(self, data: memoryview, start: int) -> None:
        try:
            while data:
                written = os.pwrite(self._fd, data, start)
                data = data[written:]
                start += written
        except OSError as error:
            raise _no_space(error, self.part) from error

    async def finish(self) -> None:
        """Renamed only after it is on the disk: a file under its final name is whole, after a power cut too."""
        try:
            if self._writes:
                await asyncio.wait(self._writes)
            await asyncio.to_thread(os.fsync, self._fd)
            os.replace(self.part, self.path)
        except OSError as error:
            raise _no_space(error, self.path) from error
        finally:
            self._close()

    async def abandon(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes)
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OrderedStream:
    """Standard output or another stream that takes bytes in order. It holds at most ``ahead_chunks_max`` chunks."""

    def __init__(self, stream: BinaryIO, ahead_chunks_max: int = 32) -> None:
        self.ahead_chunks_max: int | None = ahead_chunks_max
        self._stream = stream
        self._waiting: dict[int, bytes] = {}
        self._next = 0
        self._lock = asyncio.Lock()

    async def open(self, manifest: Manifest) -> list[int]:
        return []

    async def write(self, index: int, data: memoryview) -> None:
        self._waiting[index] = bytes(data)
        async with self._lock:
            while (piece := self._waiting.pop(self._next, None)) is not None:
                self._next += 1
                try:
                    await asyncio.to_thread(self._put, piece)
                except OSError as error:
                    raise ClientError(f"the output was closed: {error.strerror}") from error

    def _put(self, piece: bytes) -> None:
        self._stream.write(piece)
        self._stream.flush()

    async def finish(self) -> None:
        return None

    async def abandon(self) -> None:
        self._waiting.clear()
