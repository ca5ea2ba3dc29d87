"""Every few minutes, and soon after large events: gather the fleet, have it placed, and make tasks of the answer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from fallow_wire.session import TaskStatus

from ..catalogue.objects import Catalogue, PublishedObject
from ..clock import Clock
from ..delivery.devices import Devices
from ..delivery.pseudonym import line_of
from ..fleet.live import LiveDevice
from ..scheduling.costs import PARTS
from ..scheduling.demand import Demands
from ..scheduling.filters import Config as FilterConfig
from ..scheduling.gathering import Gathering
from ..scheduling.presence import Presence
from ..scheduling.views import COPY
from ..tasks.copies import FILL, SHED, SPREAD
from ..tasks.driver import TaskDriver
from ..tasks.kinds import Order
from ..tasks.placing import coming_by_object
from ..tasks.states import PlacementState
from .answering import Answer, Move, Reckoner
from .config import Config

OBJECTS_AT_ONCE = 100
"""Gathered before others have their turn: their copies are some thousands."""
LINGERS_S = 3600
"""A copy is made within the hour, or another round may have chosen better."""

_log = logging.getLogger(__name__)


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


@dataclass(slots=True)
class _Gathered:
    gathering: Gathering
    wanted: dict[str, PublishedObject] = field(default_factory=dict)


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
        self._reckoner = Reckoner(config)
        self._presence = Presence()
        self._waiting: set[str] = set()
        self._before: Gathering | None = None
        self._lost_copies = 0
        self._soon = asyncio.Event()
        self._rounds = asyncio.Lock()
        self.last: Round | None = None

    def start(self) -> None:
        self._devices.fleet.observers.append(self)

    def close(self) -> None:
        self._reckoner.rest()

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
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._config.every_s or None):
                    await self._soon.wait()
                    # What comes with it is dealt with in the same round.
                    await asyncio.sleep(self._config.soon_s)
            except TimeoutError:
                pass
            try:
                if self._config.every_s:
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
            gathered = await self._gather()
            gathering = gathered.gathering
            room = self._config.open_max - self._open_count()
            if not gathering.devices or not gathering.objects or room <= 0:
                return None
            now = self._clock.now()
            answer = await self._reckoner.answer(
                gathering.question(self._demands().saved(), now),
                len(gathering.devices),
                room,
                int.from_bytes(os.urandom(4), "big") if seed is None else seed,
            )
            await self._apply(answer, gathered)
            self.last = Round(
                now,
                len(gathering.devices),
                len(gathering.objects),
                dict(gathering.unfit),
                answer.asked_bytes,
                answer.unserved_bytes,
                answer.fills,
                answer.drops,
                answer.unplaced,
                self._clock.monotonic() - began,
            )
            if len(answer.fills) >= room:
                self._soon.set()
            return self.last

    def _open_count(self) -> int:
        return sum(len(task.open_placements()) for task in self._driver.open_tasks() if task.kind in (SPREAD, SHED))

    # -------------------------------------------------------------- gathering

    async def _gather(self) -> _Gathered:
        """The fleet and the objects, in slices, so that others have their turn in between."""
        found = _Gathered(Gathering(self._filters))
        away = self._driver.away()
        held_away: dict[str, list[str]] = {}
        async for device in self._slices():
            # Gone, or come back, since the list was made.
            if self._devices.fleet.get(device.device_id) is device:
                self._add_device(found.gathering, device)
        if self._before is not None:
            for name, held in away.items():
                if name in self._before.devices and name not in found.gathering.devices:
                    found.gathering.add_away(name, self._before)
                    for object_id in held:
                        held_away.setdefault(object_id, []).append(name)
        self._before = found.gathering
        await self._gather_objects(found, held_away)
        return found

    async def _slices(self) -> AsyncIterator[LiveDevice]:
        for number, device in enumerate(list(self._devices.fleet.devices()), 1):
            yield device
            if not number % self._config.slice_devices:
                await asyncio.sleep(0)

    def _add_device(self, gathering: Gathering, device: LiveDevice) -> None:
        view = self._devices.view(device)
        if view is not None:
            name = device.device_id
            share = self._presence.share(name, self._clock.monotonic())
            gathering.add_device(view, share, _line(device.remote_address), name in self._waiting)

    async def _gather_objects(self, found: _Gathered, held_away: dict[str, list[str]]) -> None:
        wanted = {one.object_id: one for one in await self._catalogue.wanted() if one.size}
        if len(wanted) > self._config.objects_max:
            asked = dict.fromkeys(one for one, _ in self._demands().saved().pairs)
            wanted = dict(sorted(wanted.items(), key=lambda item: item[0] not in asked)[: self._config.objects_max])
        coming = coming_by_object(self._driver.open_tasks())
        failed = self._failed()
        for number, one in enumerate(wanted.values(), 1):
            object_id = one.object_id
            held = [*self._devices.holder_ids(object_id), *held_away.get(object_id, ())]
            found.gathering.add_object(
                object_id, one.size, one.replicas, held, coming.get(object_id, ()), failed.get(object_id, ())
            )
            if not number % OBJECTS_AT_ONCE:
                await asyncio.sleep(0)
        found.wanted = wanted

    def _failed(self) -> dict[str, set[str]]:
        """Devices that failed at an object lately, as far as open tasks remember."""
        now, found = self._clock.now(), dict[str, set[str]]()
        for task in self._driver.open_tasks():
            for placement in task.placements.values():
                if placement.state is PlacementState.FAILED and now - placement.moved_at < self._config.failed_s:
                    found.setdefault(task.object_id, set()).add(placement.device_id)
        return found

    # -------------------------------------------------------------- what is to be done

    async def _apply(self, answer: Answer, gathered: _Gathered) -> None:
        names = list(gathered.gathering.devices)
        # What a publisher's own task lacks, that task places.
        placing = {task.object_id for task in self._driver.open_tasks() if task.kind == FILL}
        fills: dict[str, list[Move]] = {}
        for move in answer.fills:
            if not (move.minimum and move.object_id in placing):
                fills.setdefault(move.object_id, []).append(move)
        for object_id, moves in fills.items():
            worth = {
                f"{part}_bytes": str(round(sum(move.parts[number] for move in moves)))
                for number, part in enumerate(PARTS)
            }
            await self._create(SPREAD, gathered.wanted[object_id], {names[one.device] for one in moves}, worth)
        drops: dict[str, set[str]] = {}
        for move in answer.drops:
            drops.setdefault(move.object_id, set()).add(names[move.device])
        for object_id, devices in drops.items():
            await self._create(SHED, gathered.wanted[object_id], devices, {})

    async def _create(self, kind: str, one: PublishedObject, devices: set[str], worth: dict[str, str]) -> None:
        order = Order(
            replicas=len(devices),
            object_id=one.object_id,
            size_bytes=one.size,
            needs=COPY,
            parameters=worth,
            lifetime_s=LINGERS_S,
            devices=frozenset(devices),
        )
        await self._driver.create(kind, one.publisher, order)


def _line(address: str) -> str | None:
    """What stands for the line; None where a whole test network may share the address."""
    try:
        return line_of(address) if ipaddress.ip_address(address.partition("%")[0]).is_global else None
    except ValueError:
        return None
