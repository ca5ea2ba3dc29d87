"""The files of a record: one for each day and each start of the server, gzipped lines of JSON."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VERSION = 2
SUFFIX = ".jsonl.gz"
STARTS_A_DAY_MAX = 1000
"""Files of one day: their names are in order for as many."""
DAY_S = 86_400
HALVINGS_MAX = 16
"""One request in 65,536: what is kept of a day beyond that says nothing."""


class Shelf:
    """Blocks; for threads. Each batch is a gzip member of its own, so that a crash costs the last one at most.

    :param day_bytes_max: of each day, however often the server starts.
    """

    def __init__(self, directory: Path, days: int, day_bytes_max: int) -> None:
        self._directory = directory
        self._days = days
        self._day_bytes_max = day_bytes_max
        self._file: Path | None = None
        self._used = 0

    def begin(self, day: str, oldest: str) -> int:
        """A new file of ``day``; days before ``oldest`` go, as does what is more than all days may have. Days are
        dates, such as ``2026-11-25``. Gives how many requests there should be for each that is kept.

        :raises OSError: when the directory cannot be written.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        sizes = {file: file.stat().st_size for file in sorted(self._directory.glob(f"*{SUFFIX}"))}
        for file in list(sizes):
            if file.name[: len(day)] < oldest or sum(sizes.values()) > self._day_bytes_max * (self._days + 1):
                file.unlink()
                del sizes[file]
        today = [file for file in sizes if file.name.startswith(day)]
        self._used = sum(sizes[file] for file in today)
        number = int(today[-1].name.split(".")[1]) + 1 if today else 0
        if number >= STARTS_A_DAY_MAX:
            raise OSError(0, "the server has started too often today")
        self._file = self._directory / f"{day}.{number:03}{SUFFIX}"
        os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return self._one_in()

    def append(self, lines: Iterable[dict[str, Any]]) -> int | None:
        """Gives how many requests there should be for each that is kept from now on; None when the day is full, and
        nothing was written.

        :raises OSError: when it cannot be written; what was there before stays.
        """
        assert self._file is not None
        text = "".join(json.dumps(line, separators=(",", ":"), default=list) + "\n" for line in lines)
        data = gzip.compress(text.encode("ascii"))
        if self._day_bytes_max - self._used - len(data) < self._day_bytes_max >> HALVINGS_MAX:
            return None
        with self._file.open("ab") as file:
            file.write(data)
        self._used += len(data)
        return self._one_in()

    def _one_in(self) -> int:
        """Half of the day's share is for all requests, a quarter for one in two, and so on: it is never used up."""
        left, one_in = self._day_bytes_max - self._used, 1
        while one_in < 1 << HALVINGS_MAX and left <= self._day_bytes_max // (2 * one_in):
            one_in *= 2
        return one_in
