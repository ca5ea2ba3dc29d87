"""The disk under the content directory."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from fallow_wire.session import Disk

_OCTAL = re.compile(r"\\([0-3][0-7]{2})")
"""How /proc/mounts writes blanks and backslashes."""
SYS_BLOCK = Path("/sys/dev/block")
OWN_IO = Path("/proc/self/io")
WORN_BY_WRITING = ("sd", "flash")
WHOLE_WRITES_DAYS = 32
"""Cards and eMMC may be written full once in so many days: 500 MB a day on one of 16 GB. In ten years that is 114
times; the card itself writes about twice as much, and cheap ones bear 500 times. More than half is left to the owner's
system."""


def free_bytes(directory: Path) -> int:
    """Bytes that an unprivileged program may still write; 0 when it cannot be told."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0


def medium_of(directory: Path, mounts: Path = Path("/proc/mounts"), sys_block: Path = SYS_BLOCK) -> str:
    """``ssd``, ``hdd``, ``sd``, ``flash``, ``ram`` or ``unknown``, as the kernel tells."""
    kind = _filesystem_of(directory, mounts)
    if kind in ("tmpfs", "ramfs"):
        return "ram"
    if kind in ("ubifs", "jffs2"):
        return "flash"
    try:
        device = os.stat(directory).st_dev
        name = (sys_block / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True)
    except OSError:
        return "unknown"
    # A partition's directory lies inside of its disk's.
    for place in (name, name.parent):
        rotational = _word(place / "queue" / "rotational")
        if rotational:
            if place.name.startswith("mmcblk"):
                return "flash" if _word(place / "device" / "type") == "MMC" else "sd"  # eMMC, or a card
            if place.name.startswith("mtdblock"):
                return "flash"
            return "hdd" if rotational == "1" else "ssd"
    return "unknown"


def _word(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _filesystem_of(directory: Path, mounts: Path) -> str:
    """Type of the filesystem that holds ``directory``: that of the longest mount point above it."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
        path = directory.resolve()
    except OSError:
        return ""
    best, found = -1, ""
    for line in lines:
        parts = line.split()
        if len(parts) < 3:
            continue
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), parts[1]))
        if (point == path or point in path.parents) and len(point.parts) >= best:
            best, found = len(point.parts), parts[2]
    return found


def write_bytes_per_day(medium: str, total_bytes: int, configured: int | None) -> int | None:
    """How much may be written in a day; None: without a limit.

    :param total_bytes: size of the filesystem. :param configured: the owner's: 0 for no limit, None for the medium's.
    """
    if configured is not None:
        return configured or None
    return total_bytes // WHOLE_WRITES_DAYS if medium in WORN_BY_WRITING else None


def written_bytes(file: Path = OWN_IO) -> int:
    """Bytes that this process has had written to disks since its start: content, database and all else.

    What it wrote to memory filesystems is not in it; where the kernel does not count (``TASK_IO_ACCOUNTING``), 0.
    """
    try:
        lines = file.read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(":")
        if name == "write_bytes" and value.strip().isdecimal():
            return int(value)
    return 0


class DiskReader:
    """Reads the disk; its medium once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._medium = medium_of(directory)

    @property
    def wears(self) -> bool:
        """A card or flash, which bears so many writes and no more."""
        return self._medium in WORN_BY_WRITING

    def write_bytes_per_day(self, configured: int | None) -> int | None:
        """See the function."""
        try:
            total_bytes = shutil.disk_usage(self._directory).total
        except OSError:
            return configured or None
        return write_bytes_per_day(self._medium, total_bytes, configured)

    def read(self, quota_bytes: int, used_bytes: int) -> Disk:
        return Disk(quota_bytes, used_bytes, free_bytes(self._directory), self._medium)
