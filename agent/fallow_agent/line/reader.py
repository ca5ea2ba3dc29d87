"""Puts meter, capacity, budget and forecast together, a step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from fallow_wire.session import Line

from .budget import Controller, Reading, idle_bps
from .capacity import LineConfig, capacity_of
from .forecast import HOUR_S, HOURS, Forecast, from_json
from .meter import Meter, Rates


class LineReader:
    """:param own_bytes: bytes on the wire that Fallow itself has sent and received since it started."""

    def __init__(
        self,
        config: LineConfig,
        own_bytes: Callable[[], tuple[int, int]],
        *,
        meter: Meter | None = None,
        forecast: object = None,
    ) -> None:
        self._capacity = capacity_of(config)
        self._meter = meter or Meter(config.interface)
        self._own_bytes = own_bytes
        self._own_before: tuple[float, int, int] | None = None
        self._household = Rates(0, 0)
        """As it was measured last: a reading that is skipped does not make the line idle."""
        self.up = Controller()
        self.down = Controller()
        """What may be used now is their ``budget_bps``; ``line`` says what the household leaves."""
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

    def read(self, monotonic: float, now_s: int) -> Line:
        """A new reading. :param now_s: Unix time."""
        total = self._meter.read(monotonic)
        own = self._own(monotonic)
        household = self._household
        if total is not None:
            household = Rates(max(0, total.up_bps - own.up_bps), max(0, total.down_bps - own.down_bps))
        self._household = household
        capacity = self._capacity
        self.up = self.up.after(monotonic, Reading(capacity.up_bps, household.up_bps, own.up_bps))
        self.down = self.down.after(monotonic, Reading(capacity.down_bps, household.down_bps, own.down_bps))
        self._line = self._made(household, own)
        if self._forecast.hour is None or now_s != self._forecast.hour.last_s:
            # An hour's mean is one of seconds: those in which the line is watched more closely weigh no more.
            self._forecast = self._forecast.after(now_s, hour_of_week(now_s), self._held_bps)
        return self._line

    def close(self) -> None:
        self._meter.close()

    @property
    def _usable_bps(self) -> int:
        return idle_bps(self._capacity.up_bps, 0)

    @property
    def _held_bps(self) -> int:
        """What the budget keeps for the household now, headroom included."""
        return max(0, self._usable_bps - self._line.idle_up_bps)

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
            household_up_bps=household.up_bps,
            household_down_bps=household.down_bps,
            own_up_bps=own.up_bps,
            own_down_bps=own.down_bps,
            idle_up_bps=idle_bps(capacity.up_bps, self.up.peak_bps),
            idle_down_bps=idle_bps(capacity.down_bps, self.down.peak_bps),
        )


def hour_of_week(unix_s: int) -> int:
    """Local hours since Monday 00:00, 0 … 167."""
    local = time.localtime(unix_s)
    return local.tm_wday * HOURS + local.tm_hour
