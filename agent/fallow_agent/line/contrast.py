"""What sharing adds to a round trip, from short windows without it at random moments. Pure.

While somebody is served, every few minutes nothing is sent for two seconds, and the round trips just before are set
against those within. Random moments, so that no rhythm of the household's or of the line's falls in with them. A
window in which the household made us yield is given up: there was no sharing to compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

INTERVAL_S = 600.0
"""On average; each wait is between half and one and a half of it. 2.5 s of them are without sharing, 0.4 %."""
WINDOW_S = 2.0
SETTLE_S = 0.5
"""What we had queued and what TCP has in flight is gone after it."""
SAMPLES_MIN = 5
"""Round trips on each side, or there is nothing to compare."""
BUSY_SHARE = 0.25
"""Of the capacity: with less of our own on the line, sharing is hardly on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One step: our rate, whether we yield, and the round trips that came back since the step before, in ms."""

    own_bps: int
    capacity_bps: int
    yielding: bool
    rtts_ms: tuple[float, ...] = ()

    @property
    def sharing(self) -> bool:
        return not self.yielding and self.own_bps > BUSY_SHARE * self.capacity_bps


@dataclass(frozen=True, slots=True)
class Contrast:
    """``silent``: nothing is to be sent now. ``found``: round trips with and without sharing, in ms, for one step."""

    due_at: float | None = None
    on_since: float | None = None
    silent_since: float | None = None
    on_ms: tuple[float, ...] = ()
    off_ms: tuple[float, ...] = ()
    found: tuple[float, float] | None = None

    @property
    def silent(self) -> bool:
        return self.silent_since is not None

    def after(self, now: float, seen: Seen, random: Callable[[], float]) -> Contrast:
        """:param now: monotonic seconds. :param random: 0 ≤ … < 1."""
        if self.due_at is None:
            return Contrast(_due(now, random))
        if self.silent_since is not None:
            return self._silent(now, self.silent_since, seen, random)
        if now < self.due_at:
            return replace(self, found=None)
        if not seen.sharing:
            return Contrast(self.due_at)  # due, and waits until there is something to compare
        since = now if self.on_since is None else self.on_since
        step = replace(self, on_since=since, on_ms=self.on_ms + seen.rtts_ms)
        return replace(step, silent_since=now) if now - since >= WINDOW_S else step

    def _silent(self, now: float, since: float, seen: Seen, random: Callable[[], float]) -> Contrast:
        if seen.yielding:
            return Contrast(_due(now, random))
        off_ms = self.off_ms + (seen.rtts_ms if now - since > SETTLE_S else ())
        if now - since < SETTLE_S + WINDOW_S:
            return replace(self, off_ms=off_ms)
        enough = min(len(self.on_ms), len(off_ms)) >= SAMPLES_MIN
        found = (_median(self.on_ms), _median(off_ms)) if enough else None
        return Contrast(_due(now, random), found=found)


def _due(now: float, random: Callable[[], float]) -> float:
    return now + INTERVAL_S * (0.5 + random())


def _median(values: tuple[float, ...]) -> float:
    """Of an even number, the lower of the middle two."""
    return sorted(values)[(len(values) - 1) // 2]
