"""What an hour was like for each device: sums of samples, in columns, for a fleet has a hundred thousand rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

ROWS_A_LINE = 1000
"""Of a trace; each is a millisecond of work."""


class Hour:
    """:param number: since 1970."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.samples = 0
        self._present = array("H")
        self._idle_bps, self._own_bps, self._foreseen_bps = array("q"), array("q"), array("q")

    def add(self, device: int, idle_up_bps: int, own_up_bps: int, foreseen_up_bps: int) -> None:
        """A device as one sample finds it. :param foreseen_up_bps: of this hour; the first one counts."""
        missing = device + 1 - len(self._present)
        if missing > 0:
            for column in (self._present, self._idle_bps, self._own_bps, self._foreseen_bps):
                column.frombytes(bytes(missing * column.itemsize))
        if not self._present[device]:
            self._foreseen_bps[device] = foreseen_up_bps
        self._present[device] += 1
        self._idle_bps[device] += idle_up_bps
        self._own_bps[device] += own_up_bps

    def lines(self) -> Iterator[dict[str, Any]]:
        """As the trace has them, each of some devices from ``first`` on; rates are means of the samples."""
        for first in range(0, len(self._present), ROWS_A_LINE):
            rows = slice(first, first + ROWS_A_LINE)
            present = self._present[rows].tolist()
            yield {
                "hour": self.number,
                "samples": self.samples,
                "first": first,
                "present": present,
                "idle_up_bps": _means(self._idle_bps[rows], present),
                "own_up_bps": _means(self._own_bps[rows], present),
                "foreseen_up_bps": [_rounded(bps) for bps in self._foreseen_bps[rows]],
            }


def _means(sums: array[int], present: list[int]) -> list[int]:
    return [_rounded(total // max(1, count)) for total, count in zip(sums, present, strict=True)]


def _rounded(bps: int) -> int:
    """To three digits, which is more than is true of a line and half of the bytes."""
    unit: int = 10 ** max(0, len(str(bps)) - 3)
    return bps // unit * unit
