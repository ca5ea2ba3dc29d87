"""Hears where requests were sent and what devices took on, looks at the fleet every five minutes, and writes it down.

Nothing here may disturb what it records: lines wait in memory and are written by a thread, the fleet is looked at in
slices, and a disk that takes nothing ends the record, not the service.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fallow_wire.session import TaskStatus

from ..background import uninterrupted
from ..catalogue.objects import Catalogue
from ..clock import Clock
from ..delivery.devices import Devices
from ..delivery.router import Routing
from ..fleet.live import LiveDevice
from ..scheduling.places import Place
from ..tasks.copies import DROP, MAKES_COPIES, SHED
from ..tasks.driver import TaskDriver
from ..tasks.states import PlacementState
from .config import Config
from .hours import Hour
from .shelf import DAY_S, VERSION, Shelf

DIRECTORY = "trace"
HOUR_S = 3600
SAMPLE_S = 300
"""Between looks at the fleet: a replay has blocks of five minutes, and sees no more."""
FLUSH_S = 60
"""So much is lost when the machine is; shorter batches take more bytes."""
BATCH_LINES = 10_000
"""Are written before their minute is over."""
LINES_MAX = 50_000
"""That wait to be written, tens of MB; what comes while the disk is slower than that is left out."""
SLICE_DEVICES = 500
"""Looked at before others have their turn; each takes some 2 µs."""
HOLDERS_MAX = 4000
"""Named of an object, which takes 10 ms: so many serve whoever asks."""
DROPS = frozenset({DROP, SHED})

_log = logging.getLogger(__name__)


class _Numbers:
    """What devices, owners and objects are called in one file."""

    def __init__(self) -> None:
        self.devices: dict[str, int] = {}
        self.owners: dict[str, int] = {}
        self.objects: dict[str, int] = {}
        self.facts: list[tuple[Place, int]] = []
        """Of each device, as they were written: its place and its quota in bytes."""


class Recorder:
    """Observer of the fleet, and :class:`~..delivery.router.RouteSink`.

    :param directory: the state directory.
    """

    def __init__(
        self, config: Config, catalogue: Catalogue, devices: Devices, driver: TaskDriver, clock: Clock, directory: Path
    ) -> None:
        self._catalogue = catalogue
        self._devices = devices
        self._driver = driver
        self._clock = clock
        self._directory = directory / DIRECTORY
        self._days = config.days
        self._shelf = Shelf(self._directory, config.days, config.bytes_max // (config.days + 1))
        self._on = False
        self._day = 0
        self._hour = Hour(0)
        self._numbers = _Numbers()
        self._lines: list[dict[str, Any]] = []
        # Lines of objects of which it is not looked up yet who holds them and how many copies are wanted.
        self._fresh: deque[tuple[dict[str, Any], str]] = deque()
        # Of task and device, the object: since the last flush, before which the driver looked at what a device said.
        self._taken_on: dict[tuple[str, int], int] = {}
        self._full = asyncio.Event()
        self._writing = asyncio.Lock()
        self._seen = 0
        self._one_in = 1

    async def start(self) -> None:
        if self._days:
            self._devices.fleet.observers.append(self)
            await self._new_file()

    async def close(self) -> None:
        await self._end_hour()
        await self.flush()
        self._on = False

    async def run(self) -> None:
        """Look and write, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_sampling(), name="samples")
            group.create_task(self._keep_flushing(), name="trace")

    async def _keep_sampling(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S - self._clock.now() % SAMPLE_S)
            await self._carefully(self.sample)

    async def _keep_flushing(self) -> None:
        while True:
            try:
                async with asyncio.timeout(FLUSH_S):
                    await self._full.wait()
            except TimeoutError:
                pass
            await self._carefully(self.flush)

    async def _carefully(self, part: Callable[[], Awaitable[None]]) -> None:
        """A loop that ends stops the server, which no record is worth."""
        try:
            await part()
        except Exception:  # noqa: BLE001  # the outermost loop of the record
            self._end()
            _log.exception("decisions are not recorded for the rest of this day")

    # -------------------------------------------------------------- what happens

    def routed(self, routing: Routing) -> None:
        if not self._on:
            return
        self._seen += 1
        if self._seen % self._one_in:
            return
        if len(self._lines) >= LINES_MAX:
            return
        line = {
            "at_ms": self._clock.now_ms(),
            "object": self._object(routing.object_id, routing.size_bytes),
            "bytes": routing.asked_bytes,
            "country": routing.place.country,
            "asn": routing.place.asn,
            "devices": [self._device(device_id) for device_id, _ in routing.sources],
            "booked_bps": [bps for _, bps in routing.sources],
        }
        if routing.origin is not None:
            line["origin"] = routing.origin
        if self._one_in > 1:
            line["one_in"] = self._one_in
        self._add(line)

    async def connected(self, device_id: str) -> None:
        return

    async def lost(self, device_id: str) -> None:
        return

    async def content_changed(self, device_id: str) -> None:
        return

    async def reported(self, device_id: str) -> None:
        return

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        """A device takes on a copy, or a drop. It tells of a task as it stands when it writes, so the first word may be
        that it is done."""
        task = self._driver.task(status.id) if self._on and status.status != "failed" else None
        placement = task.placements.get(device_id) if task is not None else None
        if task is None or placement is None or placement.state is not PlacementState.PLACED:
            return
        kind = "fill" if task.kind in MAKES_COPIES else "drop" if task.kind in DROPS else None
        if kind is None or not task.object_id or len(self._lines) >= LINES_MAX:
            return
        wanted, device = self._object(task.object_id, task.size_bytes), self._device(device_id)
        if (status.id, device) not in self._taken_on:
            self._taken_on[status.id, device] = wanted
            self._add({"at_ms": self._clock.now_ms(), "object": wanted, kind: device})

    def _add(self, line: dict[str, Any]) -> None:
        self._lines.append(line)
        if len(self._lines) >= BATCH_LINES:
            self._full.set()

    def _object(self, object_id: str, size: int) -> int:
        """Its number; at first with a line that says what it is."""
        numbers = self._numbers.objects
        found = numbers.get(object_id)
        if found is None:
            found = numbers[object_id] = len(numbers)
            line: dict[str, Any] = {"object": found, "id": object_id, "size": size, "held": []}
            self._lines.append(line)
            self._fresh.append((line, object_id))
        return found

    def _device(self, device_id: str) -> int:
        """Its number; with a line that says what it is, at first and whenever that changed."""
        numbers, device = self._numbers, self._devices.fleet.get(device_id)
        beat = device.heartbeat if device is not None else None
        facts = (self._devices.place(device_id), beat.disk.quota_bytes if beat is not None else 0)
        found = numbers.devices.get(device_id)
        if found is None:
            found = numbers.devices[device_id] = len(numbers.devices)
            numbers.facts.append(facts)
        elif numbers.facts[found] == facts or beat is None:
            return found
        numbers.facts[found] = facts
        owner = device.owner if device is not None else device_id
        self._lines.append(
            {
                "device": found,
                "id": device_id,
                "owner": numbers.owners.setdefault(owner, len(numbers.owners)),
                "country": facts[0].country,
                "asn": facts[0].asn,
                "quota_bytes": facts[1],
                "down_bps": beat.line.down_capacity_bps if beat is not None else 0,
            }
        )
        return found

    # -------------------------------------------------------------- the fleet

    async def sample(self) -> None:
        """Look at every device once, in slices; an hour or a day that is over is written first."""
        if not self._days:
            return
        if self._clock.now() // HOUR_S != self._hour.number:
            await self._end_hour()
        if self._clock.now() // DAY_S != self._day:
            await self._new_file()
        if not self._on:
            return
        self._hour.samples += 1
        for number, device in enumerate(list(self._devices.fleet.devices()), 1):
            # Gone, or come back, since the list was made.
            if self._devices.fleet.get(device.device_id) is device:
                self._look_at(device)
            if len(self._lines) >= BATCH_LINES:
                await self.flush()
            elif not number % SLICE_DEVICES:
                await asyncio.sleep(0)

    def _look_at(self, device: LiveDevice) -> None:
        beat = device.heartbeat
        if beat is None or beat.state != "active" or not device.service_urls or not self._on:
            return
        line = beat.line
        self._hour.add(
            self._device(device.device_id), line.idle_up_bps, line.own_up_bps, beat.forecast_idle_up_bps[0]
        )  # fmt: skip

    async def _end_hour(self) -> None:
        ended, self._hour = self._hour, Hour(self._clock.now() // HOUR_S)
        if not self._on:
            return
        for line in ended.lines():
            self._add(line)
            await asyncio.sleep(0)

    # -------------------------------------------------------------- writing

    async def _new_file(self) -> None:
        """What belongs to the old file is written to it; then everything has new numbers."""
        await self.flush()
        async with self._writing:
            now = self._clock.now()
            self._day, self._hour = now // DAY_S, Hour(now // HOUR_S)
            days = (_date(now), _date(now - self._days * DAY_S))
            try:
                one_in = await uninterrupted(asyncio.to_thread(self._shelf.begin, *days))
            except OSError as error:
                self._failed(error)
                return
            # What came since the flush has numbers of the old file, and is left out.
            self._numbers, self._fresh, self._seen, self._one_in = _Numbers(), deque(), 0, one_in
            self._taken_on.clear()
            self._lines = [{"fallow_trace": VERSION, "synthetic": False}]
            self._on = True

    async def flush(self) -> None:
        """Write what waits."""
        async with self._writing:
            self._full.clear()
            if not self._on or not self._lines:
                return
            # A copy that has a line of its own was not there before.
            made = {(wanted, device) for (_, device), wanted in self._taken_on.items()}
            self._taken_on.clear()
            replicas = await self._catalogue.replicas(object_id for _, object_id in self._fresh) if self._fresh else {}
            while self._fresh:
                line, object_id = self._fresh.popleft()
                line["replicas"] = replicas.get(object_id, 0)
                named, holders = self._devices.some_holders(object_id, HOLDERS_MAX), set[int]()
                for first in range(0, len(named), SLICE_DEVICES):
                    holders.update(map(self._device, named[first : first + SLICE_DEVICES]))
                    await asyncio.sleep(0)
                line["held"] = sorted(one for one in holders if (line["object"], one) not in made)
                await asyncio.sleep(0)
            lines, self._lines = self._lines, []
            try:
                one_in = await uninterrupted(asyncio.to_thread(self._shelf.append, lines))
            except OSError as error:
                self._failed(error)
                return
            if one_in is None:
                self._end()
                _log.warning(
                    "the record of decisions in %s has used its share of this day, and goes on tomorrow;"
                    " raise [recording] bytes_max to keep more", self._directory,
                )  # fmt: skip
            else:
                self._one_in = one_in

    def _end(self) -> None:
        """Until the next day, when it is tried again."""
        self._on = False
        self._lines, self._fresh = [], deque()

    def _failed(self, error: OSError) -> None:
        self._end()
        _log.error(
            "decisions are not recorded for the rest of this day: %s cannot be written: %s", self._directory,
            error.strerror,
        )  # fmt: skip


def _date(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
