"""What consumers measured of each device, once a day: the share of the promised rate that it delivered.

The scheduler writes into each ticket what it reckoned the device to give, and a receipt says how long the bytes took.
From a complete day's receipts each device gets one number (:func:`fallow_wire.tariff.delivered_of`), which counts for
tickets that are issued an hour later and on: like a tariff it is never retroactive, and what a ticket will be worth is
known when it is issued.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from fallow_wire.ids import uuid7
from fallow_wire.limits import PROOF_AGE_S_MAX
from fallow_wire.tariff import CONFIRMED_MS_MAX, DAY_S, HOUR_S, delivered_of

from ..clock import Clock
from ..database import Database
from ..rows import Row, Rows, marks

VALID_AFTER_S = HOUR_S
"""Clocks may be apart, but not by so much."""
LOOK_BACK_DAYS = 3
"""A ledger that was away for longer leaves the older days out."""
TERMS_READ_MAX = 8
"""One is made a day, and proofs are two days old at most."""

Deliveries = dict[str, tuple[int, int]]
"""By consumer: confirmed bytes, and confirmed ms times promised bit/s."""


class Quality:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._looked_until: int | None = None

    async def look(self) -> None:
        """Measure each day that is complete: no more proofs of it can come."""
        newest = (self._clock.now() - PROOF_AGE_S_MAX) // DAY_S - 1
        if self._looked_until is None:
            done = await self._database.ask(lambda rows: rows.all("SELECT max(day) FROM deliveries")[0][0])
            self._looked_until = max(newest - LOOK_BACK_DAYS, -1 if done is None else done)
        for day in range(self._looked_until + 1, newest + 1):
            measured = await self._database.ask(partial(measured_on, day=day))
            valid_from = self._clock.now() + VALID_AFTER_S
            made = [
                (device, day, delivered, len(consumers), valid_from)
                for device, consumers in sorted(measured.items())
                if (delivered := delivered_of(consumers)) is not None
            ]
            await self._database.transact(partial(_keep, made=made))
            self._looked_until = day


def _keep(rows: Rows, made: Sequence[Row]) -> None:
    # Another process on the same database may have been there first.
    rows.many(
        f"INSERT INTO deliveries (device, day, delivered, consumers, valid_from) VALUES ({marks(5)}) "
        "ON CONFLICT (device, day) DO NOTHING",
        made,
    )


def measured_on(rows: Rows, day: int) -> dict[str, Deliveries]:
    """What the receipts of a day's tickets say, by device. The day is that of the tickets' ids, which rise with time.

    The tickets' consumers have a region behind their name, after a dot; each is one consumer nevertheless.
    """
    first, end = (uuid7(at * 1000, bytes(10)) for at in (day * DAY_S, (day + 1) * DAY_S))
    found: dict[str, Deliveries] = defaultdict(dict)
    query = (
        "SELECT device, consumer, sum(confirmed_bytes), sum(confirmed_ms * bps) FROM settlements "
        "WHERE jti >= ? AND jti < ? AND bps IS NOT NULL AND confirmed_bytes > 0 AND confirmed_ms > 0 "
        f"AND confirmed_ms <= {CONFIRMED_MS_MAX} GROUP BY device, consumer"
    )
    for device, subject, confirmed, promised in rows.all(query, (first, end)):
        consumer = subject.partition(".")[0]
        before = found[device].get(consumer, (0, 0))
        found[device][consumer] = (before[0] + int(confirmed), before[1] + int(promised))
    return found


def delivered_terms(rows: Rows, device: str) -> tuple[tuple[int, int], ...]:
    """(Valid from, ‰) of a device, newest first."""
    query = (
        "SELECT valid_from, delivered FROM deliveries WHERE device = ? "
        f"ORDER BY valid_from DESC, day DESC LIMIT {TERMS_READ_MAX}"
    )
    return tuple((valid_from, delivered) for valid_from, delivered in rows.all(query, (device,)))
