"""Weeks that were played earlier: a file each in a folder, so that a long run may be taken in parts.

Only weeks of the same code, data and size are joined: each file says of what it is made.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from .recordings import FILES
from .report import Played

Made = dict[str, str]
"""Of what a week is made: ``code`` and ``data`` as digests, ``size`` of the fleet."""

CHECKOUT = Path(__file__).parents[2]


def made_of(data: Path | None, size: tuple[int, int, int]) -> Made:
    """As it is now: all modules of this checkout that are loaded, which takes in all that a week needs."""
    sources = {
        Path(module.__file__)
        for module in list(sys.modules.values())
        if getattr(module, "__file__", None) and "site-packages" not in str(module.__file__)
    }
    code = {str(path.relative_to(CHECKOUT)): path for path in sources if path.is_relative_to(CHECKOUT)}
    inputs = {} if data is None else {name: data / name for name in FILES}
    return {"code": _digest(code), "data": _digest(inputs), "size": " ".join(map(str, size))}


def _digest(files: dict[str, Path]) -> str:
    """Of names and contents."""
    found = hashlib.sha256()
    for name, path in sorted(files.items()):
        found.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


class Parts:
    """:param made: of what the weeks of this run are."""

    def __init__(self, folder: Path, made: Made) -> None:
        self._folder = folder
        self._made = made

    def keep(self, week: Played) -> None:
        """Whole or not at all: a run may end at any time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{week.load}-{week.seed}-{week.policy}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"made": self._made, "week": asdict(week)}) + "\n", encoding="utf-8")
        partial.replace(path)

    def kept(self) -> list[Played]:
        """:raises SystemExit: where one is of another code, data or size, or none of ours."""
        return [self._read(path) for path in sorted(self._folder.glob("*.json"))]

    def _read(self, path: Path) -> Played:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            made, week = content["made"], Played(**content["week"])
        except (ValueError, KeyError, TypeError) as wrong:
            raise SystemExit(f"{path} is no part of a run ({wrong!r})") from None
        other = [name for name, value in self._made.items() if made.get(name) != value]
        if other:
            raise SystemExit(f"{path} was played with other {' and '.join(other)}: take another folder, or remove it")
        return week
