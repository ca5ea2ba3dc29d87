"""Brings the segments of live streams to the devices that carry them: to a few from here, to the rest from those."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from fallow_wire.session import Source, Task, TaskStatus

from ..catalogue.objects import Catalogue, PublishedObject
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..tasks.model import NetworkTask
from ..tasks.sources import Sources
from ..tasks.states import PlacementState

LIVE = "live"
SEEDS = 2
"""Devices that get a segment from here, whatever their number: one may be slow, and two serve the rest at once."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Parcel:
    """A segment on its way. ``until``: Unix seconds, when devices drop it. ``landed``: one of them has it."""

    published: PublishedObject
    until: int
    landed: asyncio.Event = field(default_factory=asyncio.Event)


def can_carry(device: LiveDevice | None) -> bool:
    """Connected, and its owner allows it now."""
    beat = device.heartbeat if device is not None else None
    return beat is not None and beat.state == "active" and LIVE in beat.services


class Courier:
    """Observer of the fleet."""

    def __init__(self, catalogue: Catalogue, devices: Devices, sources: Sources) -> None:
        self._catalogue = catalogue
        self._devices = devices
        self._sources = sources
        self._parcels: dict[str, Parcel] = {}

    def carriers(self, task: NetworkTask) -> list[LiveDevice]:
        """Devices that have joined the stream and carry it now."""
        found = []
        for placement in task.placements.values():
            device = self._devices.fleet.get(placement.device_id)
            if placement.state is PlacementState.RUNNING and device is not None and can_carry(device):
                found.append(device)
        return found

    async def deliver(self, task: NetworkTask, parcel: Parcel, turn: int, patience_s: float) -> None:
        """Offer the segment to every carrier.

        :param turn: another number for each segment, so that not the same devices are always first.
        :param patience_s: how long the rest wait for one of the first to have it.
        """
        object_id = parcel.published.object_id
        manifest = await self._catalogue.manifest(object_id)
        carriers = self.carriers(task)
        if manifest is None or not carriers:
            return
        first = turn % len(carriers)
        carriers = carriers[first:] + carriers[:first]
        seeds, rest = carriers[:SEEDS], carriers[SEEDS:]
        self._parcels[object_id] = parcel
        try:
            here = (self._sources.here(object_id, parcel.published.name),)
            # The rest do not wait for a device that takes no messages.
            async with asyncio.TaskGroup() as sends:
                for device in seeds:
                    sends.create_task(self._send(device, task, parcel, manifest, here))
                if not rest:
                    return
                try:
                    async with asyncio.timeout(patience_s):
                        await parcel.landed.wait()
                except TimeoutError:
                    _log.info("%s reached none of its first devices in time", object_id)
                for device in rest:
                    sends.create_task(self._forward(device, task, parcel, manifest))
        finally:
            self._parcels.pop(object_id, None)

    async def _forward(self, device: LiveDevice, task: NetworkTask, parcel: Parcel, manifest: str) -> None:
        one = parcel.published
        sources = await self._sources.of(device, one.object_id, one.name, task.publisher, one.size)
        await self._send(device, task, parcel, manifest, sources)

    async def _send(
        self, device: LiveDevice, task: NetworkTask, parcel: Parcel, manifest: str, sources: tuple[Source, ...]
    ) -> None:
        try:
            await device.send(Task(task.task_id, LIVE, parcel.published.object_id, manifest, sources, parcel.until))
        except ConnectionError as error:
            _log.info("%s did not take a segment: %s", device.device_id, error)

    # -------------------------------------------------------------- as observer of the fleet

    async def content_changed(self, device_id: str) -> None:
        device = self._devices.fleet.get(device_id)
        for object_id, parcel in self._parcels.items():
            if device is not None and object_id in device.content:
                parcel.landed.set()

    async def connected(self, device_id: str) -> None:
        return

    async def lost(self, device_id: str) -> None:
        return

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        return

    async def reported(self, device_id: str) -> None:
        return
