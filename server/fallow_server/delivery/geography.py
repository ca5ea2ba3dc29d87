"""Keeps the tables of addresses: reads them off the loop, and again when a file changed or somebody asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from fallow_wire.errors import LocalError

from ..scheduling.places import Place
from .address_table import AddressTable, AddressTables

WATCH_S = 60
"""How often the files are looked at; they change once a day."""

_log = logging.getLogger(__name__)


class Geography:
    """Where addresses are. Nothing of an address that is asked for is kept.

    :param files: CSV or CSV.gz; empty: nobody is anywhere.
    """

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = tuple(Path(name) for name in files)
        self._tables = AddressTables()
        self._seen: tuple[tuple[int, int] | None, ...] | None = None
        self._asked = asyncio.Event()

    def place_of(self, address: str) -> Place:
        return self._tables.place_of(address)

    def reload(self) -> None:
        """Read the files again soon, changed or not."""
        self._seen = None
        self._asked.set()

    async def load(self) -> bool:
        """Read the files when they changed since the last time.

        A file that cannot be used is said in the log, and what was known before goes on to count.

        :returns: whether what is known may have changed.
        """
        seen = await asyncio.to_thread(self._stamps)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            tables = await asyncio.to_thread(lambda: [AddressTable.read(file) for file in self._files])
        except LocalError as error:
            _log.error("the table of addresses cannot be used, routing goes on with what was known before: %s", error)
            return False
        self._tables = AddressTables(tables)
        for file, table in zip(self._files, tables, strict=True):
            kind = "countries" if table.of_countries else "networks"
            _log.info("%s: %d ranges of %s, %.1f MB", file, len(table), kind, table.size_bytes / 1e6)
        return True

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Follow the files until cancelled. ``changed`` is awaited after each time that they were read."""
        while True:
            self._asked.clear()
            if self._files and await self.load():
                await changed()
            try:
                async with asyncio.timeout(WATCH_S if self._files else None):
                    await self._asked.wait()
            except TimeoutError:
                pass

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        found: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_size))
            except OSError:
                found.append(None)
        return tuple(found)
