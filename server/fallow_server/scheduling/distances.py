"""How far countries are from one another, in round trips, as consumers find it."""

from __future__ import annotations

from .places import Place

BANDS_MS = (20, 60, 150)
"""Ends of the bands: a country and its neighbours, a continent, an ocean, and what lies beyond."""
NEAR_BAND = 1
"""Up to this band a foreign device is preferred to one of which nothing is known."""
NEAR_MAX = 8
"""Countries that count as near: each is two more steps in a choice."""
WEIGHT = 8
"""A new round trip moves what is known by an eighth: no single consumer moves a country."""
ROUND_TRIP_MS_MAX = 2_000
"""Longer ones say something of a queue and nothing of a distance."""


class Distances:
    """Round trips between a consumer's country and a device's, smoothed. What consumers report is not believed further
    than that: wrong reports cost speed and no money. Memory is bounded by the countries that the table knows: some 200
    of them, 100 bytes a pair."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, float]] = {}
        self._near: dict[str, tuple[str, ...]] = {}

    def note(self, consumer: Place, device: Place, round_trip_ms: int) -> None:
        """A consumer waited so long between a request to a device and the first byte of the answer."""
        if consumer.country is None or device.country is None or not 0 < round_trip_ms <= ROUND_TRIP_MS_MAX:
            return
        known = self._known.setdefault(consumer.country, {})
        had = known.get(device.country)
        now = round_trip_ms if had is None else had + (round_trip_ms - had) / WEIGHT
        known[device.country] = now
        # Not for every report: to sort all countries anew took a quarter of a request's time.
        if had is None or band(had) != band(now):
            self._near.pop(consumer.country, None)

    def round_trip_ms(self, consumer: Place, device: Place) -> int | None:
        """What is to be expected, or None where nobody has told."""
        known = self._known.get(consumer.country or "", {}).get(device.country or "")
        return None if known is None else max(1, round(known))

    def near(self, consumer: Place) -> tuple[str, ...]:
        """Countries with short round trips from the consumer's, the nearest first."""
        country = consumer.country
        if country is None or country not in self._known:
            return ()
        if country not in self._near:
            close = sorted((ms, to) for to, ms in self._known[country].items() if band(ms) <= NEAR_BAND)
            self._near[country] = tuple(to for _, to in close[:NEAR_MAX])
        return self._near[country]


def band(round_trip_ms: float) -> int:
    """The place in :data:`BANDS_MS`, or one more beyond all."""
    return sum(round_trip_ms > end for end in BANDS_MS)
