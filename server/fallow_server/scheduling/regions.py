"""Places in a number that placement can reckon with: the networks that matter most, then countries, then the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .places import NOWHERE, Place

REGIONS_MAX = 64
"""Each pair has a value, and each device is drawn with the chance of its region."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a byte is worth that is served within one network, within the country, and elsewhere or where nobody knows:
    a distant device is still better than none, for the origin is seldom nearer."""

    same_network: float = 1.0
    same_country: float = 0.95
    elsewhere: float = 0.85


class Regions:
    """:param weights: of each place, such as its demand and its devices; only their order matters."""

    def __init__(self, weights: Mapping[Place, float], config: Config) -> None:
        kept = sorted(weights, key=lambda place: (-weights[place], place.country or "", place.asn or 0))
        countries: dict[str, float] = {}
        for place in kept[REGIONS_MAX // 2 :]:
            if place.country is not None:
                countries[place.country] = countries.get(place.country, 0) + weights[place]
        folded = [Place(country=one) for one in sorted(countries, key=lambda one: (-countries[one], one))]
        places = dict.fromkeys([NOWHERE, *kept[: REGIONS_MAX // 2], *folded])
        self.places = tuple(places)[:REGIONS_MAX]
        self._rows = {place: row for row, place in enumerate(self.places)}
        self.nearness = [[_nearness(one, other, config) for other in self.places] for one in self.places]

    def row(self, place: Place) -> int:
        found = self._rows.get(place)
        if found is None:
            found = self._rows.get(Place(country=place.country), self._rows[NOWHERE])
        return found


def _nearness(one: Place, other: Place, config: Config) -> float:
    if one.country is None or one.country != other.country:
        return config.elsewhere
    if one.asn is not None and one.asn == other.asn:
        return config.same_network
    return config.same_country
