"""Room in memory for objects that are held for seconds: writing them to flash would wear it out for nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from fallow_agent.host.processor import memory_free_bytes

_log = logging.getLogger(__name__)

MEMORY = Path("/dev/shm")
MEMORY_BYTES_MAX = 64 * 2**20
"""Two minutes of a stream of 4 Mbit/s."""
AVAILABLE_PART = 8
"""Of what memory is available when a segment comes, at most one part in so many is taken for it and those before: the
household's own programs need the rest."""


class Memory:
    """Which objects lie in a memory filesystem, and how many bytes they take.

    :param directory: a directory of our own there, empty; None where there is none.
    :param available: bytes of memory that programs may still take.
    :param instead_of_disk: what finds no room here is not to be written to the disk either.
    """

    def __init__(
        self,
        directory: Path | None,
        bytes_max: int = MEMORY_BYTES_MAX,
        available: Callable[[], int] = lambda: 0,
        *,
        instead_of_disk: bool = False,
    ) -> None:
        self.instead_of_disk = instead_of_disk
        self._directory = directory
        self._bytes_max = bytes_max
        self._available = available
        self._sizes: dict[str, int] = {}

    @classmethod
    def beside(cls, content: Path, bytes_max: int, *, instead_of_disk: bool) -> Memory:
        """For the store in ``content``, on this computer."""
        directory = memory_directory(content) if bytes_max else None
        return cls(directory, bytes_max, memory_free_bytes, instead_of_disk=instead_of_disk)

    def take(self, object_id: str, size: int) -> bool:
        """Make room for an object; False when there is none."""
        if self._directory is None:
            return False
        used = sum(self._sizes.values())
        if used + size > min(self._bytes_max, (self._available() + used) // AVAILABLE_PART):
            return False
        self._sizes[object_id] = size
        return True

    def directory_of(self, object_id: str) -> Path | None:
        """Where the object lies, when that is here."""
        return self._directory if object_id in self._sizes else None

    def release(self, object_id: str) -> None:
        """The object's files are gone."""
        self._sizes.pop(object_id, None)

    def close(self) -> None:
        """Give everything back."""
        self._sizes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def memory_directory(content: Path, parent: Path = MEMORY) -> Path | None:
    """An empty directory of our own in ``parent``, for the store in ``content``; None where that cannot be.

    Anyone may make directories there, so one that is not ours, or that others may enter, is not used. What a former
    run left is removed.
    """
    directory = parent / f"fallow-{hashlib.sha256(os.fsencode(content.absolute())).hexdigest()[:16]}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            _log.warning("%s is not this agent's own; live streams are held on the disk", directory)
            return None
        for left in directory.iterdir():
            left.unlink()
    except OSError as error:
        _log.info("no memory for live streams: %s", error)
        return None
    return directory
