"""Puts meter, capacity, budget and forecast together, a step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from fallow_wire.session import Line

from .budget import Controller, Reading, idle_bps
from .capacity import Capacity
from .forecast import HOUR_S, HOURS, Forecast, from_json
from .household import Household
from .meter import Rates

FULL_SHARE = 0.8
"""Of the capacity: where one direction is as full as this and the other half as much, a queue is of the first."""
OURS_SHARE = 0.1
"""The same where only what is ours is seen: with so much of it in one direction, the queue is taken for that one's."""


class LineReader:
    """:param capacity: of now. :param own_bytes: on the wire, that Fallow has sent and received since it started.
    :param instant: monotonic seconds; None where a step takes no time.
    """

    def __init__(
        self,
        capacity: Callable[[], Capacity],
        household: Household,
        own_bytes: Callable[[], tuple[int, int]],
        instant: Callable[[], float] | None = None,
        *,
        forecast: object = None,
    ) -> None:
        self._capacity_of_now = capacity
        self._capacity = capacity()
        self.household = household
        self._own_bytes = own_bytes
        self._instant = instant
        self._own_before: tuple[float, int, int] | None = None
        self.up = Controller()
        self.down = Controller()
        """What may be used now is their ``budget_bps``; ``line`` says what the household leaves."""
        self.total: Rates | None = None
        """What the whole line carried in the last step; None where that was not seen in time."""
        self.full = False
        """Whether the upload was in the last step, by what is seen of it."""
        self._forecast = from_json(forecast)
        self._line = self._made(Rates(0, 0), Rates(0, 0))

    @property
    def line(self) -> Line:
        """The last reading."""
        return self._line

    @property
    def up_budget_bps(self) -> int:
        """What may be sent now; before the first reading, all that an idle line has."""
        return self._line.idle_up_bps if self.up.budget_bps is None else self.up.budget_bps

    @property
    def down_budget_bps(self) -> int:
        return self._line.idle_down_bps if self.down.budget_bps is None else self.down.budget_bps

    @property
    def forecast(self) -> Forecast:
        return self._forecast

    def coming(self, now_s: int) -> tuple[int, ...]:
        """Idle upload of the hour of ``now_s`` (Unix time) and of the 23 after it, in bit/s, as forecast."""
        # Asked of the calendar one by one: on two nights of the year, the next hour is not the next slot.
        slots = [hour_of_week(now_s + ahead * HOUR_S) for ahead in range(HOURS)]
        return self._forecast.coming(now_s, slots, self._usable_bps, self._held_bps)

    def read(self, monotonic: float, now_s: int, queueing_ms: float | None = None) -> Line:
        """A new reading.

        :param now_s: Unix time.
        :param queueing_ms: what packets wait on the line above its base, None where unknown.
        """
        self._capacity = capacity = self._capacity_of_now()
        # Each is timed for itself: a busy processor lets 10 ms pass between the two readings, and what we send in those
        # would else be the household's, to which we yield.
        own = self._own(self._now(monotonic))
        sight = self.household.see(self._now(monotonic), own)
        seen = sight.rates or Rates(0, 0)
        self.total = sight.total if sight.prompt else None
        up_share = (seen.up_bps + own.up_bps) / max(1, capacity.up_bps)
        down_share = (seen.down_bps + own.down_bps) / max(1, capacity.down_bps)
        full = OURS_SHARE if sight.rates is None else FULL_SHARE
        up, down = (
            Reading(bps, None if sight.rates is None else household_bps, own_bps, queueing, sight.prompt)
            for bps, household_bps, own_bps, queueing in (
                (capacity.up_bps, seen.up_bps, own.up_bps, _of_this(queueing_ms, up_share, down_share, full)),
                (capacity.down_bps, seen.down_bps, own.down_bps, _of_this(queueing_ms, down_share, up_share, full)),
            )
        )
        self.up = self.up.after(monotonic, up)
        self.down = self.down.after(monotonic, down)
        self.full = up.full
        self._line = self._made(seen, own)
        if self._forecast.hour is None or now_s != self._forecast.hour.last_s:
            # An hour's mean is one of seconds: those in which the line is watched more closely weigh no more.
            self._forecast = self._forecast.after(now_s, hour_of_week(now_s), self._held_bps)
        return self._line

    def close(self) -> None:
        self.household.close()

    @property
    def _usable_bps(self) -> int:
        return idle_bps(self._capacity.up_bps, 0)

    @property
    def _held_bps(self) -> int:
        """What the budget keeps for the household now, headroom included."""
        return max(0, self._usable_bps - self._line.idle_up_bps)

    def _now(self, monotonic: float) -> float:
        return monotonic if self._instant is None else self._instant()

    def _own(self, monotonic: float) -> Rates:
        up, down = self._own_bytes()
        before, self._own_before = self._own_before, (monotonic, up, down)
        if before is None or monotonic <= before[0]:
            return Rates(0, 0)
        elapsed = monotonic - before[0]
        # A counter that began anew is no negative traffic.
        return Rates(max(0, int((up - before[1]) * 8 / elapsed)), max(0, int((down - before[2]) * 8 / elapsed)))

    def _made(self, household: Rates, own: Rates) -> Line:
        capacity = self._capacity
        return Line(
            up_capacity_bps=capacity.up_bps,
            down_capacity_bps=capacity.down_bps,
            capacity_source=capacity.source,
            down_capacity_source=None if capacity.down_source == capacity.source else capacity.down_source,
            household_up_bps=household.up_bps,
            household_down_bps=household.down_bps,
            own_up_bps=own.up_bps,
            own_down_bps=own.down_bps,
            idle_up_bps=idle_bps(capacity.up_bps, self.up.peak_bps),
            idle_down_bps=idle_bps(capacity.down_bps, self.down.peak_bps),
        )


def _of_this(queueing_ms: float | None, share: float, other: float, full: float) -> float | None:
    """A round trip does not say in which direction it waited."""
    return 0.0 if queueing_ms is not None and other > full and share < other / 2 else queueing_ms


def hour_of_week(unix_s: int) -> int:
    """Local hours since Monday 00:00, 0 … 167."""
    local = time.localtime(unix_s)
    return local.tm_wday * HOURS + local.tm_hour
