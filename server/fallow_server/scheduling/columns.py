"""The fleet, the objects and their copies as columns of numbers: what placement reckons with, one row each.

Objects of Python would take minutes for a hundred thousand devices. Rows are named by whoever made the columns;
placement answers with row numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .demand import HOUR_S, HOURS

__all__ = ["HOURS", "HOUR_S", "Copies", "Flags", "Fleet", "Floats", "Ints", "Longs", "Objects", "Pairs", "no_pairs"]

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices that are connected.

    ``fit`` [n]: no filter refuses it whatever the object; the others keep what they hold and get nothing more.
    ``home`` [n]: equal where devices share an owner or a line. ``region`` [n]: a row and column of ``nearness``.
    ``room_bytes`` [n]: of the disk, fills under way and the reserve taken off; ``quota_bytes`` [n]: what its owner
    lends. ``waiting_bytes`` [n]: fills that are assigned and not done. ``online_share`` [n]: of the time that it is
    connected, 0 to 1. ``forecast_up_bps`` [n, 24]: the 10th percentile of idle upload in each coming hour.
    """

    fit: Flags
    home: Ints
    region: Ints
    room_bytes: Longs
    quota_bytes: Longs
    waiting_bytes: Longs
    online_share: Floats
    forecast_up_bps: Floats

    def __len__(self) -> int:
        return len(self.fit)


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects, and what is expected of consumers.

    ``size_bytes`` [m]. ``replicas`` [m]: the fewest copies that its publishers want.
    ``first_row`` [m + 1]: rows ``first_row[o]`` to ``first_row[o + 1]`` of the demand are those of object ``o``.
    ``region`` [k]: where consumers are. ``demand_bytes`` [k, 24]: what they are expected to ask for in each coming
    hour. ``nearness`` [g, g]: what a byte is worth that a device of one region (row) serves in another (column), from
    0 to 1.
    """

    size_bytes: Longs
    replicas: Ints
    first_row: Ints
    region: Ints
    demand_bytes: Floats
    nearness: Floats

    def __len__(self) -> int:
        return len(self.size_bytes)

    def rows(self, one: int) -> slice:
        """Of the demand for object ``one``."""
        return slice(int(self.first_row[one]), int(self.first_row[one + 1]))

    def object_of_row(self) -> Longs:
        """Of each row of the demand."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_row))


@dataclass(frozen=True, slots=True)
class Copies:
    """Which device has, or is filling, which object: row numbers [c]. ``settled`` [c]: held, and so may be dropped."""

    object: Ints
    device: Ints
    settled: Flags


@dataclass(frozen=True, slots=True)
class Pairs:
    """Objects that devices may not be asked to hold now, for they failed at it lately: row numbers [p]."""

    object: Ints
    device: Ints


def no_pairs() -> Pairs:
    return Pairs(np.empty(0, np.int32), np.empty(0, np.int32))
