"""Crowds: an object that many ask for at once and few hold is spread over devices that hold it in part.

Placement thinks in minutes; a crowd is there in a second, and would stand in a queue at the origin. So devices are
named at once that fetch of it what is asked of them, and consumers spread what they ask for over them by chunk (see
:mod:`.stripes`): each chunk leaves the origin a few times, whatever the number of consumers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from fallow_wire.ids import uuid7
from fallow_wire.plans import Stripe
from fallow_wire.session import Source, Task, TaskStatus

from ..clock import Clock
from ..fleet.live import Fleet, LiveDevice
from ..fleet.rate import Bucket
from ..scheduling.filters import Config as Filters
from ..scheduling.filters import placement_refusal
from ..scheduling.hashing import Ring
from ..scheduling.holders import Draw
from ..scheduling.views import COPY, Demand, ServingView
from .devices import Devices
from .stripes import Stripes

_log = logging.getLogger(__name__)

HEAT_S = 30.0
"""Requests are counted over about so long: a crowd's downloads last longer, its arrival does not."""
HEAT_OBJECTS_MAX = 4096
"""Objects that are counted; the one asked for least lately goes first."""
CROWD_MIN = 3
"""Requests in that time: two may be one consumer who asks again."""
HOLDERS_MIN = 16
"""As many as a plan names: with fewer, the first consumers would crowd on them."""
CONSUMERS_PER_HOLDER = 2
NAMINGS_BURST, NAMINGS_PER_S = 1024, 16
"""Devices asked to hold something, of all objects together: each asks the origin for chunks then, and drops others for
them. Some dozen crowds may come at once, and one every second or two."""
HOLDERS_MAX = 64
"""Beyond, placement will have made copies by the time that more would matter."""
CONFIRM_S_MAX = 1.0
"""So long a plan waits for the devices that are named for it. They answer within a round trip; the first consumers
would else all go to the origin, which is what this is for."""
NAMED_S = 20.0
"""A device that did not answer in this time is named no more for the object until ``HEAT_S`` have passed."""
LIFETIME_S = 3600
"""Of what a device is asked to hold, for a device that keeps it."""


class Heat:
    """How many ask for an object lately: counts that fade by half in :data:`HEAT_S`. In bounded memory."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def note(self, object_id: str, now: float) -> None:
        """:param now: monotonic seconds."""
        self._counts[object_id] = (self.of(object_id, now) + 1, now)
        self._counts.move_to_end(object_id)
        if len(self._counts) > HEAT_OBJECTS_MAX:
            self._counts.popitem(last=False)

    def of(self, object_id: str, now: float) -> float:
        count, at = self._counts.get(object_id, (0.0, now))
        return count * math.exp2((at - now) / HEAT_S)


def holders_wanted(heat: float, whole: int) -> int:
    """Devices that shall hold an object which so many ask for, whole or in part; 0 where it is no crowd.

    :param whole: devices that hold all of it; with some of them there is time to see how many more are wanted.
    """
    if heat < CROWD_MIN:
        return 0
    return min(HOLDERS_MAX, max(0 if whole else HOLDERS_MIN, int(heat / CONSUMERS_PER_HOLDER)))


class Crowds:
    """Observer of the fleet. :param public_url: where devices reach the origin, without a trailing slash."""

    def __init__(self, fleet: Fleet, devices: Devices, filters: Filters, public_url: str, clock: Clock) -> None:
        self._fleet = fleet
        self._devices = devices
        self._filters = filters
        self._public_url = public_url
        self._clock = clock
        self._heat = Heat()
        self._partial: dict[str, Stripes] = {}
        """Devices by the object that they hold in part."""
        self._known: dict[str, frozenset[str]] = {}
        self._named: dict[str, dict[str, float]] = {}
        """When which device was named for an object and has not answered yet, monotonic seconds."""
        self._ring = Ring()
        """Which devices hold the crowds' objects: none more than its part of all, and a crowd that comes again finds
        what the last one left."""
        self._namings = Bucket(NAMINGS_BURST, NAMINGS_PER_S, clock.monotonic())
        self._changed = asyncio.Condition()
        self._sends: set[asyncio.Task[None]] = set()
        fleet.observers.append(self)

    def note(self, object_id: str) -> None:
        """A consumer asked for the object."""
        self._heat.note(object_id, self._clock.monotonic())

    def is_crowd(self, object_id: str) -> bool:
        return self._heat.of(object_id, self._clock.monotonic()) >= CROWD_MIN

    def count(self, object_id: str) -> int:
        """Devices that hold it in part."""
        return len(self._partial.get(object_id, ()))

    def stripes(self, object_id: str, chunks: int) -> Mapping[str, Stripe]:
        """What each of those devices is for. :param chunks: of the object."""
        found = self._partial.get(object_id)
        return {} if found is None else found.of(chunks)

    def partial(self, object_id: str, draw: Draw) -> Iterator[str]:
        """Those devices, in random order."""
        found = sorted(self._partial.get(object_id, ()), key=lambda _: draw())
        yield from found

    async def spread(
        self, object_id: str, name: str, manifest: str, size_bytes: int, may_begin: Callable[[], bool] = lambda: True
    ) -> None:
        """See that enough devices hold an object of a crowd; waits for those that are named now, for a moment.

        :param name: quoted, as in a path. :param may_begin: asked once, where no device holds it in part yet.
        """
        now = self._clock.monotonic()
        whole, taking = self._devices.holder_count(object_id), self._taking(object_id)
        lacking = holders_wanted(self._heat.of(object_id, now), whole) - whole - taking
        if lacking > 0 and (taking or may_begin()):
            self._name(object_id, name, manifest, size_bytes, min(lacking, int(self._namings.left(now))))
        await self._confirmed(object_id)

    def _release(self, object_id: str, device_id: str) -> None:
        for key in _keys_of(object_id):
            if self._ring.device_of(key) == device_id:
                self._ring.release(key)

    def _taking(self, object_id: str) -> int:
        """Devices that hold it in part, or were named lately."""
        now = self._clock.monotonic()
        named = self._named.get(object_id, {})
        for device_id in [one for one, at in named.items() if now - at > HEAT_S]:
            del named[device_id]
            self._release(object_id, device_id)
        if not named:
            self._named.pop(object_id, None)
        fresh = sum(now - at <= NAMED_S for at in named.values())
        return self.count(object_id) + fresh

    def _name(self, object_id: str, name: str, manifest: str, size_bytes: int, count: int) -> None:
        demand = Demand("", object_id, size_bytes, count, needs=COPY)
        named = self._named.get(object_id, {})
        chosen: list[LiveDevice] = []

        def fits(device_id: str) -> bool:
            device = self._fleet.get(device_id)
            if device is None or device_id in named or object_id in device.partial or device in chosen:
                return False
            view = self._devices.view(device)
            return view is not None and placement_refusal(view, demand, self._filters) is None

        for key in _keys_of(object_id):
            if len(chosen) == count:
                break
            if self._ring.device_of(key) is None and (device_id := self._ring.place(key, fits)) is not None:
                device = self._fleet.get(device_id)
                assert device is not None, "it fits"
                chosen.append(device)
        source = Source(f"{self._public_url}/o/{object_id}/{name}?source=origin&turn=1")
        deadline = self._clock.now() + LIFETIME_S
        if not chosen:
            return
        self._namings.take(len(chosen), self._clock.monotonic())
        _log.info("object %s is spread over %d more devices", object_id[:8], len(chosen))
        self._forget_unanswered()
        named = self._named.setdefault(object_id, {})
        for device in chosen:
            named[device.device_id] = self._clock.monotonic()
            task_id = uuid7(self._clock.now_ms(), os.urandom(10))
            task = Task(task_id, "pull", object_id, manifest, (source,), deadline)
            # Not waited for: a device that takes no messages would hold up the consumer's plan for half a minute.
            send = asyncio.create_task(_send(device, task), name=f"pull {task_id}")
            self._sends.add(send)
            send.add_done_callback(self._sends.discard)

    def _forget_unanswered(self) -> None:
        """Of all objects: nobody may ask for one of them again."""
        now = self._clock.monotonic()
        for object_id, named in list(self._named.items()):
            if all(now - at > HEAT_S for at in named.values()):
                for device_id in named:
                    self._release(object_id, device_id)
                del self._named[object_id]

    async def close(self) -> None:
        for send in self._sends:
            send.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)

    async def _confirmed(self, object_id: str) -> None:
        """Until the devices that were named have answered, for a moment."""

        def answered() -> bool:
            now = self._clock.monotonic()
            return not any(now - at <= CONFIRM_S_MAX for at in self._named.get(object_id, {}).values())

        try:
            async with asyncio.timeout(CONFIRM_S_MAX), self._changed:
                await self._changed.wait_for(answered)
        except TimeoutError:
            pass  # those that have answered are enough to begin with

    # -------------------------------------------------------------- as observer of the fleet

    async def connected(self, device_id: str) -> None:
        self._ring.add(device_id)
        await self._index(device_id, frozenset())

    async def lost(self, device_id: str) -> None:
        self._ring.remove(device_id)
        await self._index(device_id, frozenset())

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        return

    async def reported(self, device_id: str) -> None:
        return

    async def content_changed(self, device_id: str) -> None:
        device = self._fleet.get(device_id)
        await self._index(device_id, device.partial if device is not None else frozenset())

    async def _index(self, device_id: str, now: frozenset[str]) -> None:
        before = self._known.pop(device_id, frozenset())
        if now:
            self._known[device_id] = now
        for object_id in before - now:
            self._partial[object_id].discard(device_id)
            if not self._partial[object_id]:
                del self._partial[object_id]
            self._release(object_id, device_id)
        for object_id in now - before:
            self._partial.setdefault(object_id, Stripes()).add(device_id)
            named = self._named.get(object_id, {})
            named.pop(device_id, None)
            if not named:
                self._named.pop(object_id, None)
        if now != before:
            async with self._changed:
                self._changed.notify_all()


def _keys_of(object_id: str) -> list[str]:
    """What a crowd's object is on the ring: once for each device that may hold it."""
    return [f"{object_id} {number}" for number in range(HOLDERS_MAX)]


def views_of(crowds: Crowds, devices: Devices, object_id: str, draw: Draw, now: int) -> Iterator[ServingView]:
    """What is known of the devices that hold an object in part, in random order. :param now: Unix seconds."""
    for device_id in crowds.partial(object_id, draw):
        device = devices.fleet.get(device_id)
        view = devices.serving(device, now) if device is not None else None
        if view is not None:
            yield view


async def _send(device: LiveDevice, task: Task) -> None:
    try:
        await device.send(task)
    except ConnectionError as error:
        _log.info("%s did not take a message: %s", device.device_id, error)
