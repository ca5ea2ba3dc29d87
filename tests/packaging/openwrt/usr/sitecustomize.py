"""What this Debian's Python has more than a router's: modules whose package is not among the declared ones are refused.

Python's packages of OpenWrt's feed carry the parts of the standard library that ``PACKAGES`` names; the rest is in
python3-light.
"""

import importlib.abc
import json
import sys
import time
from pathlib import Path

PACKAGES = {
    "python3-asyncio": ("asyncio",),
    "python3-cgi": ("cgi", "cgitb"),
    "python3-codecs": ("unicodedata", "_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr"),
    "python3-ctypes": ("ctypes", "_ctypes"),
    "python3-dbm": ("dbm", "_dbm", "_gdbm"),
    "python3-decimal": ("decimal", "_decimal", "_pydecimal"),
    "python3-distutils": ("distutils",),
    "python3-email": ("email",),
    "python3-logging": ("logging",),
    "python3-lzma": ("lzma", "_lzma"),
    "python3-multiprocessing": ("multiprocessing", "_multiprocessing"),
    "python3-ncurses": ("curses", "_curses"),
    "python3-openssl": ("_ssl", "_hashlib"),
    "python3-pydoc": ("pydoc", "doctest", "pydoc_data"),
    "python3-readline": ("readline",),
    "python3-sqlite3": ("sqlite3", "_sqlite3"),
    "python3-unittest": ("unittest",),
    "python3-urllib": ("urllib",),
    "python3-uuid": ("uuid", "_uuid"),
    "python3-venv": ("ensurepip", "venv"),
    "python3-webbrowser": ("webbrowser",),
    "python3-xml": ("xml", "xmlrpc", "pyexpat", "_elementtree"),
}
FEED = Path("/usr/lib/feed")
DECLARED = frozenset(json.loads((FEED / "declared.json").read_text()))


class Refused(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self._owner = {module: package for package, modules in PACKAGES.items() for module in modules}

    def find_spec(self, name, path, target=None):  # type: ignore[no-untyped-def]
        owner = self._owner.get(name.partition(".")[0])
        if owner is not None and owner not in DECLARED:
            raise ModuleNotFoundError(f"{name}: {owner} is not installed", name=name)
        return


SHIFT = Path("/etc/clock-shift")
if SHIFT.exists():
    shift_s = int(SHIFT.read_text())
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + shift_s
    time.time_ns = lambda: real_ns() + shift_s * 10**9

sys.path[:] = [entry for entry in sys.path if "-packages" not in entry]
sys.path.append(str(FEED))
for loaded in [name for name in sys.modules if name.partition(".")[0] in {m for ms in PACKAGES.values() for m in ms}]:
    if Refused()._owner[loaded.partition(".")[0]] not in DECLARED:
        del sys.modules[loaded]
sys.meta_path.insert(0, Refused())
