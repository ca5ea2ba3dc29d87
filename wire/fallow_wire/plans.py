"""``POST /v1/plans``: several devices with a ticket each, and the origin, for one consumer and one object."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from .fields import device_id, hexadecimal, integer, items, matching, record, text
from .keys import Jwk
from .limits import MANIFEST_BYTES_MAX, TICKET_BYTES_MAX

_COUNTRY = re.compile(r"[A-Z]{2}\Z")


def first_chunk(object_id: str, device_id: str, chunks: int) -> int:
    """The chunk that consumers of several devices ask of this one first, and then those behind it, round and round,
    where the plan gives it no :class:`Stripe`."""
    return int.from_bytes(hashlib.sha256(f"{object_id} {device_id}".encode()).digest()[:8], "big") % max(1, chunks)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """First and last byte, both included, as in HTTP."""

    first: Annotated[int, integer()]
    last: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class Waited:
    """The least time that a consumer waited, lately, between a request to a device and the first byte of the answer."""

    device_id: Annotated[str, device_id()]
    ms: Annotated[int, integer(1)]


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """``jwk``: a key made for this plan alone; it signs the receipts. ``ranges``: all bytes where left out.

    ``waited``: what is known of devices of earlier plans; the scheduler learns from it which countries are near.
    """

    object: Annotated[str, hexadecimal(64)]
    jwk: Annotated[Jwk, record(Jwk)]
    ranges: Annotated[tuple[ByteRange, ...], items(record(ByteRange), 64)] = ()
    waited: Annotated[tuple[Waited, ...], items(record(Waited), 16)] = ()


@dataclass(frozen=True, slots=True)
class Stripe:
    """What a device that holds the object in part is for: ``chunks`` of them from ``first`` on, round the end. It gives
    others too, and has to fetch them then."""

    first: Annotated[int, integer()]
    chunks: Annotated[int, integer(1)]


@dataclass(frozen=True, slots=True)
class PlanSource:
    """``url`` takes the ticket as its ``ticket`` query parameter. ``rtt_ms``: the round trip that consumers of the same
    country have had to devices of this one's; None where none has told. ``country``: where the device's address is
    (ISO 3166-1); None where the scheduler's tables do not tell. ``stripe``: None where the device holds all."""

    device_id: Annotated[str, device_id()]
    url: Annotated[str, text(2048, 8)]
    ticket: Annotated[str, text(TICKET_BYTES_MAX, 1)]
    rtt_ms: Annotated[int | None, integer(1)] = None
    country: Annotated[str | None, matching(_COUNTRY, "two capital letters", 2)] = None
    stripe: Annotated[Stripe | None, record(Stripe)] = None


@dataclass(frozen=True, slots=True)
class Plan:
    object: Annotated[str, hexadecimal(64)]
    name: Annotated[str, text(255, 1)]
    manifest: Annotated[str, text(MANIFEST_BYTES_MAX, 1)]
    sources: Annotated[tuple[PlanSource, ...], items(record(PlanSource), 16)]
    origin: Annotated[str, text(2048, 8)]
    expires_at: Annotated[int, integer()]
