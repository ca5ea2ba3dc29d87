"""Copies that follow demand, as a part of the scheduler."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ..background import uninterrupted
from ..catalogue.objects import Catalogue
from ..clock import Clock
from ..delivery.devices import Devices
from ..scheduling.demand import Demands
from ..scheduling.filters import Config as FilterConfig
from ..scheduling.places import Place
from ..tasks.driver import TaskDriver
from . import memory
from .config import Config
from .rounds import Spreading

FILE_NAME = "demand.jsonl"

_log = logging.getLogger(__name__)


class SpreadingService:
    """:param directory: where the demand is remembered."""

    def __init__(
        self,
        config: Config,
        filters: FilterConfig,
        catalogue: Catalogue,
        devices: Devices,
        driver: TaskDriver,
        clock: Clock,
        directory: Path,
    ) -> None:
        self._config = config
        self._file = directory / FILE_NAME
        self.demand = Demands(config.demand)
        self.spreading = Spreading(config, filters, catalogue, devices, driver, lambda: self.demand, clock)

    def note(self, object_id: str, place: Place, bytes_: int, now: float) -> None:
        """A consumer at ``place`` asks for so many bytes. ``now``: Unix seconds."""
        self.demand.note(object_id, place, bytes_, now)

    async def start(self) -> None:
        self.demand = await asyncio.to_thread(memory.read, self._file, self._config.demand)
        self.spreading.start()

    async def close(self) -> None:
        await self.save()

    async def save(self) -> None:
        try:
            await uninterrupted(asyncio.to_thread(memory.write, self._file, self.demand.saved()))
        except OSError as error:
            _log.error("the demand cannot be written to %s: %s", self._file, error.strerror)

    async def run(self) -> None:
        """Place and save, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.spreading.run(), name="placement")
            group.create_task(self._keep_saving(), name="demand")

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(self._config.save_s)
            await self.save()
