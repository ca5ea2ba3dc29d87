"""What consumers measured of each device, from the receipts of the settlements, and what of it counted when."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from fallow_wire.ids import uuid7
from fallow_wire.limits import PROOF_AGE_S_MAX
from fallow_wire.tariff import CONFIRMED_MS_MAX, delivered_of

from .books import DAY_S
from .report import Report


def delivered_terms(database: sqlite3.Connection, device: str) -> list[tuple[int, int]]:
    """(Valid from, ‰), newest first, as :func:`fallow_wire.tariff.delivered_at` takes it."""
    query = "SELECT valid_from, delivered FROM deliveries WHERE device = ? ORDER BY valid_from DESC, day DESC"
    return [(row[0], row[1]) for row in database.execute(query, (device,))]


def check_deliveries(database: sqlite3.Connection, report: Report) -> None:
    """Each day's number from its receipts. It must be of all of them: made when no more could come."""
    for (day,) in database.execute("SELECT DISTINCT day FROM deliveries ORDER BY day").fetchall():
        measured = _measured_on(database, day)
        for row in database.execute("SELECT * FROM deliveries WHERE day = ?", (day,)):
            consumers = measured.get(row["device"], {})
            where = f"{row['device']} {day}"
            report.differ("deliveries", where, "delivered", row["delivered"], delivered_of(consumers))
            report.differ("deliveries", where, "consumers", row["consumers"], len(consumers))
            complete = row["valid_from"] >= (day + 1) * DAY_S + PROOF_AGE_S_MAX
            report.differ("deliveries", where, "made of a complete day", complete, True)


def _measured_on(database: sqlite3.Connection, day: int) -> dict[str, dict[str, tuple[int, int]]]:
    """By device and consumer: confirmed bytes, and confirmed ms times promised bit/s. Ticket ids begin with their time
    in ms, and the day is that of the ids."""
    first, end = (uuid7(at * 1000, bytes(10)) for at in (day * DAY_S, (day + 1) * DAY_S))
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    query = (
        "SELECT device, consumer, confirmed_bytes, confirmed_ms, bps FROM settlements "
        "WHERE jti >= ? AND jti < ? AND bps IS NOT NULL AND confirmed_bytes > 0 AND confirmed_ms > 0 "
        f"AND confirmed_ms <= {CONFIRMED_MS_MAX}"
    )
    for device, subject, confirmed, taken_ms, bps in database.execute(query, (first, end)):
        consumer = subject.partition(".")[0]
        before = found[device].get(consumer, (0, 0))
        found[device][consumer] = (before[0] + confirmed, before[1] + taken_ms * bps)
    return found
