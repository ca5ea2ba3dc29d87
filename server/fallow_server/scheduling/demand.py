"""What consumers ask for, by object and place, and what they are expected to ask for in the coming hours.

Bounded memory for any number of objects: so many pairs of object and place are counted, and a new one takes the slot
of the least asked for (space-saving: Metwally and others, 2005), so whatever makes up a fair share of the bytes is in.
Counts fade with three time constants. A rate is a count over the time that it was gathered in, in which each hour
counts as much as that hour usually has of a day's demand in that country: a night with few requests says the same as an
evening with many. For the hour that is foreseen the rate is multiplied by that again.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .places import Place

if TYPE_CHECKING:
    from .expectation import Expected

HOURS = 24
"""The coming ones, that under way first: as many as a device foresees."""
HOUR_S = 3600

DAY_S = HOURS * HOUR_S
BURST_S = HOUR_S
"""A rush fades as fast as it is forgotten."""
DAY_FADE_S = DAY_S
WEEK_FADE_S = 7 * DAY_S
COUNTRIES_MAX = 256
"""Shapes of the day; there are 249 countries, and one stands for where the table does not tell."""
SHAPE_WEIGHT_MAX = 0.9
SHAPE_DAYS = 2
"""The shape of a day gains its full weight within so many days after the first; until then all hours are alike."""
SHAPE_MIN = 0.1
"""No hour counts for more than ten usual ones."""

COUNT_MIN = 1e-9
"""What has faded to less than this is nothing, and has a logarithm."""


@dataclass(frozen=True, slots=True)
class Config:
    """``pairs_max``: of object and place, counted; each takes about 400 bytes."""

    pairs_max: int = 20_000


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything that is remembered. ``columns``: of each pair, in the order of :attr:`Demands.COLUMNS`."""

    pairs: list[tuple[str, Place]]
    columns: tuple[array[float], ...]
    shapes: list[tuple[str | None, float, float, tuple[float, ...]]]
    """Country, since when and as of when (Unix seconds), and what was asked for by hour."""


class Shape:
    """Of a country's day: what was asked for by hour (UTC), fading over a week."""

    __slots__ = ("at", "hours", "since", "total")

    def __init__(self, now: float) -> None:
        self.hours = [0.0] * HOURS
        self.total = 0.0
        self.since = now
        self.at = now

    @classmethod
    def restored(cls, since: float, at: float, hours: Iterable[float]) -> Shape:
        shape = cls(since)
        shape.at, shape.hours = at, list(hours)
        shape.total = sum(shape.hours)
        return shape

    def note(self, bytes_: float, now: float) -> None:
        # Fades by growing what is new: old counts are left as they are, until the numbers grow too large.
        if now - self.at > 10 * WEEK_FADE_S:
            fade = math.exp(-(now - self.at) / WEEK_FADE_S)
            self.hours = [one * fade for one in self.hours]
            self.total *= fade
            self.at = now
        grown = bytes_ * math.exp((now - self.at) / WEEK_FADE_S)
        self.hours[hour_of(now)] += grown
        self.total += grown

    def factor(self, hour: int, now: float) -> float:
        """Of the mean hour's demand."""
        days = (now - self.since) / DAY_S
        weight = SHAPE_WEIGHT_MAX * min(1.0, max(0.0, (days - 1) / SHAPE_DAYS))
        if not weight or self.total <= 0:
            return 1.0
        return max(SHAPE_MIN, 1 - weight + weight * HOURS * self.hours[hour] / self.total)


def hour_of(now: float) -> int:
    return int(now % DAY_S) // HOUR_S


class Demands:
    """``now`` is Unix time in seconds; one that goes back counts as no time."""

    COLUMNS = ("hour", "day", "week", "inherited", "at", "since")
    """Counts that fade with each constant; what the last holder of the slot had, which ranks and does not count; Unix
    seconds of the last and of the first request."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._slots: dict[tuple[str, Place], int] = {}
        self._pairs: list[tuple[str, Place]] = []
        self._hour, self._day, self._week = array("d"), array("d"), array("d")
        self._inherited, self._at, self._since = array("d"), array("d"), array("d")
        # The rank of each slot as it was once; ranks only grow, so the least is found by looking again.
        self._ranks: list[tuple[float, int]] = []
        self._shapes: dict[str | None, Shape] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def note(self, object_id: str, place: Place, bytes_: int, now: float) -> None:
        """A consumer at ``place`` asked for so many bytes of the object."""
        if bytes_ <= 0:
            return
        self._shape(place.country, now).note(bytes_, now)
        key = (object_id, place)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._new_slot(key, now, bytes_)
        else:
            passed = now - self._at[slot]
            if passed > 0:
                self._fade(slot, passed)
                self._at[slot] = now
            self._hour[slot] += bytes_
            self._day[slot] += bytes_
            self._week[slot] += bytes_

    def _fade(self, slot: int, passed: float) -> None:
        week = math.exp(-passed / WEEK_FADE_S)
        self._hour[slot] *= math.exp(-passed / BURST_S)
        self._day[slot] *= math.exp(-passed / DAY_FADE_S)
        self._week[slot] *= week
        self._inherited[slot] *= week

    def _shape(self, country: str | None, now: float) -> Shape:
        if country not in self._shapes and len(self._shapes) >= COUNTRIES_MAX:
            country = None
        shape = self._shapes.get(country)
        if shape is None:
            shape = self._shapes[country] = Shape(now)
        return shape

    def _rank(self, slot: int) -> float:
        """Orders slots by what they have over a week, at whatever time it is looked at."""
        return math.log(max(COUNT_MIN, self._week[slot] + self._inherited[slot])) + self._at[slot] / WEEK_FADE_S

    def _new_slot(self, key: tuple[str, Place], now: float, bytes_: float) -> int:
        columns = (self._hour, self._day, self._week, self._inherited, self._at, self._since)
        if len(self._pairs) < self._config.pairs_max:
            slot = len(self._pairs)
            self._pairs.append(key)
            for column, value in zip(columns, (bytes_, bytes_, bytes_, 0.0, now, now), strict=True):
                column.append(value)
            heapq.heappush(self._ranks, (self._rank(slot), slot))
        else:
            slot = self._least()
            del self._slots[self._pairs[slot]]
            self._pairs[slot] = key
            fade = math.exp(-max(0.0, now - self._at[slot]) / WEEK_FADE_S)
            inherited = (self._week[slot] + self._inherited[slot]) * fade
            for column, value in zip(columns, (bytes_, bytes_, bytes_, inherited, now, now), strict=True):
                column[slot] = value
            heapq.heapreplace(self._ranks, (self._rank(slot), slot))
        self._slots[key] = slot
        return slot

    def _least(self) -> int:
        while True:
            rank, slot = self._ranks[0]
            current = self._rank(slot)
            if current <= rank:
                return slot
            heapq.heapreplace(self._ranks, (current, slot))

    # -------------------------------------------------------------- what is expected

    def expected(self, now: float) -> Expected:
        """For every pair that is counted, what is asked for in the coming hours."""
        # Here and not above: who only counts does without numpy.
        from .expectation import expected

        return expected(self.saved(), now)

    # -------------------------------------------------------------- over a restart

    def saved(self) -> Saved:
        """A copy, quickly made, for another thread to write."""
        columns = (self._hour, self._day, self._week, self._inherited, self._at, self._since)
        shapes = [(name, one.since, one.at, tuple(one.hours)) for name, one in self._shapes.items()]
        return Saved(list(self._pairs), tuple(array("d", column) for column in columns), shapes)

    @classmethod
    def restored(cls, config: Config, saved: Saved) -> Demands:
        """What was saved, as far as it finds room."""
        found = cls(config)
        for name, since, at, hours in saved.shapes[:COUNTRIES_MAX]:
            found._shapes[name] = Shape.restored(since, at, hours)
        count = min(len(saved.pairs), config.pairs_max)
        columns = (found._hour, found._day, found._week, found._inherited, found._at, found._since)
        for column, values in zip(columns, saved.columns, strict=True):
            column.extend(values[:count])
        found._pairs = list(saved.pairs[:count])
        found._slots = {pair: slot for slot, pair in enumerate(found._pairs)}
        found._ranks = [(found._rank(slot), slot) for slot in range(count)]
        heapq.heapify(found._ranks)
        return found
