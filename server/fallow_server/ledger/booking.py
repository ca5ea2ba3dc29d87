"""What a verified batch changes in the books: one transaction, as plain functions of :class:`~fallow_server.rows.Rows`.

It looks at what was booked meanwhile, books all items of both sides, and keeps batch and ack: a batch that arrives
again gets the very same ack, and of many copies that arrive at once exactly one is booked.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow_wire.batches import Ack, AckItem, Batch, batch_hash
from fallow_wire.journal import held_parts, settlement_seal
from fallow_wire.jws import Kind, Signed, sign
from fallow_wire.keys import PrivateKey

from ..clock import Clock
from ..http import refusal
from ..rows import Row, Rows, marks
from .audits import agreeing_audits
from .books import Books, begin_books
from .config import LedgerConfig
from .directory import stored_scheduler_keys
from .journal import Account, AccountKind, PostingKind, transfer
from .quality import delivered_terms
from .tariffs import stored_terms
from .verification import HOUR_S, Admission, Booking, DeviceChain, Known, Refused, Settled, Verified, expect_next
from .vesting import earning_since, hold, hold_until

SETTLEMENT_COLUMNS = (
    "jti, device, batch_seq, item, digest, owner, publisher, service, tier, issued_at, claimed_bytes, allowed_bytes, "
    "confirmed_bytes, confirmed_ms, paid_bytes, tariff, rate, quality, scarcity, weight, micro_points, entry_seq, "
    "booked_at, matures_at, late_at, consumer, object, line, odds, audits, seal, "
    "region, bps, reach, delivered"
)
_INSERT_SETTLEMENT = f"INSERT INTO settlements ({SETTLEMENT_COLUMNS}) VALUES ({marks(35)})"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoundDevice:
    """A device of an owner, and where its chain of batches stands. ``x`` is its key, as in its JWK."""

    id: str
    x: str
    owner: str
    chain: DeviceChain


@dataclass(frozen=True, slots=True)
class Booked:
    """``ack`` as signed. ``earned``: points were booked by this very batch."""

    ack: str
    earned: bool


def bound_device(rows: Rows, device: str) -> BoundDevice:
    """:raises ApiProblem: 403 for a device that is unknown or bound to nobody."""
    found = rows.all("SELECT x, owner, seq, hash FROM devices WHERE id = ?", (device,))
    for x, owner, seq, digest in found:
        if owner is not None:
            return BoundDevice(device, x, owner, DeviceChain(seq, digest))
    raise refusal(
        403,
        "unknown-device",
        "The ledger does not know this device as bound to an owner",
        device if found else "",
        remedy="Keep the proofs and try again later: a new binding reaches the ledger within seconds.",
    )


def known_to(rows: Rows, ledger: str, device: str, now: int) -> Known:
    """What items of ``device`` are verified against. :param ledger: the address that tickets must name."""
    audits = agreeing_audits(rows, device, now)
    return Known(ledger, stored_scheduler_keys(rows), stored_terms(rows), audits, delivered_terms(rows, device))


def earlier_ack(rows: Rows, signed: Signed[Batch]) -> str | None:
    """The ack that this very batch got before."""
    query = "SELECT hash, ack FROM batches WHERE device = ? AND seq = ?"
    for digest, ack in rows.all(query, (signed.value.did, signed.value.seq)):
        if digest == batch_hash(signed.token):
            return str(ack)
    return None


def book(
    rows: Rows,
    clock: Clock,
    config: LedgerConfig,
    key: PrivateKey,
    signed: Signed[Batch],
    checked: Sequence[Verified | Refused],
    lend_again: Callable[[Books, Sequence[Verified]], None],
) -> Booked:
    """Book what of ``checked`` (an outcome for each item of the batch) is to be booked.

    :param key: signs the ack.
    :param lend_again: reserves what items need that a restored ledger has forgotten.
    :raises OutOfOrder: the batch neither comes next nor came before.
    """
    batch = signed.value
    books = begin_books(rows, clock)
    device = bound_device(rows, batch.did)
    earlier = earlier_ack(rows, signed)
    if earlier is not None:
        return Booked(earlier, earned=False)
    expect_next(batch, device.chain)

    held = Account(AccountKind.HELD, device.owner)
    since = earning_since(rows, device.owner, books.now)
    matures_at, late_at = hold_until(config, books.now, since)
    line_bytes_max = config.line_bps_max * HOUR_S // 8
    verified = [one for one in checked if isinstance(one, Verified)]
    lend_again(books, verified)
    of_hour = {(one.ticket.publisher, one.hour) for one in verified}
    purses = {at: Account(AccountKind.RESERVED, *at) for at in of_hour}  # few, and each costs more than looking it up
    books.load_now([held, *purses.values()])
    admission = _admission(rows, books, batch.did, verified, purses, line_bytes_max)
    items: list[AckItem] = []
    settled: list[Row] = []
    earned: Counter[int] = Counter()
    for place, one in enumerate(checked):
        outcome = one if isinstance(one, Refused) else admission.admit(one)
        items.append(_ack_item(one, outcome))
        if not isinstance(outcome, Booking):
            continue
        ticket, micro_points, entry_seq = outcome.verified.ticket, outcome.verified.micro_points, None
        if micro_points:
            purse = purses[ticket.publisher, outcome.verified.hour]
            entry_seq = books.post(transfer(PostingKind.SETTLEMENT, ticket.jti, purse, held, micro_points))
            for at, amount in held_parts(micro_points, matures_at, late_at):
                earned[at] += amount
        seal = settlement_seal(ticket.jti, device.owner, matures_at, late_at)
        audits = outcome.verified.audits if ticket.tier == "legacy" else None
        booked = (entry_seq, books.now, matures_at, late_at)
        routed = (ticket.sub, ticket.obj, ticket.line, ticket.odds, audits)
        measured = (ticket.region, ticket.bps, ticket.reach, outcome.verified.delivered)
        settled.append((*_settlement(outcome.verified, batch, place, device.owner), *booked, *routed, seal, *measured))
    rows.many(_INSERT_SETTLEMENT, settled)
    rows.many(
        f"INSERT INTO legacy_days (scope, holder, day, bytes) VALUES ({marks(4)}) "
        "ON CONFLICT (scope, holder, day) DO UPDATE SET bytes = excluded.bytes",
        _legacy_rows(admission),
    )
    rows.many(
        f"INSERT INTO line_hours (line, hour, bytes) VALUES ({marks(3)}) "
        "ON CONFLICT (line, hour) DO UPDATE SET bytes = excluded.bytes",
        [(*line_hour, admission.line_hour_bytes[line_hour]) for line_hour in sorted(admission.lines_touched)],
    )
    hold(rows, device.owner, since, earned)

    digest = batch_hash(signed.token)
    ack = Ack(batch.did, batch.seq, digest, tuple(items), books.save_now(), books.now)
    token = sign(Kind.ACK, ack, key)
    rows.run(
        f"INSERT INTO batches (device, seq, hash, token, ack, received_at) VALUES ({marks(6)})",
        (batch.did, batch.seq, digest, signed.token, token, books.now),
    )
    rows.run("UPDATE devices SET seq = ?, hash = ? WHERE id = ?", (batch.seq, digest, batch.did))
    refused = {item.reason for item in items if item.reason is not None}
    _log.info("%s batch %d: %d booked, refused %s", batch.did, batch.seq, len(settled), sorted(refused) or "none")
    return Booked(token, bool(earned))


def _admission(
    rows: Rows,
    books: Books,
    device: str,
    verified: Sequence[Verified],
    purses: Mapping[tuple[str, int], Account],
    line_bytes_max: int,
) -> Admission:
    """What was booked so far, as far as ``verified`` touches it."""
    jtis = list({one.ticket.jti for one in verified})
    named = list({one.ticket.publisher for one in verified})
    days = list({one.day for one in verified if one.ticket.tier == "legacy"})
    settled: dict[str, Settled] = {}
    publishers: set[str] = set()
    used: dict[str, dict[tuple[str, int], int]] = {"device": {}, "publisher": {}}
    if verified:
        query = f"SELECT jti, digest, micro_points FROM settlements WHERE jti IN ({marks(len(jtis))})"
        settled = {jti: Settled(digest, micro_points) for jti, digest, micro_points in rows.all(query, jtis)}
        query = f"SELECT id FROM accounts WHERE role = 'publisher' AND id IN ({marks(len(named))})"
        publishers = {row[0] for row in rows.all(query, named)}
    if days:
        holders = [device, *named]
        query = (
            f"SELECT scope, holder, day, bytes FROM legacy_days "
            f"WHERE holder IN ({marks(len(holders))}) AND day IN ({marks(len(days))})"
        )
        for scope, holder, day, paid in rows.all(query, [*holders, *days]):
            used[scope][holder, day] = paid
    lines = list({(one.ticket.line, one.hour) for one in verified if one.ticket.line is not None})
    by_line: dict[tuple[str, int], int] = {}
    if lines:
        query = f"SELECT line, hour, bytes FROM line_hours WHERE line IN ({marks(len(lines))})"
        by_line = {(line, hour): paid for line, hour, paid in rows.all(query, [line for line, _ in lines])}
    return Admission(
        device,
        publishers=frozenset(publishers),
        settled=settled,
        reserved={at: books.balance(purse) for at, purse in purses.items()},
        device_day_bytes=used["device"],
        publisher_day_bytes=used["publisher"],
        line_hour_bytes=by_line,
        line_hour_bytes_max=line_bytes_max,
    )


def _ack_item(checked: Verified | Refused, outcome: Booking | Settled | Refused) -> AckItem:
    if isinstance(outcome, Refused):
        return AckItem("refused", 0, outcome.jti, outcome.reason)
    assert isinstance(checked, Verified), "only verified items are admitted"
    micro_points = outcome.micro_points if isinstance(outcome, Settled) else outcome.verified.micro_points
    return AckItem("booked", micro_points, checked.ticket.jti)


def _settlement(verified: Verified, batch: Batch, place: int, owner: str) -> Row:
    """The columns of a settlement up to ``micro_points``."""
    ticket, receipt, factors = verified.ticket, verified.receipt, verified.factors
    return (
        ticket.jti,
        batch.did,
        batch.seq,
        place,
        verified.digest,
        owner,
        ticket.publisher,
        ticket.svc,
        ticket.tier,
        ticket.iat,
        verified.item.bytes,
        ticket.max_bytes,
        None if receipt is None else receipt.bytes,
        None if receipt is None else receipt.ms,
        factors.bytes,
        ticket.tariff,
        factors.rate,
        factors.quality,
        factors.scarcity,
        factors.weight,
        verified.micro_points,
    )


def _legacy_rows(admission: Admission) -> list[Any]:
    """The day counters that this batch moved."""
    touched = {
        key
        for one in admission.admitted
        if one.ticket.tier == "legacy"
        for key in (("device", admission.device, one.day), ("publisher", one.ticket.publisher, one.day))
    }
    used = {"device": admission.device_day_bytes, "publisher": admission.publisher_day_bytes}
    return [(scope, holder, day, used[scope][holder, day]) for scope, holder, day in sorted(touched)]
