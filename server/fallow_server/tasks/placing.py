"""Finds devices for tasks that want some, a bounded part of both at a time, and remembers why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from ..clock import Clock
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..scheduling.assignment import assign
from ..scheduling.explanation import Sifted, sift
from ..scheduling.matching import Want, match, narrowed, work_score
from ..scheduling.scores import copy_score
from ..scheduling.views import Demand, DeviceView
from .config import Config
from .copies import MAKES_COPIES
from .kinds import Kind
from .model import NetworkTask
from .rates import Rates

OVER_PRICE = "over-price"
UNLIMITED = 10**6


class Placer:
    """:param price: of a service now, µp per GiB; None when nobody knows.
    :param homes: how many tasks of a kind one home is given; a kind that is not listed is not held back."""

    def __init__(
        self,
        config: Config,
        devices: Devices,
        kinds: Mapping[str, Kind],
        homes: Mapping[str, Rates],
        clock: Clock,
        price: Callable[[str], Awaitable[int | None]],
    ) -> None:
        self._config = config
        self._devices = devices
        self._kinds = kinds
        self._homes = homes
        self._clock = clock
        self._price = price
        self._turn = 0
        self._sampled = 0
        self.decisions: list[tuple[str, dict[str, Any]]] = []
        """By task, since they were last saved."""

    async def place(self, tasks: Iterable[NetworkTask], now: int) -> tuple[int, bool]:
        """Place a bounded number of tasks, each on the best of a bounded number of devices; the rest have their turn
        the next time, which starts where this one ended.

        :returns: how many still wait, and whether some had no turn.
        """
        tasks = [task for task in tasks if task.is_open]
        coming = coming_by_object(tasks)
        waiting = [task for task in tasks if (demand := self.demand(task, coming, now)) is not None and demand.replicas]
        self._turn = self._turn % len(waiting) if waiting else 0
        turn = (waiting[self._turn :] + waiting[: self._turn])[: self._config.round_tasks_max]
        self._turn += len(turn)
        left = len(waiting)
        works: dict[str, list[tuple[NetworkTask, Want, Sifted]]] = {}
        for task in turn:
            demand = self.demand(task, coming, now)
            if demand is None or await self._too_dear(task):
                continue
            views = self._views()
            if task.object_id:
                left -= self._copy(task, demand, views, coming, now) >= demand.replicas
            else:
                sifted = self._sifted(task, demand, views)
                works.setdefault(task.kind, []).append((task, narrowed(sifted, task.haste(now)), sifted))
            await asyncio.sleep(0)
        for kind, wanted in works.items():
            left -= await self._work(kind, wanted, now)
        return left, len(waiting) > len(turn)

    def demand(self, task: NetworkTask, coming: Mapping[str, set[str]], now: int) -> Demand | None:
        return self._kinds[task.kind].demand(task, coming.get(task.object_id, set()), now)

    async def sifted(self, task: NetworkTask, coming: Mapping[str, set[str]], now: int) -> Sifted | None:
        """How it would be decided now; None where no more devices are wanted."""
        demand = self.demand(task, coming, now)
        if demand is None or not demand.replicas:
            return None
        views = self._views()
        if await self._too_dear(task):
            return Sifted(demand, {OVER_PRICE: tuple(view.device_id for view in views)}, ())
        return self._sifted(task, demand, views)

    def _sifted(self, task: NetworkTask, demand: Demand, views: list[DeviceView]) -> Sifted:
        if task.object_id:
            return sift(demand, views, self._config.filters, copy_score)
        return sift(demand, views, self._config.filters, work_score, self._room(task.kind))

    def _copy(
        self, task: NetworkTask, demand: Demand, views: list[DeviceView], coming: dict[str, set[str]], now: int
    ) -> int:
        """:returns: how many copies are begun."""
        found = assign([demand], views, self._config.filters)
        if found:
            chosen = {assignment.device_id for assignment in found}
            self.decisions.append((task.task_id, self._sifted(task, demand, views).told(now, chosen)))
        committed = self._devices.committed
        for assignment in found:
            task.place(assignment.device_id, now)
            coming.setdefault(task.object_id, set()).add(assignment.device_id)
            committed[assignment.device_id] = committed.get(assignment.device_id, 0) + task.size_bytes
        return len(found)

    async def _work(self, kind: str, wanted: list[tuple[NetworkTask, Want, Sifted]], now: int) -> int:
        """:returns: how many tasks wait for nobody any more."""
        room, rate = self._room(kind), self._homes.get(kind)
        # Where tasks compete it takes a library's while.
        found = await asyncio.to_thread(match, [want for _, want, _ in wanted], room)
        satisfied = 0
        for task, want, sifted in wanted:
            chosen = {one.device_id for one in found if one.task_id == task.task_id}
            for one in want.choices:
                if one.device.device_id in chosen:
                    task.place(one.device.device_id, now)
                    if rate is not None:
                        rate.take(one.device.owner, self._clock.monotonic())
            if chosen:
                self.decisions.append((task.task_id, sifted.told(now, chosen)))
            satisfied += len(chosen) >= want.demand.replicas
        return satisfied

    def _room(self, kind: str) -> Callable[[str], int]:
        rate = self._homes.get(kind)
        if rate is None:
            return lambda owner: UNLIMITED
        at = self._clock.monotonic()
        return lambda owner: rate.left(owner, at)

    async def _too_dear(self, task: NetworkTask) -> bool:
        """A task with a price cap waits while the tariff is above it, or is not known."""
        if task.needs.price_max is None:
            return False
        price = await self._price(task.needs.service)
        return price is None or price > task.needs.price_max

    def _views(self) -> list[DeviceView]:
        devices = self._sample(list(self._devices.fleet.devices()))
        return [view for device in devices if (view := self._devices.view(device)) is not None]

    def _sample(self, devices: list[LiveDevice]) -> list[LiveDevice]:
        """All devices of a small fleet; of a large one a part, another one each time."""
        size = self._config.candidates_max
        if len(devices) <= size:
            return devices
        start = self._sampled % len(devices)
        self._sampled = start + size
        return (devices + devices[:size])[start : start + size]

    def count_committed(self, tasks: Iterable[NetworkTask]) -> None:
        committed: dict[str, int] = {}
        for task in tasks:
            if task.kind in MAKES_COPIES:
                for placement in task.open_placements():
                    committed[placement.device_id] = committed.get(placement.device_id, 0) + task.size_bytes
        self._devices.committed = committed


def coming_by_object(tasks: Iterable[NetworkTask]) -> dict[str, set[str]]:
    """Devices that fill an object, for any task, by object."""
    coming: dict[str, set[str]] = {}
    for task in tasks:
        if task.kind in MAKES_COPIES:
            for placement in task.open_placements():
                coming.setdefault(task.object_id, set()).add(placement.device_id)
    return coming
