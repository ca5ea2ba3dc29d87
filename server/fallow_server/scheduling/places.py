"""Where an address is on the internet, as far as an offline table tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """``asn``: the autonomous system that announces the address. ``country``: ISO 3166-1, two capital letters.
    None where the table does not tell."""

    asn: int | None = None
    country: str | None = None


NOWHERE = Place()
