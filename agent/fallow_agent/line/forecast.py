"""Idle upload of the coming 24 hours, from the device's own history. Pure; nothing else of the history leaves it.

What is foreseen is the household's use, for that has a week's rhythm while capacity and limits may change any day:

- the expected use of an hour of the week: its own mean, shrunk towards the mean of that hour on all weekdays or on
  the weekend, which is known after days instead of weeks;
- of the error of the last hour, the share that lasts, learnt from how one error followed another;
- above it a margin that 90 % of hours stayed under, moved up after each hour that exceeded it and down after each
  other one. That is right for any distribution, and follows one that changes.

Use is the mean over the hour of what the budget holds for the household, headroom included. The mean, because what
can be served in an hour is the sum of its idle seconds: short peaks are the budget's to yield to, and a percentile
within the hour under a percentile of hours would promise next to nothing. Idle is usable capacity less the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

HOURS = 24
SLOTS = 7 * HOURS
"""Hours of the week, from Monday 00:00, local time."""
GROUPS = 2 * HOURS
"""Hours of weekdays, then those of the weekend."""
SLOT_SEEN_MAX = 5
GROUP_SEEN_MAX = 9
"""Means are plain over so many hours, then moving with the weight of the last one kept."""
SLOT_WEIGHT_MAX = 0.5
SLOT_WEEKS = 3
"""A slot gains its full weight against its group within so many weeks."""
HOURS_SEEN_MAX = 100
"""The same for the mean of all hours and of their errors."""
ERROR_MEMORY = 0.998
"""Per hour: how errors follow one another is learnt over three weeks."""
LASTING_MAX = 0.98
QUANTILE = 0.9
MARGIN_STEP = 0.05
"""``θ += η (q − 1[y ≤ U])`` is at rest only where a share ``q`` of the hours is covered: an hour above its
bound raises the margin by 0.045 mean errors, one below it lowers it by 0.005."""
MARGIN_START = 1.5
MARGIN_MIN, MARGIN_MAX = -1.0, 20.0
"""A line that is always idle stays under any bound; the margin is to find back within days, not years."""
LEVEL_FLOOR = 0.1
"""Of the mean use: an hour that was always quiet may still differ by so much."""
HOUR_S = 3600
READ_S_MIN = 600
"""An hour that was read for less says too little."""
USE_BPS_MAX = 10**11
"""Bounds what is stored: 216 numbers of at most 12 digits."""
VERSION = 2
"""Of the stored form. The first one was a list."""


@dataclass(frozen=True, slots=True)
class Hour:
    """The hour under way: its slot, the Unix times of its first and last reading, and the sum of the readings."""

    slot: int
    began_s: int
    last_s: int
    sum_bps: int
    readings: int


@dataclass(frozen=True, slots=True)
class History:
    """What whole hours have taught; rates in bit/s.

    ``slot_bps``, ``group_bps``: mean use, each over as many hours as ``slot_seen``, ``group_seen`` say.
    ``mean_bps``, ``spread_bps``: mean use and mean absolute error of all hours, over ``seen`` of them.
    ``error_bps``: that of the last hour, read last at ``error_s``. ``together``, ``squares``: moving sums of the
    products of successive errors and of their squares. ``margin``: in mean errors.
    """

    slot_bps: tuple[int, ...] = (0,) * SLOTS
    slot_seen: tuple[int, ...] = (0,) * SLOTS
    group_bps: tuple[int, ...] = (0,) * GROUPS
    group_seen: tuple[int, ...] = (0,) * GROUPS
    mean_bps: int = 0
    spread_bps: int = 0
    seen: int = 0
    error_bps: int = 0
    error_s: int = 0
    together: float = 0.0
    squares: float = 0.0
    margin: float = MARGIN_START

    def usual_bps(self, slot: int) -> float:
        """Mean use by the hour of the week alone; 0 where nothing is known."""
        group = _group(slot)
        if not self.group_seen[group]:
            # Sunday is more like Saturday than like nothing.
            group = (group + HOURS) % GROUPS
        general = self.group_bps[group] if self.group_seen[group] else self.mean_bps
        weight = SLOT_WEIGHT_MAX * min(self.slot_seen[slot], SLOT_WEEKS) / SLOT_WEEKS
        return weight * self.slot_bps[slot] + (1 - weight) * general

    def lasting(self, ahead: int) -> float:
        """Share of the last error that is expected after ``ahead`` hours; 0 hours ahead is no time."""
        if ahead < 1 or self.squares <= 0:
            return 0.0
        return float(min(LASTING_MAX, max(0.0, self.together / self.squares)) ** ahead)

    def ahead(self, at_s: int) -> int:
        """How many hours after the last learnt one ``at_s`` lies; 0 when the clock went back before it."""
        return 0 if at_s < self.error_s else 1 + (at_s - self.error_s) // HOUR_S

    def expected_bps(self, slot: int, ahead: int) -> float:
        """Mean use ``ahead`` hours after the last learnt one, the last error in mind."""
        return max(0.0, self.usual_bps(slot) + self.lasting(ahead) * self.error_bps)

    def bound_bps(self, slot: int, ahead: int) -> float:
        """What use stays under nine times out of ten, ``ahead`` hours after the last learnt one."""
        # One margin for all hours, learnt without the last error: prudent by a hundredth in the next hour.
        margin = self.margin * self._spread(self.usual_bps(slot))
        return max(0.0, self.expected_bps(slot, ahead) + margin)

    def after(self, hour: Hour) -> History:
        """With one more whole hour."""
        slot, group = hour.slot, _group(hour.slot)
        use = hour.sum_bps // hour.readings
        if not self.seen:
            first = replace(self, mean_bps=use, spread_bps=use, seen=1, error_s=hour.last_s)
            return first._with_means(slot, group, use)
        error = round(use - self.usual_bps(slot))
        seen = min(self.seen + 1, HOURS_SEEN_MAX)
        together, squares = self.together, self.squares
        if self.ahead(hour.began_s) == 1:
            together = ERROR_MEMORY * together + self.error_bps * error
            squares = ERROR_MEMORY * squares + self.error_bps**2
        covered = use <= self.bound_bps(slot, 0)
        learnt = replace(
            self,
            mean_bps=round(self.mean_bps + (use - self.mean_bps) / seen),
            spread_bps=round(self.spread_bps + (abs(error) - self.spread_bps) / seen),
            seen=seen,
            error_bps=error,
            error_s=hour.last_s,
            together=together,
            squares=squares,
            margin=_margin(self.margin + MARGIN_STEP * (QUANTILE - covered)),
        )
        return learnt._with_means(slot, group, use)

    def _with_means(self, slot: int, group: int, use: int) -> History:
        slot_bps, slot_seen = _averaged(self.slot_bps, self.slot_seen, slot, use, SLOT_SEEN_MAX)
        group_bps, group_seen = _averaged(self.group_bps, self.group_seen, group, use, GROUP_SEEN_MAX)
        return replace(self, slot_bps=slot_bps, slot_seen=slot_seen, group_bps=group_bps, group_seen=group_seen)

    def _spread(self, usual: float) -> float:
        """Busy hours vary more than quiet ones: with the root of their use, as sums of independent uses do."""
        floor = LEVEL_FLOOR * self.mean_bps
        whole = self.mean_bps + floor
        return self.spread_bps * math.sqrt((usual + floor) / whole) if whole > 0 else self.spread_bps


@dataclass(frozen=True, slots=True)
class Forecast:
    """``hour``: the one under way, None before the first reading."""

    history: History = History()
    hour: Hour | None = None

    def after(self, at_s: int, slot: int, use_bps: int) -> Forecast:
        """With a reading at Unix time ``at_s``, in local hour of the week ``slot`` (0 … 167).

        Hours are told apart by both: one that is repeated when summer ends is a second hour of the same slot.
        """
        hour, use = self.hour, min(max(use_bps, 0), USE_BPS_MAX)
        if hour is None:
            return Forecast(self.history, Hour(slot, at_s, at_s, use, 1))
        if slot == hour.slot and hour.last_s <= at_s < hour.began_s + HOUR_S:
            return Forecast(self.history, Hour(slot, hour.began_s, at_s, hour.sum_bps + use, hour.readings + 1))
        read_long_enough = hour.last_s - hour.began_s >= READ_S_MIN
        history = self.history.after(hour) if read_long_enough else self.history
        return Forecast(history, Hour(slot, at_s, at_s, use, 1))

    def coming(self, at_s: int, slots: Sequence[int], usable_bps: int, use_bps: int) -> tuple[int, ...]:
        """The 10th percentile of idle upload in each of the hours ``slots``, the first of which is that of ``at_s``.

        :param usable_bps: what there is to share when the household uses nothing. :param use_bps: its use now, which
            stands for all hours until the first one is known.
        """
        history = self.history
        if not history.seen:
            return (min(usable_bps, max(0, usable_bps - use_bps)),) * len(slots)
        first = history.ahead(at_s)
        bounds = (history.bound_bps(slot, first + more if first else 0) for more, slot in enumerate(slots))
        return tuple(max(0, usable_bps - math.ceil(bound)) for bound in bounds)

    def as_json(self) -> dict[str, Any]:
        """To be stored: 2 to 4 KB."""
        history, hour = self.history, self.hour
        return {
            "version": VERSION,
            "slots": list(history.slot_bps),
            "slots_seen": "".join(map(str, history.slot_seen)),
            "groups": list(history.group_bps),
            "groups_seen": "".join(map(str, history.group_seen)),
            "all": [history.mean_bps, history.spread_bps, history.seen],
            "error": [history.error_bps, history.error_s],
            "sums": [history.together, history.squares],
            "margin": history.margin,
            "hour": None if hour is None else [hour.slot, hour.began_s, hour.last_s, hour.sum_bps, hour.readings],
        }


def from_json(value: object) -> Forecast:
    """A stored forecast; an empty one when it cannot be read."""
    try:
        return _read(value)
    except (KeyError, TypeError, ValueError):
        return Forecast()


def _read(value: object) -> Forecast:
    if not isinstance(value, Mapping) or value["version"] != VERSION:
        raise ValueError("another form")
    mean, spread, seen = _integers(value["all"], 3)
    error, error_s = _integers(value["error"], 2, least=-USE_BPS_MAX)
    together, squares = _numbers(value["sums"], 2)
    (margin,) = _numbers([value["margin"]], 1)
    history = History(
        slot_bps=_integers(value["slots"], SLOTS),
        slot_seen=_digits(value["slots_seen"], SLOTS),
        group_bps=_integers(value["groups"], GROUPS),
        group_seen=_digits(value["groups_seen"], GROUPS),
        mean_bps=mean,
        spread_bps=spread,
        seen=min(seen, HOURS_SEEN_MAX),
        error_bps=error,
        error_s=error_s,
        together=together,
        squares=squares,
        margin=_margin(margin),
    )
    if value["hour"] is None:
        return Forecast(history)
    hour = Hour(*_integers(value["hour"], 5, most=USE_BPS_MAX * HOUR_S * 100))
    if hour.slot >= SLOTS or hour.readings < 1 or hour.sum_bps > hour.readings * USE_BPS_MAX:
        raise ValueError("no such hour")
    return Forecast(history, hour)


def _integers(value: object, count: int, least: int = 0, most: int = USE_BPS_MAX) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"not {count} numbers")
    if not all(type(item) is int and least <= item <= most for item in value):
        raise ValueError("not a rate")
    return tuple(value)


def _numbers(value: object, count: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"not {count} numbers")
    if not all(type(item) in (int, float) and math.isfinite(item) for item in value):
        raise ValueError("not a number")
    return tuple(float(item) for item in value)


def _digits(value: object, count: int) -> tuple[int, ...]:
    if not isinstance(value, str) or len(value) != count or not (value.isascii() and value.isdigit()):
        raise ValueError(f"not {count} digits")
    return tuple(map(int, value))


def _group(slot: int) -> int:
    return slot % HOURS + (HOURS if slot >= 5 * HOURS else 0)


def _margin(value: float) -> float:
    return min(max(value, MARGIN_MIN), MARGIN_MAX)


def _averaged(
    means: tuple[int, ...], seen: tuple[int, ...], at: int, use: int, seen_max: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    count = min(seen[at] + 1, seen_max)
    mean = round(means[at] + (use - means[at]) / count)
    return (*means[:at], mean, *means[at + 1 :]), (*seen[:at], count, *seen[at + 1 :])
