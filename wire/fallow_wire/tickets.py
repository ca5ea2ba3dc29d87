"""Tickets and receipts: who may fetch what from whom, and what a consumer confirms of it.

A ticket is issued by the scheduler for one device (``aud``) and one object. A receipt is signed by the key in the
ticket's ``cnf`` and is cumulative: ``bytes`` counts all verified bytes under this ticket, ``n`` rises by at least one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from .errors import Malformed
from .fields import device_id, hexadecimal, integer, matching, one_of, record, text, uuid7, word
from .jws import Kind, Signed, check, parse, split, verify
from .keys import Jwk, PublicKey
from .limits import RECEIPT_STEP_BYTES_MAX, RECEIPT_STEP_BYTES_MIN, TICKET_LIFETIME_S_MAX

TIERS = ("countersigned", "legacy")
SERVICES = ("object", "fill", "live", "probe")
REGION = re.compile(r"[A-Z]{2}\Z")
BPS_MAX = 10**9
"""A rate in a ticket; no home line is promised more."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """RFC 7800: the key whose holder may confirm delivery."""

    jwk: Annotated[Jwk, record(Jwk)]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Permission to fetch ``obj`` from device ``aud``, up to ``max_bytes``. Times in Unix seconds.

    ``line``: keyed pseudonym, new every day, of the network (/24 or /56) that the scheduler sees the device in.
    ``odds``: per mille, the chance that a ticket of this request would name the device.
    ``region``: ISO 3166-1, the country of the device's line. ``bps``: bit/s that the device was reckoned to give.
    ``line_bps``: bit/s that all devices of the line together are paid for at most, by what others than they saw.
    ``reach``: per mille of its latest time online in which consumers could reach the device.
    """

    iss: Annotated[str, text(256, 1)]
    aud: Annotated[str, device_id()]
    jti: Annotated[str, uuid7()]
    sub: Annotated[str, text(64, 1)]
    iat: Annotated[int, integer()]
    nbf: Annotated[int, integer()]
    exp: Annotated[int, integer()]
    obj: Annotated[str, hexadecimal(64)]
    svc: Annotated[str, one_of(*SERVICES)]
    tier: Annotated[str, one_of(*TIERS)]
    max_bytes: Annotated[int, integer()]
    publisher: Annotated[str, word()]
    tariff: Annotated[str, hexadecimal(64)]
    ledger: Annotated[str, text(256, 1)]
    cnf: Annotated[Confirmation | None, record(Confirmation)] = None
    line: Annotated[str | None, text(64, 1)] = None
    odds: Annotated[int | None, integer(0, 1000)] = None
    region: Annotated[str | None, matching(REGION, "two capital letters")] = None
    bps: Annotated[int | None, integer(1, BPS_MAX)] = None
    line_bps: Annotated[int | None, integer()] = None
    reach: Annotated[int | None, integer(0, 1000)] = None

    def __post_init__(self) -> None:
        if (self.cnf is not None) != (self.tier == "countersigned"):
            raise Malformed("cnf belongs to countersigned tickets and to no others")
        if not self.nbf <= self.exp or not self.iat <= self.exp <= self.iat + TICKET_LIFETIME_S_MAX:
            raise Malformed(f"a ticket lives at most {TICKET_LIFETIME_S_MAX} s")


@dataclass(frozen=True, slots=True)
class Receipt:
    """Cumulative: ``bytes`` verified and ``ms`` of service under ticket ``jti``.

    ``digest`` is the SHA-256 of the chunk that was verified last.
    """

    jti: Annotated[str, uuid7()]
    n: Annotated[int, integer(1)]
    bytes: Annotated[int, integer()]
    ms: Annotated[int, integer()]
    digest: Annotated[str, hexadecimal(64)]


def verify_ticket(token: str | bytes, key_of: Callable[[str], PublicKey | None]) -> Signed[Ticket]:
    """Signature and strict form; audience and times are the caller's to check."""
    return verify(token, Kind.TICKET, Ticket, key_of)


def verify_receipt(token: str | bytes, ticket: Ticket) -> Signed[Receipt]:
    """A receipt for ``ticket``, signed by the key of its ``cnf``.

    :raises PeerError: not countersigned, another key, another ``jti``, more bytes than the ticket allows.
    """
    unverified = split(token, Kind.RECEIPT)
    if ticket.cnf is None:
        raise Malformed("a legacy ticket takes no receipts")
    check(unverified, PublicKey.from_jwk(ticket.cnf.jwk))
    receipt = parse(unverified, Receipt)
    if receipt.jti != ticket.jti:
        raise Malformed("the receipt is for another ticket")
    if receipt.bytes > ticket.max_bytes:
        raise Malformed("the receipt confirms more than the ticket allows")
    return Signed(receipt, unverified.kid, unverified.token)


def unacknowledged_bytes_max(acknowledged: int) -> int:
    """Bytes that a device sends beyond the last receipt: two steps.

    A step grows with what was confirmed, from 1 MiB to 8 MiB, so that a stranger costs little and a long download
    needs few receipts.
    """
    step = min(RECEIPT_STEP_BYTES_MAX, max(RECEIPT_STEP_BYTES_MIN, acknowledged // 8))
    return 2 * step
