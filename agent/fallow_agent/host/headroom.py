"""How much of the budget processor and temperature leave. Pure: readings in, permille out."""

from __future__ import annotations

from dataclasses import dataclass

FULL = 1000
TEMPERATURE_SPAN_C = 10
"""Full up to so far below ``temperature_c_max``, then ever less: less work makes less heat, so it settles between."""
TEMPERATURE_HYSTERESIS_C = 3
"""Sensors jitter by a degree or two, and a chip cools by as much within seconds of less work."""
SPARE_HYSTERESIS_PERCENT = 5
"""What somebody else's small jobs (a package list, a page) move in a few seconds."""


SPARE_PERCENT_MIN = 20
"""The default. The agent runs niced, so it takes little from whom it competes with; what is left for bursts counts."""
SPARE_PERCENT_MIN_MAX = 90
"""No processor is ever all spare."""
TEMPERATURE_C_MAX = 85
"""The default: nothing from here on. A Raspberry Pi slows its processor from 80 °C on; half is left there. Routers'
chips are made for 95 °C and more; where one runs hotter than 75 °C by itself, its owner sets more."""


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """Of one core, in seconds since the start of the machine. ``waiting_s``: idle, or given to niced programs, which
    have said that they can wait. ``forwarding_s``: in soft interrupts, where a kernel forwards and shapes packets."""

    total_s: float
    waiting_s: float
    forwarding_s: float


@dataclass(frozen=True, slots=True)
class ProcessorTimes:
    """``own_s``: the agent's own that is in none of ``waiting_s``."""

    cores: tuple[CoreTimes, ...]
    own_s: float


MEASURED_S_MIN = 2.0
"""The kernel counts in hundredths of a second: over less time a single interrupt would look like a busy processor."""


class SpareProcessor:
    """Takes the times now and then; :attr:`percent` is what others left between the last two that lie far enough
    apart, None while it is not known."""

    def __init__(self) -> None:
        self._before: ProcessorTimes | None = None
        self.percent: int | None = None

    def take(self, times: ProcessorTimes | None) -> None:
        before = self._before
        if before is None or times is None or len(before.cores) != len(times.cores):
            self._before, self.percent = times, None  # the first, or a core came or went
        elif _total_s(times) - _total_s(before) >= MEASURED_S_MIN * len(times.cores):
            self._before, self.percent = times, spare_percent(before, times)


def _total_s(times: ProcessorTimes) -> float:
    return sum(core.total_s for core in times.cores)


def spare_percent(before: ProcessorTimes, after: ProcessorTimes) -> int:
    """What others left of the processor meanwhile. Some time has passed, and the cores are the same.

    The agent's own niced time is not held against it: it would throttle itself for its own work. Programs move from
    core to core, so all cores count together; forwarding does not, and a core full of it drops the household's packets.
    """
    pairs = tuple(zip(before.cores, after.cores, strict=True))
    total_s = _total_s(after) - _total_s(before)
    waiting_s = sum(new.waiting_s - old.waiting_s for old, new in pairs)
    others = (total_s - waiting_s - (after.own_s - before.own_s)) / total_s
    forwarding = max(
        (new.forwarding_s - old.forwarding_s) / (new.total_s - old.total_s)
        for old, new in pairs
        if new.total_s > old.total_s
    )
    return max(0, min(100, round(100 * (1 - max(others, forwarding)))))


class _Follower:
    """A value that goes up at once, and down only by more than ``slack`` less: what jitters within it stands still."""

    def __init__(self, slack: float) -> None:
        self._slack = slack
        self._value: float | None = None

    def follow(self, reading: float) -> float:
        if self._value is None or reading > self._value:
            self._value = reading
        self._value = min(self._value, reading + self._slack)
        return self._value


class Headroom:
    """Takes a reading now and then; :attr:`permille` is the share of the budget until the next.

    :param spare_percent_min: full while others leave so much of the processor, then ever less, nothing at 0.
    :param temperature_c_max: nothing from here on. 0 switches either off.
    """

    def __init__(self, spare_percent_min: int = SPARE_PERCENT_MIN, temperature_c_max: int = TEMPERATURE_C_MAX) -> None:
        self._spare_percent_min = spare_percent_min
        self._temperature_c_max = temperature_c_max
        self._heat = _Follower(TEMPERATURE_HYSTERESIS_C)
        self._load = _Follower(SPARE_HYSTERESIS_PERCENT)
        self.permille = FULL

    def take(self, spare_percent: int | None, temperature_c: int | None) -> None:
        """What is not known (None) limits nothing: many devices have no sensor, and some kernels do not tell."""
        self.permille = min(self._of_temperature(temperature_c), self._of_processor(spare_percent))

    def _of_temperature(self, celsius: int | None) -> int:
        if celsius is None or self._temperature_c_max == 0:
            return FULL
        return _part(self._temperature_c_max - self._heat.follow(celsius), TEMPERATURE_SPAN_C)

    def _of_processor(self, spare_percent: int | None) -> int:
        if spare_percent is None or self._spare_percent_min == 0:
            return FULL
        return _part(100 - self._load.follow(100 - spare_percent), self._spare_percent_min)


def _part(left: float, whole: int) -> int:
    return max(0, min(FULL, int(left * FULL / whole)))
