"""Which devices do tasks that are about no object: measurements, streams.

Each task wants so many devices, of different homes and spread over countries; each home takes a few tasks at a time.
Alone, a task's best choice is the greedy one: its best device, then the best of another home, less for each that is
already chosen of the same country. Where every task can have its best choice, that is the best matching too. Where
they compete for homes it is a flow from tasks over countries and homes to what homes take, and the cheapest is found
by a library (HiGHS, by way of SciPy), which is not loaded before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .explanation import Scored, Sifted
from .scores import rendezvous
from .views import Assignment, Demand, DeviceView

SPREAD = 0.1
"""What each further device of one country is worth less: the second a tenth, the third two, where a score is at most 1.
So a much better device of the same country is still taken before a bad one elsewhere."""
ASSIGNED = 1000.0
"""What any assignment is worth besides its score: nothing is left undone so that something else is done better."""
CHOICES_PER_DEVICE, CHOICES_MORE = 4, 16
"""Candidates that compete for a task: four for each device wanted and some. The best of so many are as good as the best
of all, and a whole round of tasks stays a small problem (measured: docs/decisions/0042)."""
LINE_BPS = 5_000_000
"""An idle line of so much counts for half, and none for more than the whole: a measurement needs no fast one."""


@dataclass(frozen=True, slots=True)
class Want:
    """A task's demand with its candidates, and how pressing it is: from 0 for a new one to 1 at its deadline."""

    demand: Demand
    choices: tuple[Scored, ...]
    haste: float = 0.0


@dataclass(slots=True)
class _Chosen:
    """What one task has."""

    homes: set[str] = field(default_factory=set)
    countries: dict[str | None, int] = field(default_factory=dict)
    devices: list[Scored] = field(default_factory=list)

    def worth(self, one: Scored) -> float:
        return one.value - SPREAD * self.countries.get(one.device.place.country, 0)

    def add(self, one: Scored) -> None:
        self.homes.add(home_of(one.device))
        country = one.device.place.country
        self.countries[country] = self.countries.get(country, 0) + 1
        self.devices.append(one)


def home_of(device: DeviceView) -> str:
    """Devices of one owner are one home, unless they are in different countries."""
    return f"{device.owner}/{device.place.country or ''}"


def work_score(device: DeviceView, demand: Demand) -> dict[str, float]:
    """Of a device for a task that needs little: an idle line and processor, and chance, which weighs as much: the same
    few homes would else do everything, and show a publisher nothing of the others."""
    left = device.remaining_up_bps
    line = left / (left + LINE_BPS)
    processor = device.spare_percent / 100
    chance = rendezvous(demand.task_id, device.device_id) / 2**64
    return {"value": line / 4 + processor / 4 + chance / 2, "line": line, "processor": processor, "chance": chance}


def narrowed(sifted: Sifted, haste: float = 0.0) -> Want:
    """The candidates that compete: best first of each country in turn, so that there is something to spread over."""
    seen: dict[str | None, int] = {}
    ranked = []
    for one in sifted.scored:
        country = one.device.place.country
        ranked.append((seen.get(country, 0), -one.value, one))
        seen[country] = seen.get(country, 0) + 1
    ranked.sort(key=lambda entry: entry[:2])
    count = CHOICES_PER_DEVICE * sifted.demand.replicas + CHOICES_MORE
    return Want(sifted.demand, tuple(one for _, _, one in ranked[:count]), haste)


def match(wants: Sequence[Want], room: Callable[[str], int]) -> tuple[Assignment, ...]:
    """The assignments of greatest worth together, as many as there can be.

    :param room: of a home (its owner): tasks that it may be given in this round. All devices of an owner share it.
    """
    alone = [_alone(want) for want in wants]
    used: dict[str, int] = {}
    for chosen in alone:
        for one in chosen:
            used[one.device.owner] = used.get(one.device.owner, 0) + 1
    if any(count > room(owner) for owner, count in used.items()):
        alone = _together(wants, room)
    return tuple(
        Assignment(want.demand.task_id, "", one.device.device_id, 0)
        for want, chosen in zip(wants, alone, strict=True)
        for one in chosen
    )


def _alone(want: Want) -> list[Scored]:
    chosen = _Chosen()
    left = list(want.choices)
    while left and len(chosen.devices) < want.demand.replicas:
        best = max(left, key=chosen.worth)
        chosen.add(best)
        left = [one for one in left if home_of(one.device) not in chosen.homes]
    return chosen.devices


def _together(wants: Sequence[Want], room: Callable[[str], int]) -> list[list[Scored]]:
    """As a linear programme. Its rows are two nested families of sets: what a task gets, of which country, from which
    home; and what an owner gives. Such a programme is a flow, so its corners are whole numbers."""
    problem = _Programme()
    columns: list[tuple[int, Scored, int]] = []
    for number, want in enumerate(wants):
        task = problem.row(want.demand.replicas)
        homes: dict[str, int] = {}
        countries: dict[str | None, int] = {}
        sizes: dict[str | None, int] = {}
        for one in want.choices:
            country, home = one.device.place.country, home_of(one.device)
            if home not in homes:
                homes[home] = problem.row(1)
            if country not in countries:
                countries[country] = problem.balance()
            sizes[country] = sizes.get(country, 0) + 1
            owner = problem.shared_row(one.device.owner, room)
            worth = ASSIGNED + want.haste + one.value
            column = problem.column(-worth, (task, homes[home], owner), {countries[country]: 1})
            columns.append((number, one, column))
        for country, size in sizes.items():
            for step in range(min(size, want.demand.replicas)):
                problem.column(SPREAD * step, (), {countries[country]: -1})
    taken = problem.solve()
    found: list[list[Scored]] = [[] for _ in wants]
    for number, one, column in columns:
        if taken[column]:
            found[number].append(one)
    return found


class _Programme:
    """Least cost, columns from 0 to 1: rows of at most some number, and balances that come to nothing."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._limits: list[float] = []
        self._balances = 0
        self._shared: dict[str, int] = {}
        self._entries: tuple[list[int], list[int]] = ([], [])
        self._balanced: tuple[list[int], list[int], list[int]] = ([], [], [])

    def row(self, limit: int) -> int:
        self._limits.append(limit)
        return len(self._limits) - 1

    def shared_row(self, owner: str, room: Callable[[str], int]) -> int:
        if owner not in self._shared:
            self._shared[owner] = self.row(max(0, room(owner)))
        return self._shared[owner]

    def balance(self) -> int:
        self._balances += 1
        return self._balances - 1

    def column(self, cost: float, rows: Sequence[int], balances: dict[int, int]) -> int:
        at = len(self._costs)
        self._costs.append(cost)
        for row in rows:
            self._entries[0].append(row)
            self._entries[1].append(at)
        for balance, sign in balances.items():
            self._balanced[0].append(balance)
            self._balanced[1].append(at)
            self._balanced[2].append(sign)
        return at

    def solve(self) -> list[bool]:
        # Only here, for they take 50 MB and half a second.
        import numpy as np
        from scipy.optimize import linprog
        from scipy.sparse import coo_array

        width = len(self._costs)
        rows, at = self._entries
        limits = coo_array((np.ones(len(rows)), (rows, at)), shape=(len(self._limits), width)).tocsr()
        balances, at, signs = self._balanced
        sums = coo_array((signs, (balances, at)), shape=(self._balances, width)).tocsr()
        found: Any = linprog(
            self._costs,
            A_ub=limits,
            b_ub=self._limits,
            A_eq=sums,
            b_eq=np.zeros(self._balances),
            bounds=(0, 1),
            method="highs-ds",  # the simplex ends in a corner
        )
        assert found.success, found.message
        return [bool(value > 0.5) for value in found.x]
