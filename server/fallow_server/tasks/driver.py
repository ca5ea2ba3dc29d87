"""Keeps tasks, places them on devices and listens to the fleet.

Events only note what happened and wake the one worker; it applies them in rounds, saves, and then sends. So a state is
in the database before a device hears of it, and whatever a crash loses is sent again when the device comes back.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

from fallow_wire.ids import uuid7
from fallow_wire.session import Task, TaskStatus

from ..catalogue.objects import Catalogue
from ..clock import Clock
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..scheduling.assignment import assign
from ..scheduling.filters import explain
from ..scheduling.views import Demand
from .config import Config
from .copies import DROP, copies
from .kinds import Kind, Order
from .messages import Message, Messenger, cancelling
from .model import GONE, NetworkTask
from .sources import FILL
from .states import PlacementState, TaskEvent, TaskState
from .store import TaskStore

PURGED_MAX = 1000
"""Ended tasks that one round forgets."""
FAILURE_PAUSE_S = 5
"""After a round that failed (the database was away, the disk full)."""

_log = logging.getLogger(__name__)


class TaskDriver:
    """Observer of the fleet and of the catalogue."""

    def __init__(
        self,
        config: Config,
        store: TaskStore,
        catalogue: Catalogue,
        devices: Devices,
        kinds: Mapping[str, Kind],
        clock: Clock,
        price: Callable[[str], Awaitable[int | None]],
    ) -> None:
        """:param price: of a service now, µp per GiB; None when nobody knows."""
        self._config = config
        self._store = store
        self._catalogue = catalogue
        self._devices = devices
        self._kinds = kinds
        self._messenger = Messenger(config.sending_max, devices.fleet, kinds)
        self._clock = clock
        self._price = price
        self._open: dict[str, NetworkTask] = {}
        self._rounds = asyncio.Lock()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        # What happened since the last round.
        self._statuses: dict[tuple[str, str], TaskStatus] = {}
        self._arrived: set[str] = set()
        self._content: set[str] = set()
        # What is known of devices: their objects as last seen, and since when (monotonic) they are away.
        self._seen: dict[str, frozenset[str]] = {}
        self._away: dict[str, tuple[float, frozenset[str]]] = {}
        self._waiting = False
        self._turn = 0
        self._sampled = 0
        self._started_at = 0.0
        self._repair_at = 0.0
        self._rested: dict[str, float] = {}

    async def start(self) -> None:
        self._started_at = self._clock.monotonic()
        # Devices need time to come back before copies are counted.
        self._repair_at = self._started_at + self._config.gone_s_max
        for task in await self._store.open_tasks():
            self._open[task.task_id] = task
        devices = {one.device_id for task in self._open.values() for one in task.open_placements()}
        for device_id in devices:
            if self._devices.fleet.get(device_id) is None:
                self._away[device_id] = (self._started_at, frozenset())
        self._devices.fleet.observers.append(self)
        self._catalogue.observers.append(self)
        self._worker = asyncio.create_task(self._run(), name="network tasks")
        self._wake.set()

    async def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    # -------------------------------------------------------------- publishers

    def task(self, task_id: str) -> NetworkTask | None:
        """An open task."""
        return self._open.get(task_id)

    def open_fills(self, object_id: str, publisher: str) -> list[NetworkTask]:
        return [
            task
            for task in self._open.values()
            if (task.kind, task.object_id, task.publisher) == (FILL, object_id, publisher)
        ]

    def open_count(self, publisher: str) -> int:
        return sum(task.publisher == publisher for task in self._open.values())

    async def create(self, kind: str, publisher: str, order: Order, deadline: int | None = None) -> NetworkTask:
        """A new task; it is in the database when this returns and is placed in the next round."""
        now = self._clock.now()
        task = NetworkTask(
            task_id=uuid7(self._clock.now_ms(), os.urandom(10)),
            publisher=publisher,
            kind=kind,
            object_id=order.object_id,
            size_bytes=order.size_bytes,
            replicas=order.replicas,
            deadline=now + (order.lifetime_s or self._config.lifetime_s) if deadline is None else deadline,
            created_at=now,
            needs=order.needs,
            parameters=order.parameters,
            updated_at=now,
        )
        async with self._lock:
            await self._store.add(task)
            self._open[task.task_id] = task
            for device_id in sorted(self._kinds[kind].devices(task)):
                task.place(device_id, now)
        self._wake.set()
        return task

    async def cancel(self, task: NetworkTask) -> None:
        """End an open task; devices that are at it are told."""
        async with self._lock:
            if not task.is_open:
                return
            closed = task.end(TaskEvent.CANCEL, self._clock.now())
            await self._finish([task])
        await self._messenger.send_all([cancelling(task, placement) for placement in closed])

    def waiting_for(self, task: NetworkTask) -> dict[str, int]:
        """How many devices each reason keeps from a task that waits."""
        demand = self._demand(task, self._coming(), self._clock.now())
        devices = self._sample(list(self._devices.fleet.devices()))
        views = [view for device in devices if (view := self._devices.view(device)) is not None]
        return explain(views, demand, self._config.filters) if demand is not None and demand.replicas else {}

    # -------------------------------------------------------------- events

    async def published(self, object_id: str, publisher: str, size_bytes: int, replicas: int) -> None:
        had = any(
            task.kind == FILL and task.object_id == object_id and task.replicas >= replicas
            for task in self._open.values()
        )
        enough = len(self._devices.holder_ids(object_id)) >= replicas
        if replicas and size_bytes and not had and not enough:
            await self.create(FILL, publisher, copies(object_id, size_bytes, replicas))

    async def removed(self, object_id: str, publisher: str) -> None:
        for task in [one for one in self._open.values() if one.object_id == object_id and one.kind == FILL]:
            await self.cancel(task)
        if self._devices.holder_ids(object_id):
            await self.create(DROP, publisher, Order(0, object_id))

    async def connected(self, device_id: str) -> None:
        self._away.pop(device_id, None)
        self._arrived.add(device_id)
        self._wake.set()

    async def lost(self, device_id: str) -> None:
        self._away[device_id] = (self._clock.monotonic(), self._seen.pop(device_id, frozenset()))
        self._arrived.discard(device_id)
        self._content.discard(device_id)

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        task = self._open.get(status.id)
        # Only what was asked is listened to, so that nothing a device makes up takes memory.
        if task is not None and device_id in task.placements:
            self._statuses[(status.id, device_id)] = status
            self._wake.set()

    async def content_changed(self, device_id: str) -> None:
        self._content.add(device_id)
        self._wake.set()

    async def reported(self, device_id: str) -> None:
        if self._waiting:
            self._wake.set()

    # -------------------------------------------------------------- rounds

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._config.tick_s if self._open else self._config.repair_s):
                    await self._wake.wait()
            except TimeoutError:
                pass  # time itself may have changed something
            self._wake.clear()
            try:
                await self.round()
            except Exception:  # noqa: BLE001  # the outermost loop of network tasks
                _log.exception("a round of network tasks failed; it is tried again in %s s", FAILURE_PAUSE_S)
                await asyncio.sleep(FAILURE_PAUSE_S)
                self._wake.set()
            await asyncio.sleep(self._config.gap_s)

    async def round(self) -> None:
        """Apply what happened, place what is wanted, save, send. One round at a time, sending included."""
        async with self._rounds:
            if self._clock.monotonic() >= self._repair_at:
                self._repair_at = self._clock.monotonic() + self._config.repair_s
                await self._repair()
            async with self._lock:
                now = self._clock.now()
                self._apply_statuses(now)
                messages = await self._apply_content(now)
                messages += self._apply_time(now)
                messages += self._settle(now)
                self._count_committed()
                await self._place(now)
                # Placing changes states too: pending is placed.
                messages += self._settle(now)
                messages += self._unsent()
                await self._finish(list(self._open.values()))
                self._count_committed()
            await self._messenger.send_all(messages)

    def _apply_statuses(self, now: int) -> None:
        statuses, self._statuses = self._statuses, {}
        for (task_id, device_id), status in statuses.items():
            task = self._open.get(task_id)
            if task is not None:
                task.placements[device_id].report(status, now)
        arrived, self._arrived = self._arrived, set()
        for task in self._open.values():
            for placement in task.open_placements():
                if placement.device_id in arrived:
                    # Nobody knows what reached it over its old session.
                    placement.sends = 0

    def _unsent(self) -> list[Message]:
        return [
            Message(placement.device_id, task, placement)
            for task in self._open.values()
            for placement in task.open_placements()
            if placement.sends == 0 and self._devices.fleet.get(placement.device_id) is not None
        ]

    async def _apply_content(self, now: int) -> list[Message]:
        changed, self._content = self._content, set()
        messages: list[Message] = []
        for device_id in changed:
            device = self._devices.fleet.get(device_id)
            if device is None:
                continue
            held = frozenset(device.content)
            dropping = set()
            for task in self._open.values():
                placement = task.placements.get(device_id)
                if placement is None or not placement.is_open:
                    continue
                done_when_held = self._kinds[task.kind].done_when_held
                if done_when_held is False:
                    dropping.add(task.object_id)
                if (task.object_id in held) is done_when_held:
                    placement.bytes_done = task.size_bytes
                    placement.move("done", now)
            fresh = held - self._seen.get(device_id, frozenset()) - dropping
            self._seen[device_id] = held
            # What was deleted while the device was away is dropped now.
            for object_id in sorted(fresh - await self._catalogue.known(fresh)):
                drop = Task(uuid7(self._clock.now_ms(), os.urandom(10)), DROP, object_id)
                messages.append(Message(device_id, None, None, drop))
        return messages

    def _apply_time(self, now: int) -> list[Message]:
        monotonic = self._clock.monotonic()
        messages: list[Message] = []
        for task in self._open.values():
            if now >= task.deadline:
                messages += [cancelling(task, one) for one in task.end(TaskEvent.DEADLINE, now)]
                continue
            for placement in task.open_placements():
                away = self._away.get(placement.device_id)
                idle_s = now - placement.moved_at
                if away is not None:
                    if monotonic - away[0] > self._config.gone_s_max:
                        placement.move("failed", now, GONE)
                elif placement.state is not PlacementState.PLACED:
                    if idle_s > self._config.stalled_s_max:
                        placement.move("failed", now, "stalled")
                        messages.append(cancelling(task, placement))
                elif placement.sends and idle_s > self._config.unanswered_s_max * placement.sends:
                    if placement.sends >= self._config.sends_max:
                        placement.move("failed", now, "no-answer")
                    else:
                        messages.append(Message(placement.device_id, task, placement))
        for device_id, (since, _) in list(self._away.items()):
            if monotonic - since > 2 * self._config.gone_s_max:
                del self._away[device_id]
        return messages

    def _settle(self, now: int) -> list[Message]:
        messages = []
        for task in self._open.values():
            if not task.is_open:
                continue
            surplus = self._kinds[task.kind].settle(task, now)
            messages += [cancelling(task, placement) for placement in surplus]
        return messages

    def _coming(self) -> dict[str, set[str]]:
        """Devices that fill an object, for any task, by object."""
        coming: dict[str, set[str]] = {}
        for task in self._open.values():
            if task.kind == FILL:
                for placement in task.open_placements():
                    coming.setdefault(task.object_id, set()).add(placement.device_id)
        return coming

    def _demand(self, task: NetworkTask, coming: dict[str, set[str]], now: int) -> Demand | None:
        return self._kinds[task.kind].demand(task, coming.get(task.object_id, set()), now)

    async def _place(self, now: int) -> None:
        """Place a bounded number of tasks, each on the best of a bounded number of devices; the rest have their turn
        in the next round, which starts where this one ended."""
        coming = self._coming()
        devices = list(self._devices.fleet.devices())
        waiting = 0
        turn: list[NetworkTask] = []
        for task in self._open.values():
            demand = self._demand(task, coming, now) if task.is_open else None
            if demand is not None and demand.replicas:
                waiting += 1
                turn.append(task)
        self._turn = self._turn % waiting if waiting else 0
        for task in (turn[self._turn :] + turn[: self._turn])[: self._config.round_tasks_max]:
            self._turn += 1
            demand = self._demand(task, coming, now)
            if demand is None or await self._too_dear(task):
                continue
            views = [view for device in self._sample(devices) if (view := self._devices.view(device)) is not None]
            found = assign([demand], views, self._config.filters)
            for assignment in found:
                task.place(assignment.device_id, now)
                if task.object_id:
                    coming.setdefault(task.object_id, set()).add(assignment.device_id)
                committed = self._devices.committed
                committed[assignment.device_id] = committed.get(assignment.device_id, 0) + task.size_bytes
            waiting -= len(found) >= demand.replicas
            await asyncio.sleep(0)
        self._waiting = waiting > 0
        if waiting > 0 and len(turn) > self._config.round_tasks_max:
            self._wake.set()

    async def _too_dear(self, task: NetworkTask) -> bool:
        """A task with a price cap waits while the tariff is above it, or is not known."""
        if task.needs.price_max is None:
            return False
        price = await self._price(task.needs.service)
        return price is None or price > task.needs.price_max

    def _sample(self, devices: list[LiveDevice]) -> list[LiveDevice]:
        """All devices of a small fleet; of a large one a part, another one each time."""
        size = self._config.candidates_max
        if len(devices) <= size:
            return devices
        start = self._sampled % len(devices)
        self._sampled = start + size
        return (devices + devices[:size])[start : start + size]

    def _count_committed(self) -> None:
        committed: dict[str, int] = {}
        for task in self._open.values():
            if task.kind == FILL:
                for placement in task.open_placements():
                    committed[placement.device_id] = committed.get(placement.device_id, 0) + task.size_bytes
        self._devices.committed = committed

    async def _finish(self, tasks: list[NetworkTask]) -> None:
        await self._store.save(tasks)
        for task in tasks:
            if not task.is_open:
                self._open.pop(task.task_id, None)
                if task.object_id and task.state in (TaskState.FAILED, TaskState.EXPIRED):
                    self._rested[task.object_id] = self._clock.monotonic() + self._config.gone_s_max * 6

    async def _repair(self) -> None:
        """Make up for copies that were lost since their task was done."""
        now = self._clock.monotonic()
        recent = {name: held for name, (since, held) in self._away.items() if now - since <= self._config.gone_s_max}
        filling = {task.object_id for task in self._open.values() if task.kind == FILL}
        self._rested = {object_id: until for object_id, until in self._rested.items() if now < until}
        for wanted in await self._catalogue.wanted():
            if not wanted.size or wanted.object_id in filling or wanted.object_id in self._rested:
                continue
            holders = set(self._devices.holder_ids(wanted.object_id))
            holders |= {name for name, held in recent.items() if wanted.object_id in held}
            if len(holders) < wanted.replicas:
                await self.create(FILL, wanted.publisher, copies(wanted.object_id, wanted.size, wanted.replicas))
        await self._store.purge(self._clock.now() - self._config.kept_s, PURGED_MAX)
