"""How much of one direction of the line may be used for others, step by step. Pure.

Two answers to the household. Small, steady use is shared with: what is left is the capacity less a reserve and less the
household's peak. Demand that grows is yielded to: a transfer that begins needs the whole line to find its speed, and
would find only what we leave it. Yielding is at once, coming back is slow.

The household's rate leads, where it is seen: a queue tells of a demand only after it has hurt, and in some homes hardly
at all. Where it is seen late or not at all (behind another router), a queue is the onset: what we send alone never
fills the line, so that somebody else is on it; and what he uses is at least the line less what we sent.

Rates are bit/s as the wire carries them, times are monotonic seconds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fallow_wire.lan import Limits

USABLE_SHARE = 0.85
"""Of the capacity: the rest keeps the modem's queue empty."""
BLIND_SHARE = 0.5
"""The same where neither the household nor a queue can be seen: what is not known is left alone."""
HOUSEHOLD_FACTOR = 1.1
"""Headroom for growth until the next reading."""
PEAK_HALF_LIFE_S = 1.0
"""A rise of the household's use counts at once, a fall slowly: a pause between two bursts is no idle line."""
RECENT_S = 0.2
"""The use that is shared with is an average over so long: a single train of packets is no rate."""
LEVEL_S = 1.0
"""Time constant of the household's short-term level, which growth is measured against."""
YIELDED_LEVEL_S = 0.25
"""The same while we yield: when the hold is over, what was yielded to is the level, and no onset again."""
ONSET_SHARE = 0.08
"""Of the capacity: a rise over the level by more, within one reading, is a demand that grows."""
ONSET_BPS_MIN = 500_000
"""Four packets in 100 ms are no demand, on the smallest line neither."""
FULL_SHARE = 0.95
"""Of the capacity: a line as full as this holds back a household that grew too slowly to be an onset."""
YIELD_SHARE = 0.10
"""Of the capacity: all that is left to us while we yield. Transfers stay alive, and TCP keeps its measure."""
UNSEEN_YIELD_SHARE = 0.02
"""The same where only a queue tells of the household: it is told late, and what it lost until then is made good."""
HOLD_S = 1.0
GROWING_SHARE = 0.02
"""Of the capacity: a new high by more extends the hold."""
BULK_SHARE = 0.5
"""Of the capacity: a household that uses more has something large to send, and gets the line until it is done."""
GROWTH_PER_S = 0.2
"""Of the capacity: 2 % each 100 ms brings an idle line into use within five seconds."""
GROWTH_S_MAX = 1.0
"""A step that came late grows the budget no further."""
QUEUEING_MS_TARGET = 10.0
"""Delay that our own packets may find in the queue: a call does not notice it."""
QUEUED_SHARE_MIN = 0.3
"""Of the capacity: where no more than this is seen on the line, a queue is elsewhere on the way, or the line has less
than a third of what is thought of it."""
CROWDED_FACTOR = 1.5
"""Over the target: the queue is a demand where none can be seen otherwise. On idle lines 2 to 6 readings in a thousand
are as high, one straggler each; two in a row are needed."""
DRAIN_S = 0.5
"""So long after we yielded, what still stands in the queue is not what we left there."""
BESIDE_HALF_LIFE_S = 20.0
"""Of the peak where the household is not seen, and the queue went as we did: it is still there, beside us, and to look
again costs it a queue each time."""
ALONE_HALF_LIFE_S = 3.0
"""The same where the queue stood without us, or the household's rate is known late: when it is gone, so is what made
it."""


def idle_bps(capacity_bps: int, peak_bps: float) -> int:
    """What the household leaves of the line, and the most that a budget ever is."""
    return max(0, int(USABLE_SHARE * capacity_bps - HOUSEHOLD_FACTOR * peak_bps))


def upload_budget_bps(capacity_bps: int, idle: int, limits: Limits) -> int:
    """What may be sent now: the idle rate under the owner's limits."""
    budget = min(idle, capacity_bps * limits.upload_percent_max // 100)
    if limits.upload_bps_max is not None:
        budget = min(budget, limits.upload_bps_max)
    return budget


@dataclass(frozen=True, slots=True)
class Reading:
    """Rates since the step before.

    ``household_bps``: None where it is not seen. ``queueing_ms``: what packets wait over their base, None if unknown.
    ``prompt``: the household's rate is of this very step, so that it leads.
    """

    capacity_bps: int
    household_bps: int | None
    own_bps: int
    queueing_ms: float | None = None
    prompt: bool = True

    @property
    def leads(self) -> bool:
        """The household's rate does, and not the queue."""
        return self.household_bps is not None and self.prompt

    @property
    def full(self) -> bool:
        """There is no more to be had: by the counters, or by a queue where there are none."""
        if self.household_bps is None:
            return self.shows_unseen(CROWDED_FACTOR)
        return self.household_bps + self.own_bps > FULL_SHARE * self.capacity_bps

    def shows_unseen(self, factor: float = 1.0) -> bool:
        """A queue of more than ``factor`` times the target, from which an unseen household is concluded."""
        return not self.leads and (self.queueing_ms or 0.0) > factor * QUEUEING_MS_TARGET


@dataclass(frozen=True, slots=True)
class Controller:
    """The budget of one direction and what it was decided from.

    It starts with the whole of an idle line: the household is measured before anybody can have been sent to us.

    ``budget_bps``: from now until the next step, None before the first.
    ``yields``: onsets yielded to. ``yield_ms``: how long the last took, from the last reading without the household's
    demand until our own rate was at most :data:`YIELD_SHARE`; an upper bound, None while under way.
    """

    budget_bps: int | None = None
    yields: int = 0
    yield_ms: int | None = None
    peak_bps: float = 0.0
    peak_half_life_s: float = PEAK_HALF_LIFE_S
    level_bps: float = 0.0
    highest_bps: int = 0
    """Since the onset."""
    held_until: float = float("-inf")
    onset_at: float = float("-inf")
    stepped_at: float = float("-inf")
    sample: tuple[float, int] = (RECENT_S, 0)
    """The household's rate in the last step, and the seconds that it was measured for."""

    def yielding(self, now: float) -> bool:
        return now < self.held_until

    def after(self, now: float, reading: Reading) -> Controller:
        """One step; every 100 ms while the line is in use, and at least every second."""
        capacity, household = reading.capacity_bps, reading.household_bps or 0
        elapsed = max(0.0, now - self.stepped_at)
        recent = _recent(self.sample, elapsed, household)
        half_life_s = PEAK_HALF_LIFE_S if reading.leads else self.peak_half_life_s
        peak = self.peak_bps * 0.5 ** (elapsed / half_life_s)
        if recent > peak:
            peak, half_life_s = recent, PEAK_HALF_LIFE_S if reading.leads else ALONE_HALF_LIFE_S
        unseen = float(capacity - reading.own_bps) if reading.shows_unseen() else 0.0
        if unseen > peak and not (self.yielding(now) and now - self.onset_at < DRAIN_S):
            alone = reading.own_bps <= YIELD_SHARE * capacity
            peak, half_life_s = unseen, ALONE_HALF_LIFE_S if alone else BESIDE_HALF_LIFE_S
        crowded = reading.shows_unseen(CROWDED_FACTOR)
        level_s = YIELDED_LEVEL_S if self.yielding(now) else LEVEL_S
        step = dataclasses.replace(
            self,
            peak_bps=peak,
            peak_half_life_s=half_life_s,
            level_bps=self.level_bps + (household - self.level_bps) * min(1.0, elapsed / level_s),
            stepped_at=now,
            sample=(min(elapsed, RECENT_S), household),
        )
        bound = idle_bps(capacity, peak)
        if reading.household_bps is None and reading.queueing_ms is None:
            bound = min(bound, int(BLIND_SHARE * capacity))
        if not self.yielding(now) and (crowded or self._grows(reading)):
            began_at = now if self.budget_bps is None else self.stepped_at
            step = dataclasses.replace(
                step,
                yields=self.yields + 1,
                yield_ms=None,
                onset_at=began_at,
                highest_bps=household,
                held_until=now + HOLD_S,
            )
        elif self.yielding(now) and (crowded or self._grows(reading) or self._goes_on(reading)):
            step = dataclasses.replace(step, highest_bps=max(household, self.highest_bps), held_until=now + HOLD_S)
        if step.yields and step.yield_ms is None and reading.own_bps <= YIELD_SHARE * capacity:
            step = dataclasses.replace(step, yield_ms=int((now - step.onset_at) * 1000))
        budget = bound if self.budget_bps is None else self._moved(reading, elapsed)
        if step.yielding(now):
            budget = min(budget, int((YIELD_SHARE if reading.leads else UNSEEN_YIELD_SHARE) * capacity))
        return dataclasses.replace(step, budget_bps=min(budget, bound))

    def _grows(self, reading: Reading) -> bool:
        """The household wants more than it did, or what it can get with us on the line."""
        capacity, household = reading.capacity_bps, reading.household_bps or 0
        onset_bps = max(ONSET_SHARE * capacity, ONSET_BPS_MIN)
        if household - self.level_bps > onset_bps:
            return True
        return reading.full and household > onset_bps

    def _goes_on(self, reading: Reading) -> bool:
        """The demand that was yielded to is still growing, or large."""
        capacity, household = reading.capacity_bps, reading.household_bps or 0
        return household > self.highest_bps + GROWING_SHARE * capacity or household > BULK_SHARE * capacity

    def _moved(self, reading: Reading, elapsed: float) -> int:
        """The budget before bound and yielding: as the queue says, else a little more."""
        budget = self.budget_bps or 0
        queueing = reading.queueing_ms
        elsewhere = reading.leads and (reading.household_bps or 0) + reading.own_bps < (
            QUEUED_SHARE_MIN * reading.capacity_bps
        )
        if queueing is not None and queueing > QUEUEING_MS_TARGET and not elsewhere:
            return int(budget * max(0.5, QUEUEING_MS_TARGET / queueing))
        return budget + int(GROWTH_PER_S * min(elapsed, GROWTH_S_MAX) * reading.capacity_bps)


def _recent(before: tuple[float, int], elapsed: float, household_bps: int) -> float:
    """The household's average over the last :data:`RECENT_S`, of this step and the one before."""
    if elapsed >= RECENT_S:
        return household_bps
    earlier = min(before[0], RECENT_S - elapsed)
    return (household_bps * elapsed + before[1] * earlier) / (elapsed + earlier) if elapsed + earlier > 0 else 0.0
