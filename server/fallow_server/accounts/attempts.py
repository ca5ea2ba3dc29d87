"""How often one may try to sign in or to register. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict

from ..fleet.rate import Bucket

KEYS_MAX = 20_000
"""Addresses and logins that are remembered; who was not seen for longest is forgotten first."""


class Attempts:
    """Lets ``burst`` tries of one key pass at once, and one more every ``every_s``."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def may(self, key: str, now_s: float) -> bool:
        """True when ``key`` may try now; nothing is counted."""
        bucket = self._buckets.get(key)
        return bucket is None or bucket.left(now_s) >= 1

    def take(self, key: str, now_s: float) -> bool:
        """True when ``key`` may try once more now."""
        bucket = self._buckets.pop(key, None) or Bucket(self._burst, 1 / self._every_s, now_s)
        self._buckets[key] = bucket
        if len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)
        return bucket.take(1, now_s)

    def wait_s(self, key: str, now_s: float) -> int:
        """Seconds until ``key`` may try again."""
        bucket = self._buckets.get(key)
        missing = 0.0 if bucket is None else max(0.0, 1 - bucket.left(now_s))
        return max(1, round(missing * self._every_s))
