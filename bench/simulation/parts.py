"""Weeks that were played earlier, and those that were put by: a file each in a folder, so that a long run may be taken
in parts.

Only what is of the same code, data and size is joined or gone on with: each file says of what it is made.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .demand import Requests
from .homes import Homes
from .recordings import FILES
from .report import Played
from .week import Week

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
        """One that was played to its end."""
        text = json.dumps({"made": self._made, "week": asdict(week)}) + "\n"
        self._write(f"{week.load}-{week.seed}-{week.policy}.json", text.encode())
        self._begun(week.load, week.seed, week.policy).unlink(missing_ok=True)

    def put_by(self, load: str, seed: int, policy: str, week: Week, homes: Homes, requests: Requests) -> None:
        """One that is under way, without its homes and requests, which are made anew."""
        file = io.BytesIO()
        _Pickler(file, homes, requests).dump((self._made, week))
        self._write(self._begun(load, seed, policy).name, file.getvalue())

    def begun(self, load: str, seed: int, policy: str, homes: Homes, requests: Requests) -> Week | None:
        """One that was put by, or None.

        :raises SystemExit: as for :meth:`kept`.
        """
        path = self._begun(load, seed, policy)
        if not path.exists():
            return None
        with path.open("rb") as file:
            made, week = _Unpickler(file, homes, requests).load()
        self._check(path, made)
        assert isinstance(week, Week)
        return week

    def _begun(self, load: str, seed: int, policy: str) -> Path:
        return self._folder / f"{load}-{seed}-{policy}.begun"

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all: a run may end at any time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(self._folder / name)

    def kept(self) -> list[Played]:
        """:raises SystemExit: where one is of another code, data or size, or none of ours."""
        return [self._read(path) for path in sorted(self._folder.glob("*.json"))]

    def _read(self, path: Path) -> Played:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            made, week = content["made"], Played(**content["week"])
        except (ValueError, KeyError, TypeError) as wrong:
            raise SystemExit(f"{path} is no part of a run ({wrong!r})") from None
        self._check(path, made)
        return week

    def _check(self, path: Path, made: Made) -> None:
        other = [name for name, value in self._made.items() if made.get(name) != value]
        if other:
            raise SystemExit(f"{path} was played with other {' and '.join(other)}: take another folder, or remove it")


class _Pickler(pickle.Pickler):
    def __init__(self, file: IO[bytes], homes: Homes, requests: Requests) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._known = {id(homes): "homes", id(requests): "requests"}

    def persistent_id(self, one: Any) -> str | None:
        return self._known.get(id(one))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], homes: Homes, requests: Requests) -> None:
        super().__init__(file)
        self._known = {"homes": homes, "requests": requests}

    def persistent_load(self, name: str) -> Homes | Requests:
        return self._known[name]
