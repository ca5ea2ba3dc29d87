"""Tasks about objects: ``fill`` makes copies on devices, ``drop`` takes them away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set

from fallow_wire.session import Task

from ..catalogue.objects import Catalogue
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..http import refusal
from ..scheduling.needs import Needs
from ..scheduling.views import COPY, Demand
from .config import Config
from .kinds import Order, TaskRequest
from .model import NetworkTask, Placement
from .sources import Sources

FILL, DROP = "fill", "drop"
SPREAD, SHED = "spread", "shed"
"""The same without a publisher's asking: copies where demand is, and none where there is none any more. Placement has
chosen the devices, and chooses others some minutes later, so these are not tried elsewhere."""
MAKES_COPIES = frozenset({FILL, SPREAD})


def copies(object_id: str, size_bytes: int, replicas: int, needs: Needs = COPY) -> Order:
    """So many devices shall hold the object."""
    return Order(replicas, object_id, size_bytes, needs.beside(COPY))


class Fills:
    """Copies of an object."""

    done_when_held: bool | None = True

    def __init__(self, config: Config, catalogue: Catalogue, devices: Devices, sources: Sources) -> None:
        self._config = config
        self._catalogue = catalogue
        self._devices = devices
        self._sources = sources

    async def order(self, asked: TaskRequest, publisher: str) -> Order:
        object_id, size_bytes = await _own_object(self._catalogue, asked, publisher)
        replicas = self._catalogue.config.replicas if asked.replicas is None else asked.replicas
        if not 1 <= replicas <= self._catalogue.config.replicas_max:
            raise refusal(400, "malformed", "replicas is a number", f"from 1 to {self._catalogue.config.replicas_max}")
        if size_bytes == 0:
            raise refusal(400, "empty-object", "An empty object needs no copies")
        # Copies that are lost later are made again.
        await self._catalogue.want(object_id, publisher, replicas)
        return copies(object_id, size_bytes, replicas, asked.needs)

    async def cancelled(self, task: NetworkTask) -> None:
        # Else the copies that it was to make would be found missing.
        held = len(self._devices.holder_ids(task.object_id))
        await self._catalogue.want(task.object_id, task.publisher, min(held, task.replicas))

    def devices(self, task: NetworkTask) -> Set[str]:
        return frozenset()

    def demand(self, task: NetworkTask, coming: Set[str], now: int) -> Demand | None:
        holders = self._devices.holder_ids(task.object_id)
        owners = self._devices.owners(holders | coming | task.done_devices())
        return task.demand(holders, coming, owners, now, self._config.retry_s)

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        return task.settle(now, self._devices.holder_ids(task.object_id))

    async def message(self, device: LiveDevice, task: NetworkTask) -> Task | None:
        held = await self._catalogue.find(task.object_id)
        manifest = await self._catalogue.manifest(task.object_id)
        if held is None or manifest is None:
            return None
        name = held.names[0][1]
        sources = await self._sources.of(device, task.object_id, name, task.publisher, task.size_bytes)
        return Task(task.task_id, FILL, task.object_id, manifest, sources, task.deadline)


class Drops:
    """No copies of an object any more. :param stop_filling: cancels what a publisher has under way for an object."""

    done_when_held: bool | None = False

    def __init__(
        self, catalogue: Catalogue, devices: Devices, stop_filling: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self._catalogue = catalogue
        self._devices = devices
        self._stop_filling = stop_filling

    async def order(self, asked: TaskRequest, publisher: str) -> Order:
        object_id, size_bytes = await _own_object(self._catalogue, asked, publisher)
        # Dropped copies are not to be found missing.
        await self._catalogue.want(object_id, publisher, 0)
        await self._stop_filling(object_id, publisher)
        return Order(0, object_id, size_bytes)

    async def cancelled(self, task: NetworkTask) -> None:
        return

    def devices(self, task: NetworkTask) -> Set[str]:
        return self._devices.holder_ids(task.object_id)

    def demand(self, task: NetworkTask, coming: Set[str], now: int) -> None:
        return None

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        task.settle_drop(now)
        return []

    async def message(self, device: LiveDevice, task: NetworkTask) -> Task:
        return Task(task.task_id, DROP, task.object_id, deadline=task.deadline)


class Spreads(Fills):
    """Copies for which there is demand."""

    async def cancelled(self, task: NetworkTask) -> None:
        return  # what the publisher wants in any case is as it was

    def demand(self, task: NetworkTask, coming: Set[str], now: int) -> None:
        return None

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        task.settle_given(now)
        return []


class Sheds(Drops):
    """Copies for which there is no demand any more."""

    def devices(self, task: NetworkTask) -> Set[str]:
        return frozenset()

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        task.settle_given(now)
        return []


async def _own_object(catalogue: Catalogue, asked: TaskRequest, publisher: str) -> tuple[str, int]:
    """Id and size. :raises ApiProblem: it is not theirs, or is not named."""
    if asked.object is None:
        raise refusal(400, "malformed", f"A {asked.kind} task names its object", remedy='Give "object": its id.')
    if asked.parameters:
        raise refusal(400, "malformed", f"A {asked.kind} task has no parameters", remedy="Leave parameters out.")
    own = await catalogue.own(asked.object, publisher)
    if own is None:
        raise refusal(404, "not-found", "You have no such object", remedy="Publish it first.")
    return asked.object, own.size
