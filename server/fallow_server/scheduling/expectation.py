"""What is expected of consumers, from what was counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import Floats
from .demand import BURST_S, DAY_FADE_S, HOUR_S, HOURS, WEEK_FADE_S, Demands, Saved, Shape, hour_of
from .places import Place

QUIET_HOURS = 6
"""What was first asked for a moment ago is taken to have been asked for by nobody in so many hours before, for most
objects are asked for once; this counts less and less over the first days."""
RUSH_QUIET_HOURS = 1
"""The same for a rush."""
GATHERED_HOURS = 4 * 7 * HOURS
"""After so many, a count that fades over a week grows no more."""


@dataclass(frozen=True, slots=True)
class Expected:
    """``objects``, ``places`` [k]. ``bytes_by_hour`` [k, 24]: what is expected in each coming hour."""

    objects: list[str]
    places: list[Place]
    bytes_by_hour: Floats


def expected(saved: Saved, now: float) -> Expected:
    """For every pair that is counted. The first hour is the one that begins at ``now``, Unix seconds.

    The usual rate is the mean of what the last day and the last week show; what the last hour shows above it is a
    rush, and fades.
    """
    if not saved.pairs:
        return Expected([], [], np.zeros((0, HOURS), np.float32))
    columns = dict(zip(Demands.COLUMNS, map(np.array, saved.columns), strict=True))
    shapes = {name: Shape.restored(since, at, hours) for name, since, at, hours in saved.shapes}
    countries = list(shapes)
    row = {country: number for number, country in enumerate(countries)}
    # A country that came after the table was full has the shape of nowhere.
    nowhere = row.get(None, 0)
    of = np.array([row.get(place.country, nowhere) for _, place in saved.pairs])
    # Factors of the hour of now and of all further ones of the day.
    first = hour_of(now)
    factors = np.array(
        [[shapes[one].factor((first + hour) % HOURS, now) for hour in range(HOURS)] for one in countries]
    )
    passed = np.maximum(0, now - columns["at"])
    age = np.maximum(0, now - columns["since"]) / HOUR_S
    quiet = QUIET_HOURS * np.exp(-age / HOURS)

    def rate(counted: NDArray[np.float64], fade_s: float, quiet: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = counted * np.exp(-passed / fade_s)
        for number, one in enumerate(_gathered(factors, fade_s)):
            those = of == number
            found[those] /= np.interp(age[those], np.arange(len(one)), one) + quiet[those]
        return found

    usual = (rate(columns["day"], DAY_FADE_S, quiet) + rate(columns["week"], WEEK_FADE_S, quiet)) / 2
    rush = np.maximum(0, rate(columns["hour"], BURST_S, np.full(len(age), float(RUSH_QUIET_HOURS))) - usual)
    fading = np.exp(-(np.arange(HOURS) + 0.5) * HOUR_S / BURST_S)
    found = (usual[:, None] + rush[:, None] * fading) * factors[of]
    return Expected(
        [object_id for object_id, _ in saved.pairs], [place for _, place in saved.pairs], found.astype(np.float32)
    )


def _gathered(factors: NDArray[np.float64], fade_s: float) -> NDArray[np.float64]:
    """For how many usual hours' demand a fading count stands, by country and by the hours since it began."""
    back = np.arange(GATHERED_HOURS)
    share = fade_s / HOUR_S * (np.exp(-back * HOUR_S / fade_s) - np.exp(-(back + 1) * HOUR_S / fade_s))
    hours = np.cumsum(factors[:, -back % HOURS] * share, axis=1)
    return np.concatenate((np.zeros((len(factors), 1)), hours), axis=1)
