"""The tariff and the points formula: anyone can recompute a point.

``µp = bytes · rate · quality · scarcity · weight // (2^30 · 1000^3)``, multiplied first, floored once. Rates are µp
per GiB by service, the three factors per mille. A tariff is a signed immutable document; its id is the hexadecimal
SHA-256 of its canonical payload.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from .fields import encode, integer, items, mapping, one_of, record
from .strict import dumps
from .tickets import SERVICES, TIERS, Ticket

GIB = 2**30
PERMILLE_CUBED = 1000**3
RATE_MAX = 10**12
FACTOR_PERMILLE_MAX = 10_000
NEUTRAL_PERMILLE = 1000
"""A factor that changes nothing."""


@dataclass(frozen=True, slots=True)
class LegacyCaps:
    """Paid bytes a day under legacy tickets, at most."""

    device_day_bytes: Annotated[int, integer()]
    publisher_day_bytes: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class TrustStep:
    """From so many agreeing audits in a row on, legacy service counts ``permille`` of its weight."""

    audits: Annotated[int, integer()]
    permille: Annotated[int, integer(0, NEUTRAL_PERMILLE)]


TRUST_STEPS_MAX = 16


@dataclass(frozen=True, slots=True)
class Tariff:
    """``rates``: µp per GiB by service. ``weights``: per mille by tier. ``valid_from`` in Unix seconds.

    ``trust``: how the weight of legacy service rises with audits; without it, it is whole from the start.
    """

    version: Annotated[int, integer(1)]
    valid_from: Annotated[int, integer()]
    rates: Annotated[dict[str, int], mapping(one_of(*SERVICES), integer(0, RATE_MAX), 16)]
    weights: Annotated[dict[str, int], mapping(one_of(*TIERS), integer(0, FACTOR_PERMILLE_MAX), 4)]
    legacy_caps: Annotated[LegacyCaps, record(LegacyCaps)]
    trust: Annotated[tuple[TrustStep, ...] | None, items(record(TrustStep), TRUST_STEPS_MAX, 1)] = None

    def weight(self, tier: str, audits: int) -> int:
        """Per mille, for a device with so many agreeing audits in a row. A tier that is not listed is worth 0."""
        weight = self.weights.get(tier, 0)
        if tier != "legacy" or self.trust is None:
            return weight
        return weight * max((step.permille for step in self.trust if step.audits <= audits), default=0) // 1000

    def tariff_id(self) -> str:
        return hashlib.sha256(dumps(encode(self))).hexdigest()


@dataclass(frozen=True, slots=True)
class Factors:
    """Everything that a settlement is computed from. Factors per mille."""

    bytes: Annotated[int, integer()]
    rate: Annotated[int, integer(0, RATE_MAX)]
    quality: Annotated[int, integer(0, FACTOR_PERMILLE_MAX)]
    scarcity: Annotated[int, integer(0, FACTOR_PERMILLE_MAX)]
    weight: Annotated[int, integer(0, FACTOR_PERMILLE_MAX)]

    def micro_points(self) -> int:
        product = self.bytes * self.rate * self.quality * self.scarcity * self.weight
        return product // (GIB * PERMILLE_CUBED)


def paid_bytes(claimed: int, allowed: int, confirmed: int | None) -> int:
    """The least of what the device claims, the ticket allows and, where countersigned, the consumer confirmed."""
    least = min(claimed, allowed)
    return least if confirmed is None else min(least, confirmed)


def price(ticket: Ticket, tariff: Tariff, paid: int, audits: int) -> Factors:
    """What ``paid`` bytes under ``ticket`` are worth, served by a device with so many agreeing audits in a row. A
    service that the tariff does not list is worth 0."""
    return Factors(
        bytes=paid,
        rate=tariff.rates.get(ticket.svc, 0),
        quality=NEUTRAL_PERMILLE,
        scarcity=NEUTRAL_PERMILLE,
        weight=tariff.weight(ticket.tier, audits),
    )
