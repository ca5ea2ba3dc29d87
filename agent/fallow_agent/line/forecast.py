"""Idle upload of the coming 24 hours, from the device's own history. Pure; nothing else of the history leaves it.

For each hour of the day the lowest idle rate of each seen hour is remembered, as a running low quantile: it follows
a lower value quickly and a higher one slowly, so that what is promised is what is there nine times out of ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOURS = 24
STEP_DOWN = 0.5
STEP_UP = STEP_DOWN / 9
"""Steps in proportion 9 to 1 settle where one value in ten lies below: the 10th percentile."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """``low_bps``: per local hour of the day, None where that hour was not seen yet.

    ``hour`` and ``lowest_bps``: the hour under way and the lowest idle rate in it.
    """

    low_bps: tuple[int | None, ...] = (None,) * HOURS
    hour: int | None = None
    lowest_bps: int = 0

    def after(self, hour: int, idle_bps: int) -> Forecast:
        """With a reading in local ``hour`` (0 … 23)."""
        if hour == self.hour:
            return Forecast(self.low_bps, hour, min(self.lowest_bps, idle_bps))
        low = list(self.low_bps)
        if self.hour is not None:
            low[self.hour] = _moved(low[self.hour], self.lowest_bps)
        return Forecast(tuple(low), hour, idle_bps)

    def coming(self, hour: int, idle_bps: int) -> tuple[int, ...]:
        """The 24 hours from local ``hour`` on; what now is idle stands for hours not seen yet."""
        known = [self.low_bps[(hour + ahead) % HOURS] for ahead in range(HOURS)]
        return tuple(idle_bps if value is None else value for value in known)

    def as_json(self) -> list[int | None]:
        """To be stored; the hour under way starts anew after a restart."""
        return list(self.low_bps)


def from_json(value: object) -> Forecast:
    """A stored forecast; an empty one when it cannot be read."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != HOURS:
        return Forecast()
    readable = all(item is None or (type(item) is int and item >= 0) for item in value)
    return Forecast(tuple(value)) if readable else Forecast()


def _moved(before: int | None, seen: int) -> int:
    if before is None:
        return seen
    step = STEP_DOWN if seen < before else STEP_UP
    return int(before + step * (seen - before))
