"""The agent's forecast (``fallow_agent.line.forecast``) for all devices at once, hour by hour.

The same arithmetic in arrays: a test compares it with the agent's class, device by device. All devices are in the same
hour of the week; a fleet over many time zones has one outlook for each.
"""

from __future__ import annotations

import numpy as np
from fallow_agent.line import forecast as agent
from numpy.typing import NDArray

from .recordings import Floats

HOURS, SLOTS, GROUPS = agent.HOURS, agent.SLOTS, agent.GROUPS


def group_of(slot: int) -> int:
    return slot % HOURS + (HOURS if slot >= 5 * HOURS else 0)


class Outlook:
    """``learn`` takes the hours in their order, without gaps; ``coming`` then tells of those that follow."""

    def __init__(self, devices: int) -> None:
        self._slot_bps, self._group_bps = np.zeros((SLOTS, devices)), np.zeros((GROUPS, devices))
        self._slot_seen, self._group_seen = [0] * SLOTS, [0] * GROUPS
        self._mean, self._spread, self._seen = np.zeros(devices), np.zeros(devices), 0
        self._error, self._together, self._squares = np.zeros(devices), np.zeros(devices), np.zeros(devices)
        self._margin = np.full(devices, agent.MARGIN_START)

    def learn(self, slot: int, use_bps: NDArray[np.int64]) -> None:
        """:param use_bps: mean use of each device in the hour of the week ``slot``."""
        use = np.minimum(use_bps, agent.USE_BPS_MAX)
        if not self._seen:
            self._mean, self._spread, self._seen = use.astype(float), use.astype(float), 1
            self._average(slot, use)
            return
        usual = self._usual(slot)
        bound = self._bound(usual, self._lasting(0))
        error = np.rint(use - usual)
        self._seen = min(self._seen + 1, agent.HOURS_SEEN_MAX)
        self._together = agent.ERROR_MEMORY * self._together + self._error * error
        self._squares = agent.ERROR_MEMORY * self._squares + self._error**2
        self._mean = np.rint(self._mean + (use - self._mean) / self._seen)
        self._spread = np.rint(self._spread + (np.abs(error) - self._spread) / self._seen)
        self._error = error
        moved = self._margin + agent.MARGIN_STEP * (agent.QUANTILE - (use <= bound))
        self._margin = np.clip(moved, agent.MARGIN_MIN, agent.MARGIN_MAX)
        self._average(slot, use)

    def coming(self, slot: int, usable_bps: Floats, hours: int = HOURS) -> Floats:
        """The 10th percentile of idle upload, hours × devices, from the hour ``slot`` on, which is the next one."""
        found = np.empty((hours, len(self._mean)))
        for ahead in range(hours):
            bound = self._bound(self._usual((slot + ahead) % SLOTS), self._lasting(ahead + 1))
            found[ahead] = np.maximum(0, usable_bps - np.ceil(bound))
        return found

    def _usual(self, slot: int) -> Floats:
        group = group_of(slot)
        if not self._group_seen[group]:
            group = (group + HOURS) % GROUPS
        general = self._group_bps[group] if self._group_seen[group] else self._mean
        weight = agent.SLOT_WEIGHT_MAX * min(self._slot_seen[slot], agent.SLOT_WEEKS) / agent.SLOT_WEEKS
        return np.asarray(weight * self._slot_bps[slot] + (1 - weight) * general)

    def _lasting(self, ahead: int) -> Floats:
        if ahead < 1:
            return np.zeros_like(self._error)
        share = np.divide(self._together, self._squares, out=np.zeros_like(self._error), where=self._squares > 0)
        return np.asarray(np.clip(share, 0.0, agent.LASTING_MAX) ** ahead)

    def _bound(self, usual: Floats, lasting: Floats) -> Floats:
        floor = agent.LEVEL_FLOOR * self._mean
        whole = self._mean + floor
        scale = np.sqrt(np.divide(usual + floor, whole, out=np.ones_like(whole), where=whole > 0))
        return np.maximum(0.0, np.maximum(0.0, usual + lasting * self._error) + self._margin * self._spread * scale)

    def _average(self, slot: int, use: NDArray[np.int64]) -> None:
        group = group_of(slot)
        self._slot_seen[slot] = min(self._slot_seen[slot] + 1, agent.SLOT_SEEN_MAX)
        self._group_seen[group] = min(self._group_seen[group] + 1, agent.GROUP_SEEN_MAX)
        for means, at, count in (
            (self._slot_bps, slot, self._slot_seen[slot]),
            (self._group_bps, group, self._group_seen[group]),
        ):
            means[at] = np.rint(means[at] + (use - means[at]) / count)
