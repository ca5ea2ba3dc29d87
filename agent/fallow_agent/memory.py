"""Keeping the process small, on the C library's side.

Where the C library is not glibc (OpenWrt's musl) there is nothing to set: it gives memory back by itself.
"""

from __future__ import annotations

import gc
import os
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h."""
ARENAS_MAX = 2
"""Threads read and write chunks; an arena each would keep what they once used."""
MMAP_BYTES = 128 * 1024
"""Fixed, or glibc raises it after the first chunk of 1 MiB is freed, and keeps chunks in the heap from then on."""
TRIM_BYTES = 128 * 1024


def set_up() -> None:
    """Call before anything large is imported."""
    # aiohttp's signals are the only user, and the compiled variant brings all of libstdc++ along: 0.9 MB.
    os.environ.setdefault("FROZENLIST_NO_EXTENSIONS", "1")
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS_MAX)
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def release_unused() -> None:
    """Once the agent has started: collect what starting left, and give the pages back."""
    gc.collect()
    # What is alive now stays alive: later collections need not look at it.
    gc.freeze()
    malloc_trim = _of_libc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_libc(name: str) -> Any | None:
    """A function of the C library, or None where it has no such."""
    try:
        import ctypes
    except ImportError:  # OpenWrt packs it apart from Python
        return None
    return getattr(ctypes.CDLL(None), name, None)
