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
class Used:
    """What was used since the last time; see :class:`Usage`."""

    served_bytes: int = 0
    wire_bytes: int = 0
    written_bytes: int = 0
    refused: int = 0

    def __sub__(self, before: Used) -> Used:
        """Between two readings of totals."""
        return Used(
            self.served_bytes - before.served_bytes,
            self.wire_bytes - before.wire_bytes,
            self.written_bytes - before.written_bytes,
            self.refused - before.refused,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """This local day and month. ``day_bytes``: payload served; ``month_bytes``: on the wire, served and filled;
    ``day_written_bytes``: written to disks; ``day_refused``: new connections that were closed at once."""

    day: Annotated[str, text(10)] = ""
    day_bytes: Annotated[int, integer()] = 0
    month_bytes: Annotated[int, integer()] = 0
    day_written_bytes: Annotated[int, integer()] = 0
    day_refused: Annotated[int, integer()] = 0

    def add(self, at: LocalTime, more: Used) -> Usage:
        """With what was used just now; a new day or month begins at nothing.

        A day before the last one known is a clock that is wrong (1970 after a power cut): it counts into the last.
        """
        today = self
        if at.day > self.day:
            today = Usage(at.day, month_bytes=self.month_bytes if at.month == self.day[:7] else 0)
        return dataclasses.replace(
            today,
            day_bytes=today.day_bytes + more.served_bytes,
            month_bytes=today.month_bytes + more.wire_bytes,
            day_written_bytes=today.day_written_bytes + more.written_bytes,
            day_refused=today.day_refused + more.refused,
        )


def month_used_up(limits: Limits, usage: Usage) -> bool:
    return limits.monthly_bytes_max is not None and usage.month_bytes >= limits.monthly_bytes_max


def day_written_full(bytes_max: int | None, usage: Usage) -> bool:
    """The day's writing is used up: fills wait until tomorrow. None: no limit."""
    return bytes_max is not None and usage.day_written_bytes >= bytes_max


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
