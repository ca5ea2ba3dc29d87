"""States of a task and of its placements, as tables. Pure."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    PENDING = "pending"
    PLACED = "placed"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class TaskEvent(StrEnum):
    """``UNPLACED``: no placement is left under way, and more are wanted. ``SATISFIED``: enough are done."""

    PLACED = "placed"
    STARTED = "started"
    UNPLACED = "unplaced"
    SATISFIED = "satisfied"
    GAVE_UP = "gave-up"
    DEADLINE = "deadline"
    CANCEL = "cancel"


class PlacementState(StrEnum):
    """``PLACED``: sent, or to be sent when the device is back. ``ACCEPTED``: waits its turn on the device."""

    PLACED = "placed"
    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_P, _T, _E = PlacementState, TaskState, TaskEvent
_ENDS = {
    _E.SATISFIED: _T.DONE,
    _E.GAVE_UP: _T.FAILED,
    _E.DEADLINE: _T.EXPIRED,
    _E.CANCEL: _T.CANCELLED,
}

TASK_TABLE: dict[tuple[TaskState, TaskEvent], TaskState] = {
    (_T.PENDING, _E.PLACED): _T.PLACED,
    (_T.PENDING, _E.STARTED): _T.RUNNING,
    (_T.PENDING, _E.UNPLACED): _T.PENDING,
    (_T.PLACED, _E.PLACED): _T.PLACED,
    (_T.PLACED, _E.STARTED): _T.RUNNING,
    (_T.PLACED, _E.UNPLACED): _T.PENDING,
    (_T.RUNNING, _E.PLACED): _T.RUNNING,
    (_T.RUNNING, _E.STARTED): _T.RUNNING,
    (_T.RUNNING, _E.UNPLACED): _T.PENDING,
    **{(state, event): end for state in (_T.PENDING, _T.PLACED, _T.RUNNING) for event, end in _ENDS.items()},
}
"""Any other pair changes nothing: an end is final, whatever arrives late."""

PLACEMENT_TABLE: dict[tuple[PlacementState, str], PlacementState] = {
    (_P.PLACED, "accepted"): _P.ACCEPTED,
    (_P.PLACED, "running"): _P.RUNNING,
    (_P.PLACED, "done"): _P.DONE,
    (_P.PLACED, "failed"): _P.FAILED,
    (_P.ACCEPTED, "accepted"): _P.ACCEPTED,
    (_P.ACCEPTED, "running"): _P.RUNNING,
    (_P.ACCEPTED, "done"): _P.DONE,
    (_P.ACCEPTED, "failed"): _P.FAILED,
    (_P.RUNNING, "accepted"): _P.ACCEPTED,
    (_P.RUNNING, "running"): _P.RUNNING,
    (_P.RUNNING, "done"): _P.DONE,
    (_P.RUNNING, "failed"): _P.FAILED,
    **{(state, "cancelled"): _P.CANCELLED for state in (_P.PLACED, _P.ACCEPTED, _P.RUNNING)},
}
"""By the status that a device reports, or ``cancelled`` by us. A device that restarted goes from running back to
accepted. Any other pair changes nothing."""

TASK_OPEN = frozenset({_T.PENDING, _T.PLACED, _T.RUNNING})
PLACEMENT_OPEN = frozenset({_P.PLACED, _P.ACCEPTED, _P.RUNNING})


def next_task(state: TaskState, event: TaskEvent) -> TaskState:
    return TASK_TABLE.get((state, event), state)


def next_placement(state: PlacementState, status: str) -> PlacementState:
    return PLACEMENT_TABLE.get((state, status), state)


def attempts_max(replicas: int) -> int:
    """Placements of one task over its life: the replicas, and for each of them three more elsewhere."""
    return 4 * replicas
