"""Batches of proofs from a device to the ledger, and the ledger's acknowledgement.

Batches of one device form a chain: ``seq`` counts from 1 and ``prev`` is the hexadecimal SHA-256 of the compact JWS
of the batch before, 64 zeros for the first. A device sends the next batch after the ack of the last.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from .fields import device_id, hexadecimal, integer, items, one_of, record, text, uuid7
from .limits import BATCH_ITEMS_MAX, RECEIPT_BYTES_MAX, TICKET_BYTES_MAX
from .strict import dumps

FIRST_PREV = "0" * 64

REASONS = (
    "malformed",
    "wrong-device",
    "wrong-ledger",
    "unknown-key",
    "bad-ticket",
    "bad-receipt",
    "receipt-missing",
    "not-yet-valid",
    "too-old",
    "conflict",
    "unknown-tariff",
    "unknown-publisher",
    "escrow-exhausted",
    "device-cap",
    "publisher-cap",
    "line-cap",
)
"""Reason codes of a refused item; ``docs/protocol.md`` says what each means and what to do."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One ticket's service: what the device claims, and the consumer's last receipt where there is one."""

    ticket: Annotated[str, text(TICKET_BYTES_MAX, 1)]
    bytes: Annotated[int, integer()]
    ms: Annotated[int, integer()]
    started_at: Annotated[int, integer()]
    ended_at: Annotated[int, integer()]
    receipt: Annotated[str | None, text(RECEIPT_BYTES_MAX, 1)] = None

    def digest(self) -> str:
        """SHA-256 of the item's canonical form, hexadecimal: what tells the same item from another for its ticket."""
        value = {name: item for name in self.__slots__ if (item := getattr(self, name)) is not None}
        return hashlib.sha256(dumps(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Batch:
    did: Annotated[str, device_id()]
    seq: Annotated[int, integer(1)]
    prev: Annotated[str, hexadecimal(64)]
    items: Annotated[tuple[BatchItem, ...], items(record(BatchItem), BATCH_ITEMS_MAX, 1)]


@dataclass(frozen=True, slots=True)
class AckItem:
    """``booked`` with its micro-points, or ``refused`` with a reason of :data:`REASONS`.

    ``jti`` is left out where the ticket could not be read; items stand in the order of the batch.
    """

    result: Annotated[str, one_of("booked", "refused")]
    micro_points: Annotated[int, integer()] = 0
    jti: Annotated[str | None, uuid7()] = None
    reason: Annotated[str | None, one_of(*REASONS)] = None


@dataclass(frozen=True, slots=True)
class Head:
    """The head of the ledger's hash chain: entries so far and the hash of the last."""

    entries: Annotated[int, integer()]
    hash: Annotated[str, hexadecimal(64)]
    at: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class Ack:
    did: Annotated[str, device_id()]
    seq: Annotated[int, integer(1)]
    batch: Annotated[str, hexadecimal(64)]
    items: Annotated[tuple[AckItem, ...], items(record(AckItem), BATCH_ITEMS_MAX)]
    head: Annotated[Head, record(Head)]
    iat: Annotated[int, integer()]


def batch_hash(token: str) -> str:
    """What ``prev`` and ``Ack.batch`` hold: SHA-256 of the compact JWS as sent."""
    return hashlib.sha256(token.encode("ascii")).hexdigest()
