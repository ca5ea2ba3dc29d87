"""Kinds of tasks: what each does differently. Nothing else of this package asks of which kind a task is."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fallow_wire.fields import hexadecimal, integer, mapping, one_of, record, text, word
from fallow_wire.session import TASK_KINDS, Task

from ..fleet.live import LiveDevice
from ..scheduling.needs import ANYTHING, Needs
from ..scheduling.views import Demand
from .model import NetworkTask, Placement


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """``POST /v1/tasks``. ``deadline`` in Unix seconds; ``needs`` narrow what the kind wants anyway; ``parameters`` are
    the kind's own."""

    kind: Annotated[str, one_of(*TASK_KINDS)]
    object: Annotated[str | None, hexadecimal(64)] = None
    replicas: Annotated[int | None, integer(1)] = None
    deadline: Annotated[int | None, integer()] = None
    needs: Annotated[Needs, record(Needs)] = ANYTHING
    parameters: Annotated[dict[str, str], mapping(word(), text(2048), 32)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was checked and completed. ``replicas``: devices wanted. ``object_id`` is empty where the task is
    about none. ``lifetime_s``: until the deadline, where the publisher names none. ``devices``: on which it is placed
    from the start, besides those that its kind names. ``decision``: why these, as ``GET /v1/tasks/{id}/why`` tells.
    """

    replicas: int
    object_id: str = ""
    size_bytes: int = 0
    needs: Needs = ANYTHING
    parameters: Mapping[str, str] = field(default_factory=dict)
    lifetime_s: int | None = None
    devices: Set[str] = frozenset()
    decision: Mapping[str, Any] | None = None


class Kind(Protocol):
    """One kind of task. What it is asked must be quick, but for :meth:`order` and :meth:`message`.

    ``done_when_held``: a device has done its part once it holds the object (true), or holds it no more (false); None
    where content tells nothing.
    """

    done_when_held: bool | None

    async def order(self, asked: TaskRequest, publisher: str) -> Order:
        """What the publisher asks for. It becomes a task when this returns, so all that is to be remembered beyond the
        task is.

        :raises ApiProblem: saying what is wrong with it, and what to do.
        """

    async def cancelled(self, task: NetworkTask) -> None:
        """Its publisher does not want it any more."""

    def devices(self, task: NetworkTask) -> Set[str]:
        """Those that it is placed on from the start, whatever they are doing."""

    def demand(self, task: NetworkTask, coming: Set[str], now: int) -> Demand | None:
        """Which further devices are wanted; None where only those from the start are.

        :param coming: devices that are about to hold the task's object, for any task.
        """

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        """Bring the task's state in line with its placements. :returns: placements that are no longer needed."""

    async def message(self, device: LiveDevice, task: NetworkTask) -> Task | None:
        """What the device is sent; None when there is nothing to send any more."""
