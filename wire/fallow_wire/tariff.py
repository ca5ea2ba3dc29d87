"""The tariff and the points formula: anyone can recompute a point.

``µp = bytes · rate · quality · scarcity · weight // (2^30 · 1000^3)``, multiplied first, floored once. Rates are µp
per GiB by service, the three factors per mille. A tariff is a signed immutable document; its id is the hexadecimal
SHA-256 of its canonical payload.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from .errors import Malformed
from .fields import encode, integer, integers, items, mapping, matching, one_of, record
from .strict import dumps
from .tickets import SERVICES, TIERS, Ticket

GIB = 2**30
PERMILLE_CUBED = 1000**3
RATE_MAX = 10**12
FACTOR_PERMILLE_MAX = 10_000
NEUTRAL_PERMILLE = 1000
"""A factor that changes nothing."""
QUALITY_PERMILLE_MIN, QUALITY_PERMILLE_MAX = 500, 1500
"""Consumers may lie about what they got: no tariff lets them do more than this."""
HOUR_S, DAY_S = 3600, 86_400


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


@dataclass(frozen=True, slots=True)
class QualityStep:
    """From ``delivered`` on (‰ of the promised rate, as consumers measured it) service counts ``permille``."""

    delivered: Annotated[int, integer(0, FACTOR_PERMILLE_MAX)]
    permille: Annotated[int, integer(QUALITY_PERMILLE_MIN, QUALITY_PERMILLE_MAX)]


TRUST_STEPS_MAX = 16
QUALITY_STEPS_MAX = 16
DAY_HOURS = 24
ANYWHERE = "*"
"""Stands for the regions that a tariff does not name, and for devices whose region is not known."""
_REGION_KEY = re.compile(r"(?:[A-Z]{2}|\*)\Z")
REGIONS_MAX = 256


def _hours(value: Any, path: str, strict: bool) -> tuple[int, ...]:
    hours: tuple[int, ...] = integers(DAY_HOURS)(value, path, strict)
    if max(hours) > FACTOR_PERMILLE_MAX:
        raise Malformed(f"{path}: whole numbers from 0 to {FACTOR_PERMILLE_MAX} are wanted")
    return hours


Scarcity = dict[str, tuple[int, ...]]
"""By region: ‰ for each hour of the day (UTC)."""
SCARCITY = mapping(matching(_REGION_KEY, "a country's two capital letters, or *"), _hours, REGIONS_MAX)


@dataclass(frozen=True, slots=True)
class Tariff:
    """``rates``: µp per GiB by service. ``weights``: per mille by tier. ``valid_from`` in Unix seconds.

    ``trust``: how the weight of legacy service rises with audits; without it, it is whole from the start.
    ``quality``: what the delivered share of the promised rate makes of it; without it, or where it is not known,
    nothing. ``scarcity``: ‰ by region and hour of the day (UTC) in which the ticket was issued.
    """

    version: Annotated[int, integer(1)]
    valid_from: Annotated[int, integer()]
    rates: Annotated[dict[str, int], mapping(one_of(*SERVICES), integer(0, RATE_MAX), 16)]
    weights: Annotated[dict[str, int], mapping(one_of(*TIERS), integer(0, FACTOR_PERMILLE_MAX), 4)]
    legacy_caps: Annotated[LegacyCaps, record(LegacyCaps)]
    trust: Annotated[tuple[TrustStep, ...] | None, items(record(TrustStep), TRUST_STEPS_MAX, 1)] = None
    quality: Annotated[tuple[QualityStep, ...] | None, items(record(QualityStep), QUALITY_STEPS_MAX, 1)] = None
    scarcity: Annotated[Scarcity | None, SCARCITY] = None

    def weight(self, tier: str, audits: int) -> int:
        """Per mille, for a device with so many agreeing audits in a row. A tier that is not listed is worth 0."""
        weight = self.weights.get(tier, 0)
        if tier != "legacy" or self.trust is None:
            return weight
        return weight * max((step.permille for step in self.trust if step.audits <= audits), default=0) // 1000

    def quality_of(self, delivered: int | None) -> int:
        """Per mille, for a device that delivered so much of what was promised; None: it is not known."""
        if delivered is None or self.quality is None:
            return NEUTRAL_PERMILLE
        fit = [step for step in self.quality if step.delivered <= delivered]
        return max(fit, key=lambda step: step.delivered).permille if fit else NEUTRAL_PERMILLE

    @property
    def quality_max(self) -> int:
        return max((NEUTRAL_PERMILLE, *(step.permille for step in self.quality or ())))

    def scarcity_at(self, region: str | None, at: int) -> int:
        """Per mille, in ``region`` at Unix time ``at``."""
        if self.scarcity is None:
            return NEUTRAL_PERMILLE
        hours = self.scarcity.get(region or ANYWHERE) or self.scarcity.get(ANYWHERE)
        return NEUTRAL_PERMILLE if hours is None else hours[at // HOUR_S % DAY_HOURS]

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


def price(ticket: Ticket, tariff: Tariff, paid: int, audits: int, delivered: int | None = None) -> Factors:
    """What ``paid`` bytes under ``ticket`` are worth, served by a device with so many agreeing audits in a row. A
    service that the tariff does not list is worth 0.

    :param delivered: ‰, see :func:`delivered_at`.
    """
    return Factors(
        bytes=paid,
        rate=tariff.rates.get(ticket.svc, 0),
        quality=tariff.quality_of(delivered),
        scarcity=tariff.scarcity_at(ticket.region, ticket.iat),
        weight=tariff.weight(ticket.tier, audits),
    )


# ------------------------------------------------------------------ what consumers measured

DELIVERED_CONSUMERS_MIN = 5
"""Fewer consumers of a day say nothing of a device."""
DELIVERED_S_MAX = 14 * DAY_S
"""What was measured longer ago is not known any more."""
CONFIRMED_MS_MAX = 3_600_000
"""A ticket lives for minutes; a receipt of more is a mistake or a lie, and left out."""


def delivered_of(measured: Mapping[str, tuple[int, int]]) -> int | None:
    """‰ of the promised rate that a device's consumers measured in a day; None where they were too few.

    Each consumer has one vote, however much it fetched, and the middle one counts: whoever wants to move it needs as
    many consumers as there are honest ones.

    :param measured: by consumer, the sums of confirmed bytes, and of confirmed ms times promised bit/s.
    """
    if len(measured) < DELIVERED_CONSUMERS_MIN:
        return None
    shares = [min(FACTOR_PERMILLE_MAX, count * 8 * 1000 * 1000 // promised) for count, promised in measured.values()]
    return statistics.median_high(shares)


def delivered_at(known: Iterable[tuple[int, int]], at: int) -> int | None:
    """What counts for tickets that are issued at ``at``. :param known: (valid from, ‰), newest first."""
    for valid_from, delivered in known:
        if valid_from <= at:
            return delivered if at < valid_from + DELIVERED_S_MAX else None
    return None
