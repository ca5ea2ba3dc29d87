"""What the ledger believes of a batch, and why. Pure: every check in one place, in order, cheap ones first.

Trust rules:

1. Nobody is believed about money: paid is the least of what the ticket allowed, the consumer signed and the device
   claimed. A claim above the others costs the device nothing and brings nothing.
2. A ticket is paid once, whoever sends it however often, in whatever batch.
3. Only a ticket signed by a key that the scheduler in its ``iss`` publishes now is worth anything, and only to the
   device that it names, here, at this ledger.
4. Time is the ledger's. ``iat`` is believed because the scheduler signed it; times and rates that a device tells are
   kept and decide nothing.
5. A countersigned ticket is worth what its consumer signed with the key in the ticket. A legacy ticket has no such
   witness, so it is paid at the tariff's lower weight and under the day's caps.
6. Points come out of what the publisher's escrow lent to the hour of the ticket, never out of nothing.
7. Received bytes are verified, then parsed. The one exception is the ticket, whose audience, times and tariff are
   read first because they cost less than its signature; nothing is concluded from them but a refusal.

:func:`read_batch` and :func:`expect_next` decide about the batch as a whole, :func:`verify_item` about each item on its
own, :class:`Admission` about items in the light of what was booked before. Refusals are codes of
:data:`fallow_wire.batches.REASONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fallow_wire.batches import FIRST_PREV, Batch, BatchItem
from fallow_wire.errors import BadSignature, PeerError
from fallow_wire.jws import Kind, Signed, Unverified, check, parse, split
from fallow_wire.keys import PublicKey
from fallow_wire.limits import INTEGER_MAX, PROOF_AGE_S_MAX
from fallow_wire.tariff import Factors, Tariff, delivered_at, paid_bytes, price
from fallow_wire.tickets import Receipt, Ticket

CLOCK_SKEW_S = 60
"""How far the clocks of scheduler and ledger may be apart."""
TARIFF_OVERLAP_S = 3600
"""A ticket may name a tariff this long before and after it is in force: a scheduler learns of a new one with delay."""
HOUR_S, DAY_S = 3600, 86_400


@dataclass(frozen=True, slots=True)
class Term:
    """A tariff and when it is in force: from its ``valid_from`` until the next one's, in Unix seconds."""

    tariff: Tariff
    valid_until: int | None

    def covers(self, at: int) -> bool:
        started = self.tariff.valid_from <= at + TARIFF_OVERLAP_S
        return started and (self.valid_until is None or at < self.valid_until + TARIFF_OVERLAP_S)


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows when a batch arrives: its own address, keys by scheduler and ``kid``, tariffs by id."""

    ledger: str
    scheduler_keys: Mapping[tuple[str, str], PublicKey]
    terms: Mapping[str, Term]
    audits: int = 0
    """Agreeing audits in a row of the device that sent the batch."""
    delivered: tuple[tuple[int, int], ...] = ()
    """What consumers measured of it, as :func:`fallow_wire.tariff.delivered_at` takes it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """``reason`` is a code of REASONS; ``jti`` is None where the ticket could not be read."""

    reason: str
    jti: str | None = None


class Verified(NamedTuple):
    """An item whose signatures hold, priced. ``digest`` is the SHA-256 of the whole item as the device sent it."""

    item: BatchItem
    ticket: Ticket
    receipt: Receipt | None
    digest: str
    tariff: Tariff
    factors: Factors
    micro_points: int
    audits: int
    delivered: int | None = None

    @property
    def hour(self) -> int:
        """Hours since 1970 at which the ticket was issued: what its escrow was reserved for."""
        return self.ticket.iat // HOUR_S

    @property
    def day(self) -> int:
        """Days since 1970 at which the ticket was issued: what legacy caps count by."""
        return self.ticket.iat // DAY_S


class OutOfOrder(Exception):
    """The batch does not continue its device's chain. ``slug`` is ``sequence-gap`` or ``chain-fork``."""

    def __init__(self, slug: str, seq: int, prev: str) -> None:
        super().__init__(f"{slug}: batch {seq} after {prev} is expected")
        self.slug = slug
        self.seq = seq
        self.prev = prev


@dataclass(frozen=True, slots=True)
class DeviceChain:
    """The last batch of a device that was answered: its ``seq`` (0: none) and hash."""

    seq: int = 0
    hash: str = FIRST_PREV


# ------------------------------------------------------------------ the batch as a whole


def read_batch(unverified: Unverified, key: PublicKey) -> Signed[Batch]:
    """The batch, signed by ``key``, the key of the device that ``kid`` names.

    :raises PeerError: another signature, another device in it, or not the strict form.
    """
    check(unverified, key)
    batch = parse(unverified, Batch)
    if batch.did != unverified.kid:
        raise BadSignature("the batch is another device's than its signature")
    return Signed(batch, unverified.kid, unverified.token)


def expect_next(batch: Batch, chain: DeviceChain) -> None:
    """:raises OutOfOrder: unless ``batch`` comes right after ``chain``. Batches answered before are not for here."""
    if batch.seq > chain.seq + 1:
        raise OutOfOrder("sequence-gap", chain.seq + 1, chain.hash)
    if batch.seq <= chain.seq or batch.prev != chain.hash:
        raise OutOfOrder("chain-fork", chain.seq + 1, chain.hash)


# ------------------------------------------------------------------ one item on its own


def verify_item(item: BatchItem, device: str, known: Known, now: int) -> Verified | Refused:
    """Everything about an item that does not depend on other items.

    :param device: id of the device that signed the batch.
    :param now: Unix seconds by the ledger's clock.
    """
    # Strict form of the ticket
    try:
        unverified = split(item.ticket, Kind.TICKET)
        ticket = parse(unverified, Ticket)
    except BadSignature:
        return Refused("bad-ticket")  # some other kind of token, or another algorithm
    except PeerError:
        return Refused("malformed")

    # Audience, ledger, issuer and key id
    if ticket.aud != device:
        return Refused("wrong-device", ticket.jti)
    if ticket.ledger != known.ledger:
        return Refused("wrong-ledger", ticket.jti)
    key = known.scheduler_keys.get((ticket.iss, unverified.kid))
    if key is None:
        return Refused("unknown-key", ticket.jti)

    # Times by the ledger's clock
    if max(ticket.iat, ticket.nbf) > now + CLOCK_SKEW_S:
        return Refused("not-yet-valid", ticket.jti)
    if ticket.iat < now - PROOF_AGE_S_MAX:
        return Refused("too-old", ticket.jti)

    # Tariff
    term = known.terms.get(ticket.tariff)
    if term is None or not term.covers(ticket.iat):
        return Refused("unknown-tariff", ticket.jti)

    # Bounds: countersigned tickets come with a receipt, legacy ones without. What is claimed needs no bound of its
    # own, for the least of three counts.
    if ticket.cnf is not None and item.receipt is None:
        return Refused("receipt-missing", ticket.jti)
    if ticket.cnf is None and item.receipt is not None:
        return Refused("bad-receipt", ticket.jti)

    # Ticket signature
    try:
        check(unverified, key)
    except PeerError:
        return Refused("bad-ticket", ticket.jti)

    # Receipt signature
    receipt = _receipt(item, ticket)
    if isinstance(receipt, Refused):
        return receipt

    paid = paid_bytes(item.bytes, ticket.max_bytes, None if receipt is None else receipt.bytes)
    delivered = delivered_at(known.delivered, ticket.iat)
    factors = price(ticket, term.tariff, paid, known.audits, delivered)
    points = factors.micro_points()
    return Verified(item, ticket, receipt, item.digest(), term.tariff, factors, points, known.audits, delivered)


def _receipt(item: BatchItem, ticket: Ticket) -> Receipt | Refused | None:
    if item.receipt is None or ticket.cnf is None:
        return None
    try:
        unverified = split(item.receipt, Kind.RECEIPT)
    except BadSignature:
        return Refused("bad-receipt", ticket.jti)
    except PeerError:
        return Refused("malformed", ticket.jti)
    try:
        check(unverified, PublicKey.from_jwk(ticket.cnf.jwk))
    except PeerError:
        return Refused("bad-receipt", ticket.jti)
    try:
        receipt = parse(unverified, Receipt)
    except PeerError:
        return Refused("malformed", ticket.jti)
    if receipt.jti != ticket.jti or receipt.bytes > ticket.max_bytes:
        return Refused("bad-receipt", ticket.jti)
    return receipt


# ------------------------------------------------------------------ items in the light of what was booked


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a ticket before."""

    digest: str
    micro_points: int


@dataclass(frozen=True, slots=True)
class Booking:
    """``verified`` is to be booked now."""

    verified: Verified


@dataclass(slots=True)
class Admission:
    """Takes the items of one batch one after another; what it admits counts for those that follow.

    The caller fills it with what is booked so far, for all tickets, publishers, hours and days of the batch.
    ``reserved``: µp left by (publisher, hour). The next two: legacy bytes paid by (device or publisher, day). Then all
    bytes paid to one line by (line, hour), and how many that may be at most, less by a ticket's ``line_bps``.
    """

    device: str
    publishers: frozenset[str]
    settled: dict[str, Settled]
    reserved: dict[tuple[str, int], int]
    device_day_bytes: dict[tuple[str, int], int]
    publisher_day_bytes: dict[tuple[str, int], int]
    line_hour_bytes: dict[tuple[str, int], int] = field(default_factory=dict)
    line_hour_bytes_max: int = INTEGER_MAX
    lines_touched: set[tuple[str, int]] = field(default_factory=set)
    admitted: list[Verified] = field(default_factory=list)

    def admit(self, verified: Verified) -> Booking | Settled | Refused:
        """:class:`Settled` says that this very item was booked before, with that result; it is not booked again."""
        ticket = verified.ticket
        before = self.settled.get(ticket.jti)
        if before is not None:
            return before if before.digest == verified.digest else Refused("conflict", ticket.jti)
        if ticket.publisher not in self.publishers:
            return Refused("unknown-publisher", ticket.jti)

        # Caps
        paid = verified.factors.bytes
        by_device, by_publisher = (self.device, verified.day), (ticket.publisher, verified.day)
        if ticket.tier == "legacy":
            caps = verified.tariff.legacy_caps
            if self.device_day_bytes.get(by_device, 0) + paid > caps.device_day_bytes:
                return Refused("device-cap", ticket.jti)
            if self.publisher_day_bytes.get(by_publisher, 0) + paid > caps.publisher_day_bytes:
                return Refused("publisher-cap", ticket.jti)

        line_hour = None if ticket.line is None else (ticket.line, verified.hour)
        if line_hour is not None:
            most = self.line_hour_bytes_max
            if ticket.line_bps is not None:
                most = min(most, ticket.line_bps * HOUR_S // 8)
            if self.line_hour_bytes.get(line_hour, 0) + paid > most:
                return Refused("line-cap", ticket.jti)

        # Escrow
        purse = (ticket.publisher, verified.hour)
        left = self.reserved.get(purse, 0) - verified.micro_points
        if left < 0:
            return Refused("escrow-exhausted", ticket.jti)

        self.reserved[purse] = left
        if ticket.tier == "legacy":
            self.device_day_bytes[by_device] = self.device_day_bytes.get(by_device, 0) + paid
            self.publisher_day_bytes[by_publisher] = self.publisher_day_bytes.get(by_publisher, 0) + paid
        if line_hour is not None and paid:
            self.line_hour_bytes[line_hour] = self.line_hour_bytes.get(line_hour, 0) + paid
            self.lines_touched.add(line_hour)
        self.settled[ticket.jti] = Settled(verified.digest, verified.micro_points)
        self.admitted.append(verified)
        return Booking(verified)
