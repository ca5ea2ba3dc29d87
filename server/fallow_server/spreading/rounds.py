"""Every few minutes, and soon after large events: gather the fleet, have it placed, and make tasks of the answer."""

from __future__ import annotations

import asyncio
import logging
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fallow_wire.session import TaskStatus

from ..catalogue.objects import Catalogue, PublishedObject
from ..clock import Clock
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..scheduling.costs import PARTS
from ..scheduling.demand import Demands
from ..scheduling.explanation import SCORED_MAX
from ..scheduling.filters import Config as FilterConfig
from ..scheduling.gathering import Gathering
from ..scheduling.presence import Presence
from ..scheduling.views import COPY
from ..tasks.copies import FILL, SHED, SPREAD
from ..tasks.driver import TaskDriver
from ..tasks.kinds import Order
from ..tasks.placing import coming_by_object
from .answering import Answer, Problem, reckoned
from .config import Config

LINGERS_S = 6 * 3600
"""Of a task: what a line has not fetched by then is for another evening, and perhaps for another device."""
FAILURES_MAX = 10_000
"""Remembered; a device that fails at everything is soon asked for nothing."""

_log = logging.getLogger(__name__)


Parts = dict[str, float]
_Wanted = tuple[str, str, Order]
Move = tuple[str, str]
"""An object, and the device that is to hold it, or to drop it."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round saw and did. ``unfit``: devices that could hold nothing more, by the reason. ``seconds``: from
    the first device to the last task."""

    at: int
    devices: int
    objects: int
    unfit: dict[str, int]
    asked_bytes: float
    unserved_bytes: float
    fills: tuple[Move, ...]
    drops: tuple[Move, ...]
    unplaced: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Gathered:
    gathering: Gathering
    wanted: dict[str, PublishedObject]


class Spreading:
    """Observer of the fleet. :attr:`last`: the round that ended last."""

    def __init__(
        self,
        config: Config,
        filters: FilterConfig,
        catalogue: Catalogue,
        devices: Devices,
        driver: TaskDriver,
        demands: Callable[[], Demands],
        clock: Clock,
    ) -> None:
        self._config = config
        self._filters = filters
        self._catalogue = catalogue
        self._devices = devices
        self._driver = driver
        self._demands = demands
        self._clock = clock
        self._presence = Presence()
        self._waiting: set[str] = set()
        # Of object and device, oldest first: when, monotonic.
        self._failures: dict[tuple[str, str], float] = {}
        self._before: Gathering | None = None
        self._lost_copies = 0
        self._soon = asyncio.Event()
        self._rounds = asyncio.Lock()
        self.last: Round | None = None

    def start(self) -> None:
        self._devices.fleet.observers.append(self)

    # -------------------------------------------------------------- as observer of the fleet

    async def connected(self, device_id: str) -> None:
        self._presence.connected(device_id, self._clock.monotonic())

    async def lost(self, device_id: str) -> None:
        self._presence.lost(device_id, self._clock.monotonic())
        self._waiting.discard(device_id)
        self._lost_copies += len(self._driver.lost_content(device_id))
        if self._lost_copies >= self._config.lost_copies:
            self._soon.set()

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        """A device that puts a copy off says why (its day's writing is used up, the line is the household's), and gets
        no further ones until it goes on."""
        if status.status == "failed":
            task = self._driver.task(status.id)
            if task is not None and task.object_id and device_id in task.placements:
                self._failures.pop((task.object_id, device_id), None)
                self._failures[(task.object_id, device_id)] = self._clock.monotonic()
                if len(self._failures) > FAILURES_MAX:
                    del self._failures[next(iter(self._failures))]
        if status.status in ("accepted", "running") and status.reason:
            self._waiting.add(device_id)
        else:
            self._waiting.discard(device_id)

    async def content_changed(self, device_id: str) -> None:
        return

    async def reported(self, device_id: str) -> None:
        return

    # -------------------------------------------------------------- rounds

    async def run(self) -> None:
        """Until cancelled; ends at once where rounds are turned off."""
        while self._config.every_s:
            try:
                async with asyncio.timeout(self._config.every_s):
                    await self._soon.wait()
                    # What comes with it is dealt with in the same round.
                    await asyncio.sleep(self._config.soon_s)
            except TimeoutError:
                pass
            try:
                await self.round()
            except Exception:  # noqa: BLE001  # the outermost loop of placement
                _log.exception("a round of placement failed; the next one is in %s s", self._config.every_s)

    async def round(self, seed: int | None = None) -> Round | None:
        """None when there is nothing to place. :param seed: of the draws; None takes one at random."""
        async with self._rounds:
            self._soon.clear()
            self._lost_copies = 0
            began = self._clock.monotonic()
            self._presence.forget(began)
            self._devices.forget()
            gathered = await self._gather()
            gathering = gathered.gathering
            room = self._config.open_max - self._open_count()
            if not gathering.devices or not gathering.objects or room <= 0:
                return None
            now = self._clock.now()
            question = gathering.question(self._demands().saved(), now)
            drawn = int.from_bytes(os.urandom(4), "big") if seed is None else seed
            answer = await reckoned(Problem(question, self._config, room, drawn))
            fills, drops = _moves(answer.fills, gathering), _moves(answer.drops, gathering)
            await self._driver.create_all([*self._spread(answer, fills, gathered), *self._shed(drops, gathered)])
            objects = list(gathering.objects)
            self.last = Round(
                now,
                len(gathering.devices),
                len(gathering.objects),
                dict(gathering.unfit),
                answer.asked_bytes,
                answer.unserved_bytes,
                fills,
                drops,
                {objects[one]: count for one, count in _by_turns(answer.unplaced)},
                self._clock.monotonic() - began,
            )
            if len(fills) >= room:
                self._soon.set()
            _log.info(
                "placement: %d devices, %d objects, %d copies to make and %d to drop, in %.1f s",
                self.last.devices, self.last.objects, len(fills), len(drops), self.last.seconds,
            )  # fmt: skip
            return self.last

    def _open_count(self) -> int:
        return sum(len(task.open_placements()) for task in self._driver.open_tasks() if task.kind in (SPREAD, SHED))

    # -------------------------------------------------------------- gathering

    async def _gather(self) -> _Gathered:
        """The objects and the fleet, in slices, so that others have their turn in between."""
        wanted = {one.object_id: one for one in await self._catalogue.wanted() if one.size}
        if len(wanted) > self._config.objects_max:
            asked = {object_id for object_id, _ in self._demands().saved().pairs}
            wanted = dict(sorted(wanted.items(), key=lambda item: item[0] not in asked)[: self._config.objects_max])
        devices, away = list(self._devices.fleet.devices()), self._driver.away()
        gathering = Gathering(self._filters, len(devices) + len(away))
        for number, one in enumerate(wanted.values(), 1):
            gathering.add_object(one.object_id, one.size, one.replicas)
            await self._in_turn(number)
        for number, device in enumerate(devices, 1):
            # Gone, or come back, since the list was made.
            if self._devices.fleet.get(device.device_id) is device:
                self._add_device(gathering, device)
            await self._in_turn(number)
        if self._before is not None:
            for number, (name, held) in enumerate(away.items(), 1):
                if name in self._before.devices and name not in gathering.devices:
                    gathering.add_away(name, held, self._before)
                await self._in_turn(number)
        self._before = gathering
        coming, failed = coming_by_object(self._driver.open_tasks()), self._failed()
        for object_id in coming.keys() | failed.keys():
            gathering.add_task(object_id, coming.get(object_id, ()), failed.get(object_id, ()))
        return _Gathered(gathering, wanted)

    async def _in_turn(self, number: int) -> None:
        if not number % self._config.slice_devices:
            await asyncio.sleep(0)

    def _add_device(self, gathering: Gathering, device: LiveDevice) -> None:
        view = self._devices.view(device)
        if view is not None:
            name = device.device_id
            share = self._presence.share(name, self._clock.monotonic())
            gathering.add_device(view, share, self._devices.line(name), name in self._waiting)

    def _failed(self) -> dict[str, set[str]]:
        """Devices that failed at an object lately."""
        found: dict[str, set[str]] = {}
        for (object_id, device_id), at in self._failures.items():
            if self._clock.monotonic() - at < self._config.failed_s:
                found.setdefault(object_id, set()).add(device_id)
        return found

    # -------------------------------------------------------------- what is to be done

    def _spread(self, answer: Answer, fills: tuple[Move, ...], gathered: _Gathered) -> Iterator[_Wanted]:
        # What a publisher's own task lacks, that task places.
        placing = {task.object_id for task in self._driver.open_tasks() if task.kind == FILL}
        chosen: dict[str, dict[str, Parts]] = {}
        for number, (object_id, device_id) in enumerate(fills):
            if not (answer.minimum[number] and object_id in placing):
                parts = answer.parts[number * len(PARTS) : (number + 1) * len(PARTS)]
                chosen.setdefault(object_id, {})[device_id] = dict(zip(PARTS, parts, strict=True))
        for object_id, devices in chosen.items():
            worth = {f"{part}_bytes": str(round(sum(one[part] for one in devices.values()))) for part in PARTS}
            yield self._task(SPREAD, gathered, object_id, devices, worth)

    def _shed(self, drops: tuple[Move, ...], gathered: _Gathered) -> Iterator[_Wanted]:
        chosen: dict[str, dict[str, Parts]] = {}
        for object_id, device_id in drops:
            chosen.setdefault(object_id, {})[device_id] = {}
        for object_id, devices in chosen.items():
            yield self._task(SHED, gathered, object_id, devices, {})

    def _task(
        self, kind: str, gathered: _Gathered, object_id: str, devices: dict[str, Parts], worth: dict[str, str]
    ) -> _Wanted:
        one = gathered.wanted[object_id]
        order = Order(
            replicas=len(devices),
            object_id=object_id,
            size_bytes=one.size,
            needs=COPY,
            parameters=worth,
            lifetime_s=LINGERS_S,
            devices=frozenset(devices),
            decision=_decision(self._clock.now(), gathered.gathering, one.size, devices),
        )
        return kind, one.publisher, order


def _decision(now: int, gathering: Gathering, size_bytes: int, devices: dict[str, Parts]) -> dict[str, Any]:
    """As ``GET /v1/tasks/{id}/why`` tells it; the whole fleet was considered. Parts are in thousandths of the object's
    size: a copy of value 1000 serves its own size once more than it costs."""

    def score(parts: Parts) -> dict[str, int]:
        value = 2 * parts.get("served", 0) - sum(parts.values())
        return {name: round(one * 1000 / size_bytes) for name, one in {"value": value, **parts}.items()}

    return {
        "decided_at": now,
        "wanted": len(devices),
        "considered": len(gathering.devices),
        "refused": {reason: {"devices": count, "for_example": []} for reason, count in sorted(gathering.unfit.items())},
        "candidates": len(gathering.devices) - sum(gathering.unfit.values()),
        "best": [
            {"device": name, "chosen": True, "score_permille": score(parts)}
            for name, parts in list(devices.items())[:SCORED_MAX]
        ],
    }


def _by_turns(pairs: array[int]) -> Iterator[tuple[int, int]]:
    return zip(pairs[::2], pairs[1::2], strict=True)


def _moves(pairs: array[int], gathering: Gathering) -> tuple[Move, ...]:
    objects, devices = list(gathering.objects), list(gathering.devices)
    return tuple((objects[one], devices[device]) for one, device in _by_turns(pairs))
