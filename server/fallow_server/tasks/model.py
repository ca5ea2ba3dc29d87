"""A task with its placements, and every change that the rules make to it. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fallow_wire.fields import encode
from fallow_wire.session import TaskStatus

from ..scheduling.needs import ANYTHING, Needs
from ..scheduling.views import Demand
from .states import (
    PLACEMENT_OPEN,
    TASK_OPEN,
    PlacementState,
    TaskEvent,
    TaskState,
    attempts_max,
    next_placement,
    next_task,
)

GONE = "device-gone"


@dataclass(slots=True)
class Placement:
    """One device's part. ``moved_at``: Unix seconds of its last sign of life; ``sends`` counts since ``placed``."""

    device_id: str
    state: PlacementState
    moved_at: int
    bytes_done: int = 0
    attempts: int = 1
    reason: str | None = None
    sends: int = 0
    stored: bool = False
    changed: bool = True

    @property
    def is_open(self) -> bool:
        return self.state in PLACEMENT_OPEN

    def move(self, status: str, now: int, reason: str | None = None) -> None:
        state = next_placement(self.state, status)
        if state is not self.state:
            self.state, self.reason, self.changed = state, reason, True
        self.moved_at = now

    def report(self, status: TaskStatus, now: int) -> None:
        """What the device said; only progress counts as a sign of life while it runs."""
        if not self.is_open:
            return
        still = status.status == "running" and self.state is PlacementState.RUNNING
        if still and status.bytes_done <= self.bytes_done:
            self.bytes_done = status.bytes_done  # less: it began again, and goes on from there
            return
        self.bytes_done = status.bytes_done
        self.move(status.status, now, status.reason)

    def again(self, now: int) -> None:
        """The same device is asked once more."""
        self.state, self.reason, self.moved_at = PlacementState.PLACED, None, now
        self.bytes_done, self.sends, self.changed = 0, 0, True
        self.attempts += 1


@dataclass(slots=True)
class NetworkTask:
    """``deadline``, ``created_at`` and ``updated_at`` in Unix seconds. ``object_id`` is empty where there is none."""

    task_id: str
    publisher: str
    kind: str
    object_id: str
    size_bytes: int
    replicas: int
    deadline: int
    created_at: int
    needs: Needs = ANYTHING
    parameters: Mapping[str, str] = field(default_factory=dict)
    state: TaskState = TaskState.PENDING
    reason: str | None = None
    updated_at: int = 0
    placements: dict[str, Placement] = field(default_factory=dict)
    changed: bool = True

    @property
    def is_open(self) -> bool:
        return self.state in TASK_OPEN

    def haste(self, now: int) -> float:
        """From 0 for a new task to 1 at its deadline."""
        return min(1.0, max(0.0, (now - self.created_at) / max(1, self.deadline - self.created_at)))

    def open_placements(self) -> list[Placement]:
        return [placement for placement in self.placements.values() if placement.is_open]

    def done_devices(self) -> set[str]:
        return {one.device_id for one in self.placements.values() if one.state is PlacementState.DONE}

    def apply(self, event: TaskEvent, now: int, reason: str | None = None) -> None:
        state = next_task(self.state, event)
        if state is not self.state or (reason is not None and reason != self.reason and self.is_open):
            self.state, self.reason, self.updated_at, self.changed = state, reason, now, True

    def explain(self, reason: str | None) -> None:
        """What is wrong with an open task now, if anything is."""
        if reason != self.reason:
            self.reason, self.changed = reason, True

    def place(self, device_id: str, now: int) -> Placement:
        placement = self.placements.get(device_id)
        if placement is None:
            placement = self.placements[device_id] = Placement(device_id, PlacementState.PLACED, now)
        else:
            placement.again(now)
        return placement

    def end(self, event: TaskEvent, now: int, reason: str | None = None) -> list[Placement]:
        """Close the task and what is open of it. :returns: placements whose devices are to be told."""
        closed = self.open_placements()
        for placement in closed:
            placement.move("cancelled", now, reason or event.value)
        self.apply(event, now, reason)
        return closed

    def demand(
        self, held_by: Iterable[str], coming: Iterable[str], owners: Iterable[str], now: int, retry_s: int
    ) -> Demand:
        """How many more devices are wanted, and which not.

        :param held_by: connected devices that hold the object. :param coming: those that fill it, for any task, or that
            are at this one.
        """
        have = self.done_devices() | set(held_by) | set(coming)
        spent = sum(placement.attempts for placement in self.placements.values())
        return Demand(
            task_id=self.task_id,
            object_id=self.object_id,
            size_bytes=self.size_bytes,
            replicas=max(0, min(self.replicas - len(have), attempts_max(self.replicas) - spent)),
            holders=frozenset(have),
            owners=frozenset(owners),
            excluded=frozenset(
                one.device_id
                for one in self.placements.values()
                if one.state is PlacementState.FAILED and now - one.moved_at < retry_s
            ),
            needs=self.needs,
            hours=max(1, -(-(self.deadline - now) // 3600)),
        )

    def settle(self, now: int, held_by: Iterable[str] = ()) -> list[Placement]:
        """Bring the state in line with the placements. :returns: placements that are no longer needed.

        :param held_by: connected devices that hold the object, whoever made them.
        """
        if len(self.done_devices() | set(held_by)) >= self.replicas:
            return self.end(TaskEvent.SATISFIED, now)
        spent = sum(placement.attempts for placement in self.placements.values())
        open_now = self.open_placements()
        if not open_now and spent >= attempts_max(self.replicas):
            last = max(self.placements.values(), key=lambda one: one.moved_at)
            return self.end(TaskEvent.GAVE_UP, now, f"after {spent} attempts; the last failed with {last.reason}")
        self.follow(open_now, now)
        return []

    def settle_drop(self, now: int) -> None:
        open_now = self.open_placements()
        if open_now:
            self.follow(open_now, now)
            return
        failed = [one for one in self.placements.values() if one.state is PlacementState.FAILED and one.reason != GONE]
        if failed:
            self.apply(TaskEvent.GAVE_UP, now, f"{failed[0].device_id}: {failed[0].reason}")
        else:
            self.apply(TaskEvent.SATISFIED, now)

    def settle_given(self, now: int) -> None:
        """Of a task that only the devices from the start do: it is done when one of them has, and no other is at it."""
        open_now = self.open_placements()
        if open_now:
            self.follow(open_now, now)
        elif self.done_devices() or not self.placements:
            self.apply(TaskEvent.SATISFIED, now)
        else:
            last = max(self.placements.values(), key=lambda one: one.moved_at)
            self.apply(TaskEvent.GAVE_UP, now, f"{last.device_id}: {last.reason}")

    def follow(self, open_now: list[Placement], now: int) -> None:
        """While it is open: the state that its placements give it."""
        if not open_now:
            self.apply(TaskEvent.UNPLACED, now)
        elif any(placement.state is PlacementState.RUNNING for placement in open_now):
            self.apply(TaskEvent.STARTED, now)
        else:
            self.apply(TaskEvent.PLACED, now)

    def described(self) -> dict[str, Any]:
        """As ``GET /v1/tasks/{id}`` tells it."""
        found: dict[str, Any] = {
            "id": self.task_id,
            "kind": self.kind,
            **({"object": self.object_id} if self.object_id else {}),
            "state": self.state.value,
            "replicas": self.replicas,
            "deadline": self.deadline,
            "created_at": self.created_at,
            "needs": encode(self.needs),
            **({"parameters": dict(self.parameters)} if self.parameters else {}),
            "placements": [
                {
                    "device": one.device_id,
                    "state": "placed" if one.state is PlacementState.ACCEPTED else one.state.value,
                    "bytes_done": one.bytes_done,
                    **({"reason": one.reason} if one.reason else {}),
                }
                for one in self.placements.values()
            ],
        }
        if self.reason:
            found["reason"] = self.reason
        return found
