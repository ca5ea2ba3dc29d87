"""What the host has to spare, besides the line: a thin driver that reads it for the decisions beside it.

Reading costs a millisecond, so it is done every few seconds; what was decided holds until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .conntrack import ConnectionTable, connections_allowed, read_table
from .disk import written_bytes
from .headroom import FULL, Headroom, SpareProcessor
from .processor import processor_times

_log = logging.getLogger(__name__)

WRITTEN_STEP_BYTES = 2**20
"""Counting is itself kept on the disk: byte by byte, each save would bring about the next one."""


class HostBudgets:
    """:param written_in_fills: bytes of content that fills have written since the start; where the kernel counts
    nothing for this process, they stand for all."""

    def __init__(
        self,
        headroom: Headroom,
        written_in_fills: Callable[[], int],
        read_table: Callable[[], ConnectionTable | None] = read_table,
        written_bytes: Callable[[], int] = written_bytes,
    ) -> None:
        self._headroom = headroom
        self._written_in_fills = written_in_fills
        self._read_table = read_table
        self._written_bytes = written_bytes
        self._written_before = written_bytes()
        self._spare = SpareProcessor()
        self._told = FULL
        self.connections_max = connections_allowed(None, behind_router=True)
        """Open connections that the home's tables bear, idle ones included."""

    @property
    def headroom_permille(self) -> int:
        """The share of every budget that processor and temperature leave."""
        return self._headroom.permille

    def read(self, temperature_c: int | None, *, behind_router: bool) -> None:
        """Read and decide anew."""
        self._spare.take(processor_times())
        self._headroom.take(self._spare.percent, temperature_c)
        if (self._headroom.permille == 0) != (self._told == 0):
            _log.info("the device is %s", "too hot or too busy to share" if self._told else "free to share again")
            self._told = self._headroom.permille
        self.connections_max = connections_allowed(self._read_table(), behind_router=behind_router)

    def written_total(self) -> int:
        """Bytes written to disks since the start, in whole steps."""
        total = max(self._written_bytes() - self._written_before, self._written_in_fills())
        return total // WRITTEN_STEP_BYTES * WRITTEN_STEP_BYTES
