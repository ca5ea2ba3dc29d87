"""What became of tasks, in the database: why devices were chosen, and what they measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fallow_wire.fields import encode
from fallow_wire.probes import ProbeResult
from fallow_wire.strict import dumps, loads_object
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..database import Database
from ..scheduling.places import Place
from .tables import decisions, results

DECISIONS_MAX = 5
"""Kept of one task, of some 4 KB each: most tasks have one, and of one that went on failing the last tell."""
JSON_CHARS_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Result:
    """``place``: of the device's line, as it was known then."""

    task_id: str
    device_id: str
    place: Place
    result: ProbeResult


class Outcomes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(
        self, connection: AsyncConnection, decided: Iterable[tuple[str, dict[str, Any]]], measured: Iterable[Result]
    ) -> None:
        """Add within the transaction of ``connection``. A device's later result of a task takes the place of its
        earlier one, and only the newest decisions of a task stay."""
        for task_id, decision in decided:
            await connection.execute(insert(decisions).values(task_id=task_id, told=_text(decision)))
            newest = (
                select(decisions.c.number)
                .where(decisions.c.task_id == task_id)
                .order_by(decisions.c.number.desc())
                .limit(DECISIONS_MAX)
            )
            numbers: Sequence[int] = (await connection.execute(newest)).scalars().all()
            of_task = decisions.c.task_id == task_id
            await connection.execute(delete(decisions).where(of_task, decisions.c.number < min(numbers)))
        for one in measured:
            key = (results.c.task_id == one.task_id, results.c.device_id == one.device_id)
            await connection.execute(delete(results).where(*key))
            await connection.execute(
                insert(results).values(
                    task_id=one.task_id,
                    device_id=one.device_id,
                    measured_at=one.result.measured_at,
                    country=one.place.country,
                    asn=one.place.asn,
                    told=_text(encode(one.result)),
                )
            )

    async def decisions_of(self, task_id: str) -> list[dict[str, Any]]:
        """Newest first."""
        query = select(decisions.c.told).where(decisions.c.task_id == task_id).order_by(decisions.c.number.desc())
        async with self._database.read() as connection:
            return [loads_object(told, JSON_CHARS_MAX) for told in (await connection.execute(query)).scalars()]

    async def results_of(self, task_id: str, after: str, limit: int) -> list[dict[str, Any]]:
        """By device, those after ``after``."""
        query = (
            select(results)
            .where(results.c.task_id == task_id, results.c.device_id > after)
            .order_by(results.c.device_id)
            .limit(limit)
        )
        found = []
        async with self._database.read() as connection:
            for row in (await connection.execute(query)).mappings():
                place = {name: row[name] for name in ("country", "asn") if row[name] is not None}
                found.append({"device": row["device_id"], **place, **loads_object(row["told"], JSON_CHARS_MAX)})
        return found

    async def purge(self, before: int, limit: int) -> None:
        """Forget results that were measured before ``before``."""
        old = select(results.c.task_id, results.c.device_id).where(results.c.measured_at < before).limit(limit)
        async with self._database.write() as connection:
            for task_id, device_id in (await connection.execute(old)).all():
                key = (results.c.task_id == task_id, results.c.device_id == device_id)
                await connection.execute(delete(results).where(*key))


def _text(value: Any) -> str:
    return dumps(value).decode("utf-8")
