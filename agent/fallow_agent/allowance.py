"""What the owner's hours and month leave. Pure: local time and counters are arguments.

The budget in bit/s is decided by :mod:`.line.budget`; this says whether anything may be served at all.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from fallow_wire.fields import integer, text
from fallow_wire.lan import Hours, Limits

DAY_MIN = 1440


@dataclass(frozen=True, slots=True)
class LocalTime:
    """``day`` as 2026-11-23, ``weekday`` 0 (Monday) … 6, ``minute`` since local midnight."""

    day: str
    weekday: int
    minute: int

    @property
    def month(self) -> str:
        return self.day[:7]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes served, this local day and month."""

    day: Annotated[str, text(10)] = ""
    day_bytes: Annotated[int, integer()] = 0
    month_bytes: Annotated[int, integer()] = 0

    def add(self, at: LocalTime, served_bytes: int) -> Usage:
        """With what was served just now; a new day or month begins at nothing.

        A day before the last one known is a clock that is wrong (1970 after a power cut): it counts into the last.
        """
        if at.day > self.day:
            month_bytes = self.month_bytes if at.month == self.day[:7] else 0
            return Usage(at.day, served_bytes, month_bytes + served_bytes)
        return dataclasses.replace(
            self,
            day_bytes=self.day_bytes + served_bytes,
            month_bytes=self.month_bytes + served_bytes,
        )


def month_used_up(limits: Limits, usage: Usage) -> bool:
    return limits.monthly_bytes_max is not None and usage.month_bytes >= limits.monthly_bytes_max


def within_hours(hours: tuple[Hours, ...], at: LocalTime) -> bool:
    """True inside of a window, and always where the owner set none."""
    return not hours or any(_covers(window, at) for window in hours)


def _covers(window: Hours, at: LocalTime) -> bool:
    if window.start_min < window.end_min:
        return at.weekday in window.days and window.start_min <= at.minute < window.end_min
    yesterday = (at.weekday - 1) % 7
    return (at.weekday in window.days and at.minute >= window.start_min) or (
        yesterday in window.days and at.minute < window.end_min
    )


def minutes_until_open(hours: tuple[Hours, ...], at: LocalTime) -> int:
    """Minutes until the next window begins; 0 inside of one."""
    if within_hours(hours, at):
        return 0
    waits = []
    for window in hours:
        for day in window.days:
            minutes = ((day - at.weekday) % 7) * DAY_MIN + window.start_min - at.minute
            waits.append(minutes if minutes > 0 else minutes + 7 * DAY_MIN)
    return min(waits)
