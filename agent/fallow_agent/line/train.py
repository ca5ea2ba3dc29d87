"""What the line can carry, from short trains of large echoes on an idle line. Pure.

Echoes that leave back to back come back as far apart as the slowest direction has put them. So a train tells the lower
of upload and download, and not which of the two it was; where the provider's router answers echoes slowly, it tells
less. It never tells more than the line has, but for one case that is seen: a shaper that lets a burst pass (tbf, cable
lines) does not space the first packets. Only the second half of a train is measured, and if that is uneven still, or
too short to be timed, the train says nothing. That leaves lines of up to about 130 Mbit/s and bursts of up to 14 kB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from .icmp import FRAME_BYTES

PACKETS = 20
PAYLOAD_BYTES = 1400
"""Passes a line with PPPoE in one piece."""
PACKET_BYTES = FRAME_BYTES + PAYLOAD_BYTES
TRAIN_BYTES = PACKETS * PACKET_BYTES
"""29 kB in each direction: a call of 20 ms frames loses none, on 5 Mbit/s the line is busy for 46 ms."""
MEASURED = PACKETS // 2
TRAINS_MIN = 5
"""Fewer say nothing: the median of five bears two that are wrong."""
TRAINS_KEPT = 15
SPACING_S = 10.0
"""Between the first trains, until there are enough."""
EVERY_S = 3600.0
"""Between later ones: lines change with contracts, and with the evening."""
DAY_S = 86_400.0
TRAINS_PER_DAY_MAX = 40
"""1.2 MB a day in each direction: the first few, an hourly one, and as many again that were spoilt."""
OTHER_SHARE_MAX = 0.05
"""Of the train's bytes, by others meanwhile: they would be taken for a slower line."""
SPREAD_S_MIN = 0.0008
"""The measured half must take so long: kernels and network cards stamp to within some 50 µs."""
SENDING_SHARE_MAX = 0.8
"""Of the time that the answers took: a device that sends no faster than the line measures itself."""
UNEVEN_MAX = 1.6
"""The later quarter of a train by the one before it: a burst had not ended."""
AGREEING = 0.10
"""Trains this close to the median agree."""
CONFIDENCE_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Train:
    """``sent_at``, ``received_at``: monotonic seconds of each echo in the order sent; None where it was lost.

    ``other_bytes``: what else the line carried meanwhile, in the direction that carried more; None where unknown.
    """

    sent_at: Sequence[float]
    received_at: Sequence[float | None]
    other_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A measurement that says nothing, and why."""

    reason: str


def measured(train: Train) -> float | Spoilt:
    """Bit/s on the wire."""
    if len(train.received_at) != PACKETS or None in train.received_at:
        return Spoilt("echoes were lost")
    if (train.other_bytes or 0) > OTHER_SHARE_MAX * TRAIN_BYTES:
        return Spoilt("others used the line")
    half = [at for at in train.received_at[-MEASURED:] if at is not None]
    if half != sorted(half):
        return Spoilt("echoes overtook each other")
    spread = half[-1] - half[0]
    if spread < SPREAD_S_MIN:
        return Spoilt("the line is too fast to be timed")
    if train.sent_at[-1] - train.sent_at[-MEASURED] > SENDING_SHARE_MAX * spread:
        return Spoilt("the device sent no faster than the line")
    middle = MEASURED // 2
    if half[-1] - half[middle] > UNEVEN_MAX * (half[middle] - half[0]) * (MEASURED - 1 - middle) / middle:
        return Spoilt("a burst passed unspaced")
    return PACKET_BYTES * 8 / _slope(half)


def _slope(stamps: Sequence[float]) -> float:
    """Seconds from one to the next, by the line of least squares: a late stamp moves it less than it would the ends."""
    centre = (len(stamps) - 1) / 2
    weights = [number - centre for number in range(len(stamps))]
    return sum(weight * at for weight, at in zip(weights, stamps, strict=True)) / sum(weight**2 for weight in weights)


@dataclass(frozen=True, slots=True)
class Trains:
    """What was measured lately, and what it cost. ``results``: bit/s, oldest first; ``sent_at``: of all trains of the
    last day, the spoilt ones too."""

    results: tuple[float, ...] = ()
    sent_at: tuple[float, ...] = ()
    spoilt: str = ""
    """Why the last one said nothing; else empty."""

    def due(self, now: float) -> bool:
        """Whether another may be sent, if the line is idle."""
        today = [at for at in self.sent_at if now - at < DAY_S]
        if len(today) >= TRAINS_PER_DAY_MAX:
            return False
        spacing = SPACING_S if len(self.results) < TRAINS_MIN else EVERY_S
        return not today or now - today[-1] >= spacing

    def after(self, now: float, result: float | Spoilt) -> Trains:
        sent_at = (*(at for at in self.sent_at if now - at < DAY_S), now)
        if isinstance(result, Spoilt):
            return dataclasses.replace(self, sent_at=sent_at, spoilt=result.reason)
        return Trains((*self.results, result)[-TRAINS_KEPT:], sent_at)

    @property
    def confidence(self) -> float:
        """The share of trains that agree with the median, 0 … 1; 0 until there are enough."""
        if len(self.results) < TRAINS_MIN:
            return 0.0
        median = self._median
        return sum(abs(bps - median) <= AGREEING * median for bps in self.results) / len(self.results)

    @property
    def bps(self) -> int | None:
        """The lower of upload and download; None while it is not known."""
        return int(self._median) if self.confidence >= CONFIDENCE_MIN else None

    @property
    def _median(self) -> float:
        """Of an even number, the lower of the middle two."""
        return sorted(self.results)[(len(self.results) - 1) // 2]
