"""How much of the line may be used for others. Pure.

The household's own use and a reserve are taken off the capacity; the owner's limits cap what is left. A rise of the
household's use counts at once, a fall only slowly: a pause between two bursts is no idle line.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow_wire.lan import Limits

USABLE_SHARE = 0.85
"""Of the capacity: the rest keeps the modem's queue empty."""
HOUSEHOLD_FACTOR = 1.1
"""Headroom for growth until the next reading."""
PEAK_DECAY = 0.9
"""Per reading: a household peak has half its weight after seven readings."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Decaying peaks of the household's use, in bit/s."""

    up_bps: int = 0
    down_bps: int = 0

    def after(self, household_up_bps: int, household_down_bps: int) -> Peaks:
        return Peaks(
            max(household_up_bps, int(self.up_bps * PEAK_DECAY)),
            max(household_down_bps, int(self.down_bps * PEAK_DECAY)),
        )


def idle_bps(capacity_bps: int, peak_bps: int) -> int:
    """What the household leaves of the line."""
    return max(0, int(USABLE_SHARE * capacity_bps - HOUSEHOLD_FACTOR * peak_bps))


def upload_budget_bps(capacity_bps: int, idle: int, limits: Limits) -> int:
    """What may be sent now: the idle rate under the owner's limits."""
    budget = min(idle, capacity_bps * limits.upload_percent_max // 100)
    if limits.upload_bps_max is not None:
        budget = min(budget, limits.upload_bps_max)
    return budget
