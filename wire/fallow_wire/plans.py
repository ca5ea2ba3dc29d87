"""``POST /v1/plans``: several devices with a ticket each, and the origin, for one consumer and one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .fields import device_id, hexadecimal, integer, items, record, text
from .keys import Jwk
from .limits import MANIFEST_BYTES_MAX, TICKET_BYTES_MAX


@dataclass(frozen=True, slots=True)
class ByteRange:
    """First and last byte, both included, as in HTTP."""

    first: Annotated[int, integer()]
    last: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """``jwk``: a key made for this plan alone; it signs the receipts. ``ranges``: all bytes where left out."""

    object: Annotated[str, hexadecimal(64)]
    jwk: Annotated[Jwk, record(Jwk)]
    ranges: Annotated[tuple[ByteRange, ...], items(record(ByteRange), 64)] = ()


@dataclass(frozen=True, slots=True)
class PlanSource:
    """``url`` takes the ticket as its ``ticket`` query parameter."""

    device_id: Annotated[str, device_id()]
    url: Annotated[str, text(2048, 8)]
    ticket: Annotated[str, text(TICKET_BYTES_MAX, 1)]


@dataclass(frozen=True, slots=True)
class Plan:
    object: Annotated[str, hexadecimal(64)]
    name: Annotated[str, text(255, 1)]
    manifest: Annotated[str, text(MANIFEST_BYTES_MAX, 1)]
    sources: Annotated[tuple[PlanSource, ...], items(record(PlanSource), 16)]
    origin: Annotated[str, text(2048, 8)]
    expires_at: Annotated[int, integer()]
