"""Tasks in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from fallow_wire.fields import decode, encode
from fallow_wire.strict import dumps, loads_object
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..catalogue.tables import blobs
from ..database import Database
from ..scheduling.needs import Needs
from ..scheduling.views import COPY
from . import tables
from .model import NetworkTask, Placement
from .states import TASK_OPEN, PlacementState, TaskState

QUERY_IDS_MAX = 500
JSON_CHARS_MAX = 128 * 1024
"""Of one column: twice the largest body of a call that may become one."""


class TaskStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_tasks(self) -> list[NetworkTask]:
        """Every task that is not at an end, oldest first."""
        return await self._load(tables.tasks.c.state.in_([state.value for state in TASK_OPEN]))

    async def find(self, task_id: str, publisher: str | None) -> NetworkTask | None:
        """:param publisher: whose it must be; None for anybody's."""
        own = () if publisher is None else (tables.tasks.c.publisher == publisher,)
        found = await self._load(tables.tasks.c.task_id == task_id, *own)
        return found[0] if found else None

    async def listed(
        self, publisher: str | None, after: str, limit: int, *, newest: bool = False, states: Sequence[TaskState] = ()
    ) -> list[NetworkTask]:
        """Tasks oldest or ``newest`` first (ids are time-ordered), those after ``after``, in whichever direction.

        :param publisher: whose; None for all. :param states: only those; empty: all.
        """
        wanted = [] if publisher is None else [tables.tasks.c.publisher == publisher]
        if after:
            wanted.append(tables.tasks.c.task_id < after if newest else tables.tasks.c.task_id > after)
        if states:
            wanted.append(tables.tasks.c.state.in_([state.value for state in states]))
        return await self._load(*wanted, limit=limit, newest=newest)

    async def _load(self, *conditions: Any, limit: int | None = None, newest: bool = False) -> list[NetworkTask]:
        query = (
            select(tables.tasks, blobs.c.size)
            .join(blobs, blobs.c.object_id == tables.tasks.c.object_id, isouter=True)
            .where(*conditions)
            .order_by(tables.tasks.c.task_id.desc() if newest else tables.tasks.c.task_id)
            .limit(limit)
        )
        found: dict[str, NetworkTask] = {}
        async with self._database.read() as connection:
            for row in (await connection.execute(query)).mappings():
                found[row["task_id"]] = NetworkTask(
                    task_id=row["task_id"],
                    publisher=row["publisher"],
                    kind=row["kind"],
                    object_id=row["object_id"],
                    size_bytes=row["size"] or 0,
                    replicas=row["replicas"],
                    deadline=row["deadline"],
                    created_at=row["created_at"],
                    needs=_needs(row["needs"]),
                    parameters={} if row["parameters"] is None else loads_object(row["parameters"], JSON_CHARS_MAX),
                    state=TaskState(row["state"]),
                    reason=row["reason"],
                    updated_at=row["updated_at"],
                    changed=False,
                )
            ids = list(found)
            for start in range(0, len(ids), QUERY_IDS_MAX):
                part = ids[start : start + QUERY_IDS_MAX]
                placed = select(tables.placements).where(tables.placements.c.task_id.in_(part))
                for row in (await connection.execute(placed)).mappings():
                    found[row["task_id"]].placements[row["device_id"]] = Placement(
                        device_id=row["device_id"],
                        state=PlacementState(row["state"]),
                        moved_at=row["updated_at"],
                        bytes_done=row["bytes_done"],
                        attempts=row["attempts"],
                        reason=row["reason"],
                        stored=True,
                        changed=False,
                    )
        return list(found.values())

    async def add(self, tasks: Sequence[NetworkTask]) -> None:
        """New tasks, in one transaction."""
        rows = [
            {
                "task_id": task.task_id,
                "publisher": task.publisher,
                "kind": task.kind,
                "object_id": task.object_id,
                "replicas": task.replicas,
                "deadline": task.deadline,
                "state": task.state.value,
                "reason": task.reason,
                "created_at": task.created_at,
                "updated_at": task.created_at,
                "needs": _json(task.needs),
                "parameters": _json(dict(task.parameters)) if task.parameters else None,
            }
            for task in tasks
        ]
        async with self._database.write() as connection:
            await connection.execute(insert(tables.tasks), rows)
        for task in tasks:
            task.changed = False

    async def save(
        self, tasks: Iterable[NetworkTask], more: Callable[[AsyncConnection], Awaitable[None]] | None = None
    ) -> None:
        """Write what changed, in one transaction. Progress alone is not a change: it is lost with a restart.

        :param more: writes what belongs to it; called only when something changed.
        """
        changed = [task for task in tasks if task.changed or any(one.changed for one in task.placements.values())]
        if not changed:
            return
        async with self._database.write() as connection:
            for task in changed:
                await connection.execute(
                    update(tables.tasks)
                    .where(tables.tasks.c.task_id == task.task_id)
                    .values(state=task.state.value, reason=task.reason, updated_at=task.updated_at)
                )
                for placement in task.placements.values():
                    if placement.changed:
                        await connection.execute(_written(task.task_id, placement))
            if more is not None:
                await more(connection)
        for task in changed:
            task.changed = False
            for placement in task.placements.values():
                placement.stored, placement.changed = True, False

    async def purge(self, before: int, limit: int) -> None:
        """Forget tasks that ended before ``before``."""
        ended = [state.value for state in TaskState if state not in TASK_OPEN]
        old = (
            select(tables.tasks.c.task_id)
            .where(tables.tasks.c.state.in_(ended), tables.tasks.c.updated_at < before)
            .limit(limit)
        )
        async with self._database.write() as connection:
            ids: Sequence[str] = (await connection.execute(old)).scalars().all()
            if ids:
                await connection.execute(delete(tables.tasks).where(tables.tasks.c.task_id.in_(ids)))


def _written(task_id: str, placement: Placement) -> Any:
    values = {
        "state": placement.state.value,
        "bytes_done": placement.bytes_done,
        "attempts": placement.attempts,
        "reason": placement.reason,
        "updated_at": placement.moved_at,
    }
    if not placement.stored:
        return insert(tables.placements).values(task_id=task_id, device_id=placement.device_id, **values)
    key = (tables.placements.c.task_id == task_id, tables.placements.c.device_id == placement.device_id)
    return update(tables.placements).where(*key).values(**values)


def _json(value: Any) -> str:
    return dumps(encode(value)).decode("utf-8")


def _needs(text: str | None) -> Needs:
    # Not strictly: a newer version, gone back from, may have known more.
    return COPY if text is None else decode(Needs, loads_object(text, JSON_CHARS_MAX), strict=False)
