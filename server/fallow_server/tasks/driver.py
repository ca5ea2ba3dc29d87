"""Keeps tasks, places them on devices and listens to the fleet.

Events only note what happened and wake the one worker; it applies them in rounds, saves, and then sends. So a state is
in the database before a device hears of it, and whatever a crash loses is sent again when the device comes back.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from fallow_wire.ids import uuid7
from fallow_wire.probes import ProbeResult
from fallow_wire.session import Task, TaskStatus

from ..catalogue.objects import Catalogue
from ..clock import Clock
from ..delivery.devices import Devices
from ..scheduling.explanation import Sifted
from ..scheduling.places import NOWHERE
from .config import Config
from .copies import DROP, FILL, MAKES_COPIES, copies
from .kinds import Kind, Order
from .messages import Message, Messenger, cancelling
from .model import GONE, NetworkTask
from .outcomes import Outcomes, Result
from .placing import Placer, coming_by_object
from .states import PlacementState, TaskEvent, TaskState
from .store import TaskStore

CONTENT_AT_ONCE = 50
"""Devices whose news are looked up together, after which others have their turn on the loop."""
PURGED_MAX = 1000
"""Ended tasks that one round forgets."""
REST_SHARE, REST_S_MAX = 3, 5
"""After each round, of what it took: while tasks wait that nobody can do, every heartbeat of a large fleet asks for
another round, and these shall have a quarter of the time at most."""
FAILURE_PAUSE_S = 5
"""After a round that failed (the database was away, the disk full)."""

_log = logging.getLogger(__name__)


class TaskDriver:
    """Observer of the fleet and of the catalogue."""

    def __init__(
        self,
        config: Config,
        store: TaskStore,
        outcomes: Outcomes,
        catalogue: Catalogue,
        devices: Devices,
        kinds: Mapping[str, Kind],
        placer: Placer,
        clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._outcomes = outcomes
        self._catalogue = catalogue
        self._devices = devices
        self._kinds = kinds
        self._placer = placer
        self._messenger = Messenger(config.sending_max, devices.fleet, kinds)
        self._clock = clock
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
        self._results: list[Result] = []
        self._waiting = False
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
        await self._messenger.close()

    # -------------------------------------------------------------- publishers

    def task(self, task_id: str) -> NetworkTask | None:
        """An open task."""
        return self._open.get(task_id)

    def open_tasks(self) -> Iterable[NetworkTask]:
        return self._open.values()

    def open_fills(self, object_id: str, publisher: str) -> list[NetworkTask]:
        return [task for task in self._fills() if (task.object_id, task.publisher) == (object_id, publisher)]

    def _fills(self) -> Iterator[NetworkTask]:
        """Open tasks that make copies, for whatever reason."""
        return (task for task in self._open.values() if task.kind in MAKES_COPIES)

    def open_count(self, publisher: str) -> int:
        return sum(task.publisher == publisher for task in self._open.values())

    async def create(self, kind: str, publisher: str, order: Order, deadline: int | None = None) -> NetworkTask:
        """A new task; it is in the database when this returns and is placed in the next round."""
        task = self._new(kind, publisher, order, deadline)
        await self._begin([(task, order)])
        return task

    async def create_all(self, wanted: Iterable[tuple[str, str, Order]]) -> None:
        """Several at once, each of a kind for a publisher: in one transaction."""
        tasks = [(self._new(kind, publisher, order), order) for kind, publisher, order in wanted]
        if tasks:
            await self._begin(tasks)

    def _new(self, kind: str, publisher: str, order: Order, deadline: int | None = None) -> NetworkTask:
        now = self._clock.now()
        return NetworkTask(
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

    async def _begin(self, tasks: list[tuple[NetworkTask, Order]]) -> None:
        async with self._lock:
            await self._store.add([task for task, _ in tasks])
            for task, order in tasks:
                self._open[task.task_id] = task
                for device_id in sorted(self._kinds[task.kind].devices(task) | order.devices):
                    task.place(device_id, task.created_at)
                if order.decision is not None:
                    self._placer.decisions.append((task.task_id, dict(order.decision)))
        self._wake.set()

    async def cancel(self, task: NetworkTask) -> None:
        """End an open task; devices that are at it are told."""
        async with self._lock:
            if not task.is_open:
                return
            closed = task.end(TaskEvent.CANCEL, self._clock.now())
            await self._finish([task])
        await self._messenger.send_all([cancelling(task, placement) for placement in closed])

    async def waiting_for(self, task: NetworkTask) -> Sifted | None:
        """Which devices could do a task that waits, and why the others cannot; None when it wants no more."""
        return await self._placer.sifted(task, coming_by_object(self._open.values()), self._clock.now())

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
        for task in [one for one in self._fills() if one.object_id == object_id]:
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
            began_s = self._clock.monotonic()
            try:
                await self.round()
            except Exception:  # noqa: BLE001  # the outermost loop of network tasks
                _log.exception("a round of network tasks failed; it is tried again in %s s", FAILURE_PAUSE_S)
                await asyncio.sleep(FAILURE_PAUSE_S)
                self._wake.set()
            took_s = self._clock.monotonic() - began_s
            await asyncio.sleep(max(self._config.gap_s, min(REST_S_MAX, REST_SHARE * took_s)))

    async def round(self) -> None:
        """Apply what happened, place what is wanted, save, send. One round at a time."""
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
                self._placer.count_committed(self._open.values())
                await self._place(now)
                # Spreading changes states too: pending is placed.
                messages += self._settle(now)
                messages += self._unsent()
                await self._finish(list(self._open.values()))
                self._placer.count_committed(self._open.values())
            await self._messenger.send_all(messages)

    def _apply_statuses(self, now: int) -> None:
        statuses, self._statuses = self._statuses, {}
        for (task_id, device_id), status in statuses.items():
            task = self._open.get(task_id)
            if task is not None:
                placement = task.placements[device_id]
                was_open = placement.is_open
                placement.report(status, now)
                if was_open and placement.state is PlacementState.DONE and status.result is not None:
                    self._note_result(task, device_id, status.result, now)
        arrived, self._arrived = self._arrived, set()
        for task in self._open.values():
            for placement in task.open_placements():
                if placement.device_id in arrived:
                    # Nobody knows what reached it over its old session.
                    placement.sends = 0

    def _note_result(self, task: NetworkTask, device_id: str, result: ProbeResult, now: int) -> None:
        if task.object_id:
            return  # a copy has no result but itself
        if not task.created_at <= result.measured_at <= now:
            # By a wrong clock; results are kept by this time, and would go at once or stay.
            result = replace(result, measured_at=now)
        device = self._devices.fleet.get(device_id)
        view = None if device is None else self._devices.view(device)
        self._results.append(Result(task.task_id, device_id, NOWHERE if view is None else view.place, result))

    def _unsent(self) -> list[Message]:
        return [
            Message(placement.device_id, task, placement)
            for task in self._open.values()
            for placement in task.open_placements()
            if placement.sends == 0 and self._devices.fleet.get(placement.device_id) is not None
        ]

    async def _apply_content(self, now: int) -> list[Message]:
        changed, self._content = iter(self._content), set()
        messages: list[Message] = []
        while some := list(islice(changed, CONTENT_AT_ONCE)):
            fresh = self._apply_content_of(some, now)
            known = await self._catalogue.known(frozenset().union(*fresh.values())) if fresh else set()
            # What was deleted while the device was away is dropped now.
            for device_id, object_ids in fresh.items():
                for object_id in sorted(object_ids - known):
                    drop = Task(uuid7(self._clock.now_ms(), os.urandom(10)), DROP, object_id)
                    messages.append(Message(device_id, None, None, drop))
        return messages

    def _apply_content_of(self, device_ids: Iterable[str], now: int) -> dict[str, frozenset[str]]:
        """What each has that it did not have before, and is not about to drop; nothing for those without."""
        found: dict[str, frozenset[str]] = {}
        for device_id in device_ids:
            device = self._devices.fleet.get(device_id)
            if device is None:
                continue
            held = device.content
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
            if fresh:
                found[device_id] = fresh
        return found

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

    def away(self) -> dict[str, frozenset[str]]:
        """Devices that are away since a moment, with the objects that they held."""
        now = self._clock.monotonic()
        return {name: held for name, (since, held) in self._away.items() if now - since <= self._config.gone_s_max}

    def lost_content(self, device_id: str) -> frozenset[str]:
        """What a device held that is away since a moment."""
        return self._away.get(device_id, (0.0, frozenset[str]()))[1]

    async def _place(self, now: int) -> None:
        waiting, more = await self._placer.place(self._open.values(), now)
        self._waiting = waiting > 0
        if more:
            self._wake.set()

    async def _finish(self, tasks: list[NetworkTask]) -> None:
        decisions, results = self._placer.decisions, self._results
        await self._store.save(tasks, lambda connection: self._outcomes.write(connection, decisions, results))
        self._placer.decisions, self._results = [], []
        for task in tasks:
            if not task.is_open:
                self._open.pop(task.task_id, None)
                if task.kind == FILL and task.state in (TaskState.FAILED, TaskState.EXPIRED):
                    self._rested[task.object_id] = self._clock.monotonic() + self._config.gone_s_max * 6

    async def _repair(self) -> None:
        """Make up for copies that were lost since their task was done."""
        now = self._clock.monotonic()
        recent = self.away()
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
        await self._outcomes.purge(self._clock.now() - self._config.results_kept_s, PURGED_MAX)
