"""A token bucket. Pure: the time is an argument."""

from __future__ import annotations


class Bucket:
    """Lets ``burst`` pass at once and ``per_s`` in the long run."""

    __slots__ = ("_at_s", "_burst", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at_s = now_s

    def left(self, now_s: float) -> float:
        """What may pass now."""
        return min(self._burst, self._left + (now_s - self._at_s) * self._per_s)

    def take(self, amount: float, now_s: float) -> bool:
        """True when ``amount`` may pass now; else nothing is taken."""
        self._left = self.left(now_s)
        self._at_s = now_s
        if amount > self._left:
            return False
        self._left -= amount
        return True
