"""How much of the time each device is connected: a share that fades over some days."""

from __future__ import annotations

import math
from itertools import takewhile

DAY_S = 86_400
FADE_S = 3 * DAY_S
SHARE_AT_FIRST = 0.9
"""Of a device that nobody knows yet: most of them stay."""
FORGOTTEN_S = 14 * DAY_S
"""A device that is away for so long is new when it comes back."""


class Presence:
    """``now``: monotonic seconds."""

    def __init__(self) -> None:
        # The share as of a moment, and whether the device has been there since.
        self._known: dict[str, tuple[float, float, bool]] = {}
        # Since when, the longest first: a fleet is not looked through for them.
        self._away: dict[str, float] = {}

    def connected(self, device_id: str, now: float) -> None:
        self._known[device_id] = (self.share(device_id, now), now, True)
        self._away.pop(device_id, None)

    def lost(self, device_id: str, now: float) -> None:
        self._known[device_id] = (self.share(device_id, now), now, False)
        self._away.pop(device_id, None)
        self._away[device_id] = now

    def share(self, device_id: str, now: float) -> float:
        """From 0 to 1."""
        known = self._known.get(device_id)
        if known is None:
            return SHARE_AT_FIRST
        share, since, there = known
        fade = math.exp(-(now - since) / FADE_S)
        return share * fade + there * (1 - fade)

    def forget(self, now: float) -> None:
        """Those who are away for long."""
        for name, _ in list(takewhile(lambda away: now - away[1] >= FORGOTTEN_S, self._away.items())):
            del self._away[name], self._known[name]

    def __len__(self) -> int:
        return len(self._known)
