"""Keeping the process small: what is imported, and what the C library keeps. ``docs/decisions`` has the figures.

Where the C library is not glibc (OpenWrt's musl) there is nothing to set: it gives memory back by itself.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
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
    # The parsers in C serve busy servers; the agent's own service port does without, and routers have none: 0.7 MB.
    os.environ.setdefault("AIOHTTP_NO_EXTENSIONS", "1")
    # For ledgers, which read thousands of batches a second; here only where a server is installed too: 1.3 MB.
    sys.modules.setdefault("orjson", None)  # type: ignore[arg-type]  # None is how an import is refused
    _look_certificates_up()
    # The wheel carries zeroconf compiled and as source. A device hears a few mDNS packets a second, and would pay for
    # microseconds of each with 2.4 MB.
    sys.meta_path.insert(0, SourceFinder("zeroconf"))
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS_MAX)
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def _look_certificates_up() -> None:
    """Let OpenSSL find a certificate in the system's directory when it needs one, instead of keeping all 140: 2 MB.

    Only where the directory is hashed, as Debian's is, and nobody has named a bundle.
    """
    import ssl

    paths = ssl.get_default_verify_paths()
    if paths.openssl_cafile_env not in os.environ and any(Path(paths.openssl_capath).glob("*.0")):
        os.environ[paths.openssl_cafile_env] = os.devnull


class SourceFinder:
    """Finds the modules of ``package`` as Python source, where a compiled variant lies beside it.

    A module without a source is left to the next finder.
    """

    def __init__(self, package: str) -> None:
        self._prefix = package + "."

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith(self._prefix):
            return None
        for directory in path:
            found = FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name, target)
            # A directory without __init__.py would be found as a namespace, which has no loader.
            if found is not None and found.loader is not None:
                return found
        return None


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
