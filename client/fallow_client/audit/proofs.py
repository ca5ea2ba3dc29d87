"""Every settlement from its stored inputs: tariff, batch, ticket, receipt, ack; and the devices' chains."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallow_wire.batches import FIRST_PREV, Ack, Batch, BatchItem
from fallow_wire.errors import PeerError
from fallow_wire.journal import HOUR_S, settlement_seal
from fallow_wire.jws import Kind, check, parse, split, verify
from fallow_wire.keys import PublicKey
from fallow_wire.tariff import Tariff, delivered_at, paid_bytes, price
from fallow_wire.tickets import Receipt, Ticket, verify_receipt

from .books import DAY_S
from .deliveries import check_deliveries, delivered_terms
from .report import Report
from .source import ledger_key

LegacyDays = Counter[tuple[str, str, int]]
"""Legacy bytes paid, by scope, holder and day."""


@dataclass(frozen=True, slots=True)
class _Device:
    """A device while its batches are followed."""

    id: str
    key: PublicKey | None


def check_proofs(database: sqlite3.Connection, report: Report, keys: Mapping[str, PublicKey]) -> None:
    """:param keys: the ledger's, by ``kid``."""
    tariffs = _check_tariffs(database, report, keys)
    days: LegacyDays = Counter()
    for row in database.execute("SELECT * FROM devices"):
        _check_device(database, report, row, keys, tariffs, days)
    _check_strays(database, report)
    _check_legacy_days(database, report, days)
    _check_line_hours(database, report)
    check_deliveries(database, report)


def _check_tariffs(database: sqlite3.Connection, report: Report, keys: Mapping[str, PublicKey]) -> dict[str, Tariff]:
    found = {}
    for row in database.execute("SELECT * FROM tariffs"):
        try:
            tariff = verify(row["token"], Kind.TARIFF, Tariff, keys.get).value
        except PeerError as error:
            report.differ("tariffs", row["id"], "signed tariff", row["token"], error.detail)
            continue
        report.signatures += 1
        stored = (row["id"], row["version"], row["valid_from"])
        report.differ(
            "tariffs",
            row["id"],
            "id, version and start",
            stored,
            (tariff.tariff_id(), tariff.version, tariff.valid_from),
        )
        found[tariff.tariff_id()] = tariff
    return found


def _check_device(
    database: sqlite3.Connection,
    report: Report,
    row: sqlite3.Row,
    keys: Mapping[str, PublicKey],
    tariffs: Mapping[str, Tariff],
    days: LegacyDays,
) -> None:
    """A device's batches in order, each chained to the one before, and the place where its chain stands."""
    try:
        key = ledger_key(row["x"])
        report.differ("devices", row["id"], "id of the key", row["id"], key.device_id())
        device = _Device(row["id"], key)
    except PeerError as error:
        report.differ("devices", row["id"], "key", row["x"], error.detail)
        device = _Device(row["id"], None)
    seq, last = 0, FIRST_PREV
    for batch in database.execute("SELECT * FROM batches WHERE device = ? ORDER BY seq", (device.id,)):
        where = f"{device.id} {batch['seq']}"
        report.batches += 1
        report.differ("batches", where, "seq", batch["seq"], seq + 1)
        report.differ("batches", where, "hash", batch["hash"], hashlib.sha256(batch["token"].encode()).hexdigest())
        read = _read_batch(report, batch, device, where)
        if read is not None:
            report.differ(
                "batches", where, "device, seq and prev", (read.did, read.seq, read.prev), (device.id, seq + 1, last)
            )
            _check_items(database, report, batch, read, tariffs, days, keys)
        seq, last = batch["seq"], batch["hash"]
    report.differ("devices", device.id, "last batch", (row["seq"], row["hash"]), (seq, last))


def _read_batch(report: Report, row: sqlite3.Row, device: _Device, where: str) -> Batch | None:
    try:
        unverified = split(row["token"], Kind.BATCH)
        if device.key is not None:
            check(unverified, device.key)
            report.signatures += 1
        return parse(unverified, Batch)
    except PeerError as error:
        report.differ("batches", where, "signed batch", row["token"], error.detail)
        return None


def _check_items(
    database: sqlite3.Connection,
    report: Report,
    row: sqlite3.Row,
    batch: Batch,
    tariffs: Mapping[str, Tariff],
    days: LegacyDays,
    keys: Mapping[str, PublicKey],
) -> None:
    where = f"{row['device']} {row['seq']}"
    query = "SELECT * FROM settlements WHERE device = ? AND batch_seq = ?"
    settled = {one["item"]: one for one in database.execute(query, (row["device"], row["seq"]))}
    try:
        ack = verify(row["ack"], Kind.ACK, Ack, keys.get).value
        report.signatures += 1
    except PeerError as error:
        report.differ("batches", where, "signed ack", row["ack"], error.detail)
        ack = None
    if ack is not None:
        said = (ack.did, ack.seq, ack.batch, ack.iat, len(ack.items))
        stored = (row["device"], row["seq"], row["hash"], row["received_at"], len(batch.items))
        report.differ("batches", where, "what the ack says", stored, said)
        found = database.execute("SELECT hash FROM entries WHERE seq = ?", (ack.head.entries,)).fetchone()
        if ack.head.entries:
            report.differ(
                "entries", ack.head.entries, "head in an ack", found["hash"] if found else None, ack.head.hash
            )
    for place, item in enumerate(batch.items):
        one = settled.pop(place, None)
        if ack is not None and place < len(ack.items):
            _check_outcome(database, report, where, place, ack, one)
        if one is not None:
            _check_settlement(database, report, one, row, item, tariffs, days)
    for one in settled.values():
        report.differ("settlements", one["jti"], "place in the batch", one["item"], f"0 to {len(batch.items) - 1}")


def _check_outcome(
    database: sqlite3.Connection, report: Report, where: str, place: int, ack: Ack, row: sqlite3.Row | None
) -> None:
    """What the device was told of an item, against what is booked. An item that was booked in an earlier batch, and
    sent again, is told as it was booked then."""
    item = ack.items[place]
    if item.result == "refused":
        report.differ(
            "settlements", f"{where} item {place}", f"refused ({item.reason}) and booked", row is not None, False
        )
        return
    if row is None:
        row = database.execute("SELECT * FROM settlements WHERE jti = ?", (item.jti,)).fetchone()
    if row is None:
        report.differ("settlements", item.jti, "missing", None, f"{item.micro_points} µp, as acknowledged")
        return
    report.differ(
        "settlements", item.jti, "as acknowledged", (row["jti"], row["micro_points"]), (item.jti, item.micro_points)
    )


def _check_settlement(
    database: sqlite3.Connection,
    report: Report,
    row: sqlite3.Row,
    batch: sqlite3.Row,
    item: BatchItem,
    tariffs: Mapping[str, Tariff],
    days: LegacyDays,
) -> None:
    report.settlements += 1
    try:
        unverified = split(item.ticket, Kind.TICKET)
        ticket = parse(unverified, Ticket)
        receipt = None if item.receipt is None else verify_receipt(item.receipt, ticket).value
        tariff = tariffs[ticket.tariff]
    except PeerError as error:
        report.differ("settlements", row["jti"], "ticket or receipt", row["digest"], error.detail)
        return
    except KeyError:
        report.differ("settlements", row["jti"], "tariff", row["tariff"], "not in the tariffs")
        return
    report.signatures += receipt is not None
    delivered = delivered_at(delivered_terms(database, ticket.aud), ticket.iat)
    computed = compute(ticket, receipt, item, tariff, row["audits"], delivered)
    computed |= {"device": ticket.aud, "booked_at": batch["received_at"]}
    for name, value in computed.items():
        report.differ("settlements", row["jti"], name, row[name], value)
    report.micro_points += computed["micro_points"]
    if ticket.tier == "legacy":
        day = ticket.iat // DAY_S
        days["device", ticket.aud, day] += computed["paid_bytes"]
        days["publisher", ticket.publisher, day] += computed["paid_bytes"]
    _check_entries_of(database, report, row, ticket, computed["micro_points"])
    _check_audits(database, report, row, ticket)
    seal = settlement_seal(row["jti"], row["owner"], row["matures_at"], row["late_at"])
    report.differ("settlements", row["jti"], "owner or maturity", row["seal"], seal)


def compute(
    ticket: Ticket,
    receipt: Receipt | None,
    item: BatchItem,
    tariff: Tariff,
    audits: int | None,
    delivered: int | None,
) -> dict[str, Any]:
    """Columns of a settlement from what was signed, the number of audits that it was priced by, and what consumers had
    measured of the device."""
    confirmed = None if receipt is None else receipt.bytes
    factors = price(ticket, tariff, paid_bytes(item.bytes, ticket.max_bytes, confirmed), audits or 0, delivered)
    return {
        "jti": ticket.jti,
        "publisher": ticket.publisher,
        "service": ticket.svc,
        "tier": ticket.tier,
        "issued_at": ticket.iat,
        "consumer": ticket.sub,
        "object": ticket.obj,
        "line": ticket.line,
        "odds": ticket.odds,
        "region": ticket.region,
        "bps": ticket.bps,
        "reach": ticket.reach,
        "delivered": delivered,
        "tariff": ticket.tariff,
        "digest": item.digest(),
        "claimed_bytes": item.bytes,
        "allowed_bytes": ticket.max_bytes,
        "confirmed_bytes": confirmed,
        "confirmed_ms": None if receipt is None else receipt.ms,
        "paid_bytes": factors.bytes,
        "rate": factors.rate,
        "quality": factors.quality,
        "scarcity": factors.scarcity,
        "weight": factors.weight,
        "micro_points": factors.micro_points(),
    }


def _check_entries_of(
    database: sqlite3.Connection, report: Report, row: sqlite3.Row, ticket: Ticket, micro_points: int
) -> None:
    """The posting of a settlement: out of its hour's escrow, to its owner."""
    if micro_points == 0:
        report.differ("settlements", row["jti"], "entry_seq", row["entry_seq"], None)
        return
    query = "SELECT kind, account, micro_points, at FROM entries WHERE ref = ? AND seq IN (?, ?) ORDER BY seq"
    seq = row["entry_seq"]
    second = seq + 1 if type(seq) is int else None
    found = [tuple(entry) for entry in database.execute(query, (ticket.jti, seq, second))]
    purse = f"reserved:{ticket.publisher}:{ticket.iat // HOUR_S}"
    wanted = [
        ("settlement", purse, -micro_points, row["booked_at"]),
        ("settlement", f"held:{row['owner']}", micro_points, row["booked_at"]),
    ]
    report.differ("settlements", row["jti"], "posting", found, wanted)


def _check_audits(database: sqlite3.Connection, report: Report, row: sqlite3.Row, ticket: Ticket) -> None:
    """A legacy settlement counts no more audits than there were."""
    if ticket.tier != "legacy":
        report.differ("settlements", row["jti"], "audits", row["audits"], None)
        return
    query = "SELECT count(*) FROM audits WHERE device = ? AND agreed = 1 AND at < ?"
    (most,) = database.execute(query, (row["device"], row["booked_at"])).fetchone()
    counted = row["audits"]
    if type(counted) is not int or not 0 <= counted <= most:
        report.differ("settlements", row["jti"], "audits", counted, f"0 to {most}")


def _check_strays(database: sqlite3.Connection, report: Report) -> None:
    """Rows whose batch or device is not there, and postings without settlement: nothing above came past them."""
    for row in database.execute("SELECT device, seq FROM batches WHERE device NOT IN (SELECT id FROM devices)"):
        report.differ("batches", f"{row['device']} {row['seq']}", "device", row["device"], None)
    for row in database.execute(
        "SELECT jti, device, batch_seq FROM settlements s WHERE NOT EXISTS "
        "(SELECT 1 FROM batches b WHERE b.device = s.device AND b.seq = s.batch_seq)"
    ):
        report.differ("settlements", row["jti"], "batch", f"{row['device']} {row['batch_seq']}", None)
    for row in database.execute(
        "SELECT seq, ref FROM entries e WHERE kind = 'settlement' AND micro_points < 0 AND NOT EXISTS "
        "(SELECT 1 FROM settlements s WHERE s.jti = e.ref AND s.entry_seq = e.seq)"
    ):
        report.differ("entries", row["seq"], "settlement", row["ref"], None)


def _check_legacy_days(database: sqlite3.Connection, report: Report, days: LegacyDays) -> None:
    stored = {
        (row["scope"], row["holder"], row["day"]): row["bytes"] for row in database.execute("SELECT * FROM legacy_days")
    }
    for key in days.keys() | stored.keys():
        report.differ("legacy_days", " ".join(map(str, key)), "bytes", stored.get(key, 0), days.get(key, 0))


def _check_line_hours(database: sqlite3.Connection, report: Report) -> None:
    query = (
        f"SELECT line, issued_at / {HOUR_S} AS hour, sum(paid_bytes) AS bytes FROM settlements "
        "WHERE line IS NOT NULL AND paid_bytes > 0 GROUP BY 1, 2"
    )
    found = {(row["line"], row["hour"]): row["bytes"] for row in database.execute(query)}
    stored = {(row["line"], row["hour"]): row["bytes"] for row in database.execute("SELECT * FROM line_hours")}
    for line, hour in found.keys() | stored.keys():
        report.differ("line_hours", f"{line} {hour}", "bytes", stored.get((line, hour)), found.get((line, hour)))
