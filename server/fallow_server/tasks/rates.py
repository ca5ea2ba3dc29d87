"""How often something may happen, by name: per home, per publisher, per target. Pure: the time is an argument."""

from __future__ import annotations

from ..fleet.rate import Bucket

NAMES_MAX = 100_000
"""Remembered at once, 200 bytes each; those that have their whole share again are forgotten first."""


class Rates:
    """A token bucket for each of many names, in bounded memory.

    :param burst: at once. :param per_s: in the long run. Times in monotonic seconds.
    """

    def __init__(self, burst: float, per_s: float, names_max: int = NAMES_MAX) -> None:
        self._burst = burst
        self._per_s = per_s
        self._names_max = names_max
        self._buckets: dict[str, Bucket] = {}

    def left(self, name: str, now_s: float) -> int:
        bucket = self._buckets.get(name)
        return int(self._burst if bucket is None else bucket.left(now_s))

    def take(self, name: str, now_s: float, amount: float = 1) -> bool:
        """True when ``amount`` may pass now; else nothing is taken."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._names_max:
                self._forget(now_s)
            bucket = self._buckets[name] = Bucket(self._burst, self._per_s, now_s)
        return bucket.take(amount, now_s)

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget(self, now_s: float) -> None:
        self._buckets = {name: one for name, one in self._buckets.items() if one.left(now_s) < self._burst}
        if len(self._buckets) >= self._names_max:
            # Everybody is busy: the oldest begins anew, which costs a limit its exactness and not the memory its bound.
            del self._buckets[next(iter(self._buckets))]
