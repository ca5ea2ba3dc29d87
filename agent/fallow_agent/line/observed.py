"""What the line shows of its capacity by itself, one direction at a time. Pure; a few KB of state.

While a queue stands before the line, what leaves it is its capacity. What the counters see is what *enters*, which is
more while the queue grows. Bytes that entered from ``t0`` to ``t1`` left from ``t0 + q0`` to ``t1 + q1``, ``q`` being
the queueing delay then; so capacity = bytes ÷ ((t1 − t0) + (q1 − q0)), exactly so for any queue that is first in,
first out, and never empty in between.

Whose queue it was, a round trip does not say. It is taken for that of the direction which is the fuller by far,
measured by what is thought of both now; where both are full, or none, nothing is learnt.

Kept are: a histogram of these rates in steps of 3 %, whose weights halve every week, of which a high percentile is
the ``ceiling``; their mean of the last seconds in which one stood, ``congested``; and the highest rate carried in a
window without a queue, ``floor``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .capacity import DAY_S, Estimate, Seen

QUEUE_MS_MIN = 20.0
"""A queue that stands: more than jitter on a wireless or cable line, less than a modem's buffer."""
QUIET_MS_MAX = 5.0
"""No queue."""
WINDOW_S = 1.0
"""Rates are of windows at least as long: 100 ms of a 5 Mbit/s line are 40 packets, and one more is an error of 2.5
%."""
WINDOW_S_MAX = 30.0
READING_GAP_S_MAX = 5.0
"""Readings of the queue this far apart do not say that it stood between them."""
FULL_SHARE_MIN, OTHER_SHARE_MAX = 0.3, 0.5
"""Of capacity as it is thought now, the least for a direction to be the full one; the other is at most half as full."""
BPS_MIN, BPS_MAX, STEP = 50_000, 20_000_000_000, 1.03
PERCENTILE = 0.9
HALF_LIFE_S = 7 * DAY_S
WEIGHT_MIN = 10.0
"""Seconds of standing queue before a percentile of them is one."""
BINS_MAX = 96
"""The heaviest are kept: a line's rates spread over a dozen."""
RECENT_S = 10.0
"""The time constant of ``congested``, in seconds of standing queue."""
RECENT_AGE_S_MAX = 900
"""What is older is not mixed with what stands now."""
FLOOR_HALF_LIFE_S = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading. ``at``: monotonic seconds; ``now_s``: Unix time. ``total_bytes``: through this direction since any
    start, ``total_bps`` and ``other_bps``: this and the opposite direction's rate; ``queueing_ms``: round trip above
    its base, None while it is not measured. ``capacity_bps``, ``other_capacity_bps``: as they are thought now."""

    at: float
    now_s: int
    total_bytes: int
    other_bytes: int
    queueing_ms: float | None
    capacity_bps: int
    other_capacity_bps: int


@dataclass(frozen=True, slots=True)
class _Window:
    """From its first sample on; ``queued``: every sample had a standing queue, ``quiet``: every one had none."""

    first: Sample
    last: Sample
    queued: bool
    quiet: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """One direction. Begins empty; each reading gives the next one by :meth:`after`."""

    bins: Mapping[int, float] = field(default_factory=dict)
    """Seconds of standing queue by step of rate, as of ``aged_s``."""
    aged_s: int = 0
    measured_s: int | None = None
    recent_bps: float = 0.0
    recent_s: int | None = None
    floor_bps: int = 0
    floor_s: int | None = None
    window: _Window | None = None

    @property
    def seen(self) -> Seen:
        """For :func:`.capacity.capacity_of`."""
        ceiling = congested = floor = None
        weight = sum(self.bins.values())
        if self.measured_s is not None and weight >= WEIGHT_MIN:
            ceiling = Estimate(_percentile(self.bins, weight), "passive", self.measured_s)
        if self.recent_s is not None:
            congested = Estimate(int(self.recent_bps), "passive", self.recent_s)
        if self.floor_s is not None:
            floor = Estimate(self.floor_bps, "passive", self.floor_s)
        return Seen(ceiling, congested, floor)

    def after(self, sample: Sample) -> Observed:
        """Readings may come at any pace; those of 100 ms to 1 s serve best."""
        queueing = sample.queueing_ms
        queued = queueing is not None and queueing >= QUEUE_MS_MIN
        quiet = queueing is not None and queueing <= QUIET_MS_MAX
        window = self.window
        if window is not None:
            gap = sample.at - window.last.at
            moved = sample.total_bytes >= window.last.total_bytes and sample.other_bytes >= window.last.other_bytes
            joined = (window.queued and queued) or (window.quiet and quiet)
            if not 0 < gap <= READING_GAP_S_MAX or not moved or not joined:
                window = None
        if window is None:
            return replace(self, window=_Window(sample, sample, queued, quiet) if queued or quiet else None)
        window = _Window(window.first, sample, window.queued and queued, window.quiet and quiet)
        if sample.at - window.first.at < WINDOW_S:
            return replace(self, window=window)
        taken = self._taken_queue(window) if window.queued else self._taken_quiet(window)
        return replace(taken, window=_Window(sample, sample, queued, quiet))

    def _taken_queue(self, window: _Window) -> Observed:
        first, last = window.first, window.last
        if not _is_the_full_one(window):
            return self
        assert first.queueing_ms is not None
        assert last.queueing_ms is not None
        elapsed = last.at - first.at
        left_s = elapsed + (last.queueing_ms - first.queueing_ms) / 1000
        if left_s <= 0 or elapsed > WINDOW_S_MAX:
            return self
        bps = (last.total_bytes - first.total_bytes) * 8 / left_s
        if not BPS_MIN <= bps <= BPS_MAX:
            return self
        bins = _aged(self.bins, last.now_s - self.aged_s)
        step = round(math.log(bps / BPS_MIN, STEP))
        bins[step] = bins.get(step, 0.0) + elapsed
        if len(bins) > BINS_MAX:
            del bins[min(bins, key=lambda key: bins[key])]
        recent = bps
        if self.recent_s is not None and 0 <= last.now_s - self.recent_s < RECENT_AGE_S_MAX:
            recent = self.recent_bps + (1 - math.exp(-elapsed / RECENT_S)) * (bps - self.recent_bps)
        return replace(
            self, bins=bins, aged_s=last.now_s, measured_s=last.now_s, recent_bps=recent, recent_s=last.now_s
        )

    def _taken_quiet(self, window: _Window) -> Observed:
        first, last = window.first, window.last
        bps = int((last.total_bytes - first.total_bytes) * 8 / (last.at - first.at))
        floor = 0
        if self.floor_s is not None:
            floor = int(self.floor_bps * 0.5 ** (max(0, last.now_s - self.floor_s) / FLOOR_HALF_LIFE_S))
        return replace(self, floor_bps=bps, floor_s=last.now_s) if bps > floor and bps >= BPS_MIN else self

    # ------------------------------------------------------------------ kept over restarts

    def as_json(self) -> dict[str, object]:
        """Small, and read by :func:`from_json`; a window under way is not kept."""
        return {
            "bins": [[step, round(weight, 2)] for step, weight in sorted(self.bins.items())],
            "aged_s": self.aged_s,
            "measured_s": self.measured_s,
            "recent": [int(self.recent_bps), self.recent_s],
            "floor": [self.floor_bps, self.floor_s],
        }


def from_json(value: object) -> Observed:
    """What was stored; what is not of this form is as nothing, for the line shows itself again."""
    if not isinstance(value, dict):
        return Observed()
    try:
        bins = {int(step): float(weight) for step, weight in value["bins"][:BINS_MAX]}
        recent_bps, recent_s = value["recent"]
        floor_bps, floor_s = value["floor"]
        found = Observed(
            {step: weight for step, weight in bins.items() if 0 <= step <= _STEPS and 0 < weight < math.inf},
            int(value["aged_s"]),
            _time(value["measured_s"]),
            float(min(max(0, int(recent_bps)), BPS_MAX)),
            _time(recent_s),
            min(max(0, int(floor_bps)), BPS_MAX),
            _time(floor_s),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return Observed()
    return found


_STEPS = round(math.log(BPS_MAX / BPS_MIN, STEP))


def _time(value: object) -> int | None:
    return None if value is None else int(str(value))


def _is_the_full_one(window: _Window) -> bool:
    first, last = window.first, window.last
    elapsed = last.at - first.at
    share = (last.total_bytes - first.total_bytes) * 8 / elapsed / max(1, last.capacity_bps)
    other = (last.other_bytes - first.other_bytes) * 8 / elapsed / max(1, last.other_capacity_bps)
    return share >= FULL_SHARE_MIN and other <= OTHER_SHARE_MAX * share


def _aged(bins: Mapping[int, float], elapsed_s: int) -> dict[int, float]:
    """Weights after ``elapsed_s``; a clock that was put back ages nothing."""
    factor = 0.5 ** (max(0, elapsed_s) / HALF_LIFE_S)
    return {step: weight * factor for step, weight in bins.items() if weight * factor >= 0.01}


def _percentile(bins: Mapping[int, float], weight: float) -> int:
    passed = 0.0
    for step in sorted(bins):
        passed += bins[step]
        if passed >= PERCENTILE * weight:
            return int(BPS_MIN * STEP**step)
    raise AssertionError("weights add up to their sum")
