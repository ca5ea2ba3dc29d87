"""The do-no-harm record: what sharing did to the household's line, by day, signed by the device that kept it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated

from .fields import device_id, integer, items, matching, record
from .jws import Kind, Signed, verify_self_signed
from .keys import Jwk

DAYS_MAX = 31

_DAY = matching(re.compile(r"\d{4}-\d\d-\d\d\Z"), "a day such as 2026-11-23", 10)


@dataclass(frozen=True, slots=True)
class HarmDay:
    """One day of the device's local time. Totals only, so that days can be added up.

    ``shared_s``: while somebody was served or filled. ``yields``: onsets of the household that a transfer gave way to;
    ``yield_ms_total`` over the ``yields_timed`` whose end was seen, ``yield_ms_max`` of the slowest. ``over_budget_s``:
    the line was full and more than the yield's share of it was ours. ``comparisons``: short windows without sharing at
    random moments; ``rtt_on_us_total`` and ``rtt_off_us_total`` are the sums of the median round trips before and in
    them, so that their difference by ``comparisons`` is what sharing adds. ``felt``: those that differ by over 10 ms.
    """

    day: Annotated[str, _DAY]
    shared_s: Annotated[int, integer()] = 0
    yields: Annotated[int, integer()] = 0
    yields_timed: Annotated[int, integer()] = 0
    yield_ms_total: Annotated[int, integer()] = 0
    yield_ms_max: Annotated[int, integer()] = 0
    over_budget_s: Annotated[int, integer()] = 0
    comparisons: Annotated[int, integer()] = 0
    rtt_on_us_total: Annotated[int, integer()] = 0
    rtt_off_us_total: Annotated[int, integer()] = 0
    felt: Annotated[int, integer()] = 0

    @property
    def yield_ms_mean(self) -> float | None:
        return self.yield_ms_total / self.yields_timed if self.yields_timed else None

    @property
    def added_rtt_ms(self) -> float | None:
        """Mean of what sharing added to a round trip; None where it was never compared."""
        if not self.comparisons:
            return None
        return (self.rtt_on_us_total - self.rtt_off_us_total) / self.comparisons / 1000


def total_of(days: Iterable[HarmDay]) -> HarmDay:
    """All days in one, under the day of the last."""
    total = HarmDay("1970-01-01")
    for day in days:
        sums = {name: getattr(total, name) + getattr(day, name) for name in _SUMMED}
        total = HarmDay(day.day, **sums, yield_ms_max=max(total.yield_ms_max, day.yield_ms_max))
    return total


_SUMMED = tuple(field.name for field in fields(HarmDay) if field.name not in ("day", "yield_ms_max"))


@dataclass(frozen=True, slots=True)
class HarmRecord:
    """The days, oldest first, signed by the device key that it names. ``iat`` by the device's clock."""

    did: Annotated[str, device_id()]
    jwk: Annotated[Jwk, record(Jwk)]
    iat: Annotated[int, integer()]
    days: Annotated[tuple[HarmDay, ...], items(record(HarmDay), DAYS_MAX)]


def verify_harm(token: str | bytes) -> Signed[HarmRecord]:
    """:raises PeerError: unless the key in it signed it and is the key of its ``did``."""
    return verify_self_signed(token, Kind.HARM, HarmRecord)
