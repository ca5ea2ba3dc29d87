"""Bytes on disk: one file for each object, named by its id.

A file appears under its name only when it is whole and synced. Everything here blocks and is called in the store's
own threads, through :meth:`Blobs.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fallow_wire.encoding import is_hex
from fallow_wire.manifest import Manifest, ManifestBuilder

T = TypeVar("T")

THREADS = 8
"""Reading, writing and hashing wait for the disk or run outside of the interpreter's lock."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A whole upload: its manifest, its id and the SHA-256 of all its bytes, hex."""

    manifest: Manifest
    object_id: str
    sha256: str


class Incoming:
    """One object on its way in. ``write`` and ``finish`` block; ``discard`` may come from another thread meanwhile."""

    def __init__(self, path: Path, media_type: str) -> None:
        self._path = path
        self._file = open(path, "xb")  # noqa: SIM115  # closed by finish or discard
        self._builder = ManifestBuilder(media_type)
        self._whole = hashlib.sha256()
        self._lock = threading.Lock()
        self.size = 0

    def write(self, data: bytes | bytearray) -> None:
        """:raises TooLarge: over what a manifest can hold. :raises OSError: as the disk has it."""
        with self._lock:
            if self._file.closed:
                return
            self._file.write(data)
            self._whole.update(data)
            self._builder.feed(memoryview(data))
            self.size += len(data)

    def finish(self) -> Finished:
        """Everything is on the disk when this returns."""
        with self._lock:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            manifest = self._builder.finish()
            return Finished(manifest, manifest.object_id(), self._whole.hexdigest())

    def keep_as(self, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        os.replace(self._path, target)
        for directory in (target.parent, target.parent.parent):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self) -> None:
        """Leave nothing. Does nothing after :meth:`keep_as`."""
        with self._lock:
            self._file.close()
            self._path.unlink(missing_ok=True)


class Blobs:
    """:param directory: ``<state>/blobs``; made when missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._counter = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fallow-blobs")

    def open(self) -> None:
        """Make the directories and remove what interrupted uploads left."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for path in self._incoming.iterdir():
            path.unlink()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def run(self, call: Callable[[], T]) -> T:
        """``call`` in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def path(self, object_id: str) -> Path:
        assert is_hex(object_id, 64), "object ids are checked at the door"
        return self._directory / object_id[:2] / object_id

    def incoming(self, media_type: str) -> Incoming:
        self._counter += 1
        return Incoming(self._incoming / f"{self._counter}", media_type)

    def keep(self, incoming: Incoming, object_id: str) -> None:
        """Give the finished file its name; bytes that are there already are replaced by the same."""
        incoming.keep_as(self.path(object_id))

    def remove(self, object_id: str) -> None:
        self.path(object_id).unlink(missing_ok=True)

    def held(self) -> Iterator[str]:
        """The ids of all files."""
        for folder in self._directory.iterdir():
            if is_hex(folder.name, 2):
                for path in folder.iterdir():
                    if is_hex(path.name, 64):
                        yield path.name

    def free_bytes(self) -> int:
        return shutil.disk_usage(self._directory).free

    @contextlib.contextmanager
    def reading(self, object_id: str) -> Iterator[int]:
        """A file descriptor; it goes on giving the bytes when the object is removed meanwhile.

        :raises FileNotFoundError: when the bytes are not here.
        """
        descriptor = os.open(self.path(object_id), os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
