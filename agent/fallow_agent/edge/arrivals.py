"""How many new connections the service port takes: a token bucket. Pure."""

from __future__ import annotations

NEW_CONNECTIONS_PER_S = 10
"""Each closed connection stays in the NAT table of the home's router for two minutes (Linux
``nf_conntrack_tcp_timeout_time_wait``, 120 s): these are 1200 entries at most, a fourteenth of OpenWrt's table of
16384. Consumers keep theirs open; with one for each MiB, ten a second are 80 Mbit/s."""
NEW_CONNECTIONS_BURST = 64
"""At once after a rest: four downloads by aria2 with 16 connections each, or ten browsers with six."""


class Arrivals:
    """:param now: monotonic seconds, here and in :meth:`take`."""

    def __init__(self, now: float, per_s: float = NEW_CONNECTIONS_PER_S, burst: int = NEW_CONNECTIONS_BURST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now

    def take(self, now: float) -> bool:
        """One has come: True when it may stay."""
        elapsed, self._filled_at = max(0.0, now - self._filled_at), now
        self._tokens = min(self._burst, self._tokens + elapsed * self._per_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
