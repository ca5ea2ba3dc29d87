"""What no policy can exceed: an hourly linear program that knows true idle upload and true demand of the whole week.

It maximises what devices serve less what they are filled with, as the benches count it, and relaxes the week in this:
copies and bytes are divisible and arrive at once; whoever holds an object serves any consumer, anywhere, at any rate
until its idle bytes of the hour are used up, and requests need no routing; devices are in classes by their idle upload,
objects in groups by their demand, and a copy gives its object the most that any device of its class had in that hour;
what is held in a day is held all day, and dropping is free. A request that is under way at the end of an hour, as those
of its last ``DONE_S`` may be, is served in the next one as the program likes. So every week that can be played is a
point of the program, and its optimum a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from .demand import OBJECT_BYTES, Requests
from .homes import HOUR_S, STEP_S, Homes
from .recordings import HOURS, Floats, Integers
from .week import DONE_S

CLASSES, GROUPS = 4, 8
"""Twice as many of either make the bound tighter by less than a thousandth, and the program ten times as slow."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Bytes: ``net`` of fills, ``served`` and ``fills`` of that solution."""

    net_bytes: float
    served_bytes: float
    fill_bytes: float


class _Rows:
    """Rows of a sparse matrix, block by block: ``add`` takes index arrays of one shape, rows counted from ``first``."""

    def __init__(self) -> None:
        self.count = 0
        self._entries: list[tuple[Integers, Integers, Floats]] = []
        self.limits: list[Floats] = []

    def block(self, limits: Floats) -> Integers:
        rows = self.count + np.arange(limits.size).reshape(limits.shape)
        self.count += limits.size
        self.limits.append(limits.ravel())
        return rows

    def add(self, rows: Integers, columns: Integers, value: Floats | float) -> None:
        rows, columns, values = np.broadcast_arrays(rows, columns, value)
        self._entries.append((rows.ravel(), columns.ravel(), values.ravel().astype(float)))

    def matrix(self, width: int) -> sparse.csr_matrix:
        rows, columns, values = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        return sparse.csr_matrix((values, (rows, columns)), shape=(self.count, width))


def bound(homes: Homes, requests: Requests) -> Bound:
    """For this week. Bytes are reckoned in objects."""
    idle = homes.idle_bytes() / OBJECT_BYTES
    hours, days = homes.hours, math.ceil(homes.hours / HOURS)
    reachable = np.flatnonzero(homes.reachable)
    ranked = reachable[np.argsort(idle[:, reachable].sum(axis=0))]
    members = [part for part in np.array_split(ranked, CLASSES) if len(part)]
    group = _groups(requests)
    groups, classes = int(group.max()) + 1, len(members)
    hour = (requests.at_s // HOUR_S).astype(np.int64)
    demand = np.zeros((hours, groups))
    np.add.at(demand, (hour, group[requests.object]), 1.0)
    late = np.zeros((hours, groups))
    # The last step of the pace may be one of the next hour.
    at_end = requests.at_s % HOUR_S >= HOUR_S - DONE_S - STEP_S
    np.add.at(late, (hour[at_end], group[requests.object[at_end]]), 1.0)
    late[-1] = 0

    shape = (hours, groups, classes)
    served = np.arange(math.prod(shape)).reshape(shape)
    later = served.size + np.arange(hours * groups).reshape(hours, groups)
    kept = served.size + later.size + np.arange(groups * classes * days).reshape(groups, classes, days)
    filled = kept + kept.size
    width = served.size + later.size + 2 * kept.size
    day = np.arange(hours) // HOURS

    rows = _Rows()
    within = rows.block(demand)
    rows.add(within[:, :, None], served, 1)
    rows.add(within, later, 1)
    rows.add(within[1:], later[:-1], -1)
    before = rows.block(np.zeros((hours - 1, groups)))
    rows.add(before, later[:-1], 1)
    rows.add(before[:, :, None], served[1:], -1)
    lines = rows.block(np.stack([idle[:, part].sum(axis=1) for part in members], axis=1))
    rows.add(lines[:, None, :], served, 1)
    best = np.stack([idle[:, part].max(axis=1) for part in members], axis=1)
    copies = rows.block(np.zeros(shape))
    rows.add(copies, served, 1)
    rows.add(copies, kept[:, :, day].transpose(2, 0, 1), -best[:, None, :])
    disks = np.array([(homes.quota_bytes[part] // OBJECT_BYTES).sum() for part in members], dtype=float)
    disk = rows.block(np.repeat(disks[:, None], days, axis=1))
    rows.add(disk[None], kept, 1)
    rows.add(disk[None], filled, -1)
    made = rows.block(np.zeros((groups, classes, days)))
    rows.add(made, kept, 1)
    rows.add(made, filled, -1)
    rows.add(made[:, :, 1:], kept[:, :, :-1], -1)

    value = np.zeros(width)
    value[served], value[filled] = -1, 1
    upper = np.full(width, np.inf)
    upper[later] = late
    sizes = np.bincount(group, minlength=groups)
    upper[kept] = (sizes[:, None] * [len(part) for part in members])[:, :, None]
    solved = linprog(
        value, rows.matrix(width), np.concatenate(rows.limits), bounds=np.stack([np.zeros(width), upper], axis=1),
        method="highs",
    )  # fmt: skip
    if solved.status != 0:
        raise RuntimeError(f"the bound was not found: {solved.message}")
    found = solved.x * OBJECT_BYTES
    return Bound(float(-solved.fun) * OBJECT_BYTES, float(found[served].sum()), float(found[filled].sum()))


def _groups(requests: Requests) -> Integers:
    """Of each object: groups of about as much demand each, but at least one object."""
    counts = np.bincount(requests.object, minlength=requests.objects)
    order = np.argsort(-counts, kind="stable")
    sums = np.cumsum(counts[order]) - counts[order]
    group = np.empty(requests.objects, dtype=np.int64)
    group[order] = np.minimum(GROUPS - 1, sums * GROUPS // max(1, int(counts.sum())))
    return np.unique(group, return_inverse=True)[1]
