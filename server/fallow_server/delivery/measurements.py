"""Measurements in the database. They are kept by Unix time: the monotonic clock of a process ends with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import and_, delete, func, select

from ..clock import Clock
from ..database import Database
from ..rows import marks
from .capacity import KEPT_S
from .tables import measurements


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one device, times monotonic: the largest rate that counts, and when a canary was there last."""

    device_id: str
    bps: int | None = None
    measured_at: float | None = None
    looked_at: float | None = None


class Measurements:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self) -> list[Measurement]:
        """Those that still count; the others go."""
        since = self._clock.now() - KEPT_S
        columns = measurements.c
        old = and_(func.coalesce(columns.measured_at, 0) < since, func.coalesce(columns.looked_at, 0) < since)
        async with self._database.write() as connection:
            await connection.execute(delete(measurements).where(old))
            found = (await connection.execute(select(measurements))).all()
        offset = self._clock.monotonic() - self._clock.now()

        def moment(at: int | None) -> float | None:
            return None if at is None else at + offset

        return [Measurement(row.device_id, row.bps, moment(row.measured_at), moment(row.looked_at)) for row in found]

    async def save(self, measured: Iterable[Measurement]) -> None:
        """In place of what was kept of the same devices."""
        offset = self._clock.now() - self._clock.monotonic()
        found = [
            (
                one.device_id,
                one.bps,
                None if one.measured_at is None else round(one.measured_at + offset),
                None if one.looked_at is None else round(one.looked_at + offset),
            )
            for one in measured
        ]
        if found:
            statement = (
                f"INSERT INTO measurements (device_id, bps, measured_at, looked_at) VALUES ({marks(4)}) "
                "ON CONFLICT (device_id) DO UPDATE SET bps = excluded.bps, measured_at = excluded.measured_at, "
                "looked_at = excluded.looked_at"
            )
            await self._database.transact(lambda rows: rows.many(statement, found))
