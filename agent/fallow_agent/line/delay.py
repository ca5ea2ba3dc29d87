"""What packets wait in queues: the recent round-trip time above its base. Pure: answers in, a new value out.

The base is the lowest of the last minutes. It drops with the first faster answer; a way that has become longer is
believed when the minutes that knew the shorter one have passed, and not taken for a queue for ever.

Times are monotonic seconds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

BASE_MINUTES = 5
"""How long a lower base is remembered. A queue that stands longer is taken for the way; then only the household's rate,
which leads anyway, tells of it."""
BASE_MINUTES_PATIENT = 60
"""The same where no rate leads: an upload of a quarter of an hour must not become the way."""
MINUTE_S = 60.0
RECENT = 3
"""Answers that make the recent round-trip time, by their median: one straggler is nothing, two of three are a queue."""
RECENT_S = 10.0
"""Older answers are not recent; three intervals of a line at rest."""
SILENT_AFTER = 10
"""Lost echoes in a row: a full queue loses some, a hop that went away all."""


@dataclass(frozen=True, slots=True)
class HopDelay:
    """Of one hop.

    ``recent``: (time, round trip), oldest first. ``minutes``: (minute, its lowest), of those with answers.
    """

    recent: tuple[tuple[float, float], ...] = ()
    minutes: tuple[tuple[int, float], ...] = ()
    lost: int = 0
    """In a row."""

    def after_answer(self, now: float, rtt_ms: float, base_minutes: int = BASE_MINUTES) -> HopDelay:
        minute = int(now // MINUTE_S)
        lowest = min([rtt_ms, *(low for at, low in self.minutes if at == minute)])
        kept = tuple((at, low) for at, low in self.minutes if minute - base_minutes < at < minute)
        return HopDelay((*self.recent, (now, rtt_ms))[-RECENT:], (*kept, (minute, lowest)), 0)

    def after_loss(self) -> HopDelay:
        """A loss tells no time: it may be a full queue, or a router that answers as often as it likes."""
        return dataclasses.replace(self, lost=self.lost + 1)

    @property
    def silent(self) -> bool:
        return self.lost >= SILENT_AFTER

    @property
    def base_ms(self) -> float | None:
        return min((low for _, low in self.minutes), default=None)

    def rtt_ms(self, now: float) -> float | None:
        """None where nothing was heard lately, as after a suspension."""
        recent = sorted(rtt_ms for at, rtt_ms in self.recent if now - at <= RECENT_S)
        # Of two, the lower: what only one of them says is a straggler.
        return recent[(len(recent) - 1) // 2] if recent else None

    def queueing_ms(self, now: float) -> float | None:
        rtt_ms, base_ms = self.rtt_ms(now), self.base_ms
        return None if rtt_ms is None or base_ms is None else max(0.0, rtt_ms - base_ms)


@dataclass(frozen=True, slots=True)
class DelayReading:
    """``queueing_ms``: on the line, without what the home's own network adds; None where it is not known.

    ``rtt_ms``, ``rtt_base_ms``: to ``hop`` on the provider's side; ``heard``: when its last answer came, and its round
    trip. ``lan_queueing_ms``: in the home. ``reason``: why there is no ``queueing_ms``; else empty.
    """

    queueing_ms: float | None = None
    rtt_ms: float | None = None
    rtt_base_ms: float | None = None
    heard: tuple[float, float] | None = None
    lan_queueing_ms: float | None = None
    hop: str | None = None
    reason: str = ""


def combined(now: float, provider: HopDelay, home: HopDelay | None, hop: str) -> DelayReading:
    """What both hops say together."""
    whole = provider.queueing_ms(now)
    lan = None if home is None else home.queueing_ms(now)
    return DelayReading(
        queueing_ms=None if whole is None else max(0.0, whole - (lan or 0.0)),
        rtt_ms=provider.rtt_ms(now),
        rtt_base_ms=provider.base_ms,
        heard=provider.recent[-1] if provider.recent else None,
        lan_queueing_ms=lan,
        hop=hop,
        reason=f"{hop} has not answered lately" if whole is None else "",
    )
