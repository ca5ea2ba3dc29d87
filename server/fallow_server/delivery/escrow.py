"""What tickets may promise: points borrowed from each publisher's escrow, an hour at a time.

A ticket takes its worst-case cost from the hour's lease before it is issued. Leases are borrowed from the ledger in
lumps and topped up in the background. After a restart a new lease is borrowed; what is left of the old one returns
to the publisher when the ledger releases the hour.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from ..clock import Clock
from ..link import LedgerUnreachable
from .config import Config

HOUR_S = 3600
PUBLISHERS_MAX = 10_000
"""Leases kept in memory; those of hours gone by are dropped when there are more."""

_log = logging.getLogger(__name__)


class Reservations(Protocol):
    """The ledger's side: :meth:`fallow_server.link.Link.reserve`."""

    async def reserve(self, publisher: str, hour: int, micro_points: int) -> int:
        """What was granted, 0 … ``micro_points``. :raises LedgerUnreachable: when nobody knows."""


@dataclass(slots=True)
class _Lease:
    """``left``: µp that tickets of ``hour`` may still promise. ``tickets``: size of the next lump, in tickets."""

    hour: int
    left: int
    tickets: int
    refused_until: float = 0.0
    refused: bool = False
    top_up: asyncio.Task[None] | None = None


class Escrow:
    def __init__(self, config: Config, link: Reservations, clock: Clock) -> None:
        self._config = config
        self._link = link
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def is_funded(self, publisher: str) -> bool:
        """Whether the ledger lends anything to the publisher's tickets; it is asked where that is not known."""
        lease = self._lease(publisher, self._clock.now() // HOUR_S)
        if lease.left == 0:
            task = self._top_up(publisher, lease, 1)
            if task is not None:
                await asyncio.wait([task], timeout=self._config.ledger_wait_s_max)
        return lease.left > 0 or not lease.refused

    async def take(self, publisher: str, micro_points: int) -> int | None:
        """Promise ``micro_points`` of the publisher's escrow to one ticket.

        :returns: the Unix time that the ticket must be issued at, for the lease is for its hour; None when the escrow
            is empty or the ledger does not answer within ``ledger_wait_s_max``.
        """
        now = self._clock.now()
        lease = self._lease(publisher, now // HOUR_S)
        if lease.left < micro_points:
            waited = await self._wait(publisher, micro_points)
            if waited is None:
                return None
            now, lease = waited
        lease.left -= micro_points
        if lease.left < micro_points * lease.tickets // 4:
            self._top_up(publisher, lease, micro_points)
        return now

    async def _wait(self, publisher: str, micro_points: int) -> tuple[int, _Lease] | None:
        """Until the hour's lease covers so many µp."""
        try:
            async with asyncio.timeout(self._config.ledger_wait_s_max):
                while True:
                    now = self._clock.now()
                    lease = self._lease(publisher, now // HOUR_S)
                    if lease.left >= micro_points:
                        return now, lease
                    task = self._top_up(publisher, lease, micro_points)
                    if task is None:
                        return None
                    await asyncio.shield(task)
        except TimeoutError:
            return None

    def _lease(self, publisher: str, hour: int) -> _Lease:
        lease = self._leases.get(publisher)
        if lease is not None and lease.hour == hour:
            return lease
        if len(self._leases) >= PUBLISHERS_MAX:
            self._leases = {name: known for name, known in self._leases.items() if known.hour == hour}
        least = self._config.lease_tickets_min
        fresh = _Lease(hour, 0, least if lease is None else max(least, lease.tickets // 4))
        if lease is not None:
            fresh.refused, fresh.refused_until = lease.refused, lease.refused_until
        self._leases[publisher] = fresh
        return fresh

    def _top_up(self, publisher: str, lease: _Lease, micro_points: int) -> asyncio.Task[None] | None:
        """The one top-up that is under way for the lease, or None when it is too early to ask again."""
        if lease.top_up is not None:
            return lease.top_up
        if self._clock.monotonic() < lease.refused_until:
            return None
        lump = micro_points * lease.tickets
        task = asyncio.create_task(self._borrow(publisher, lease, lump), name=f"escrow of {publisher}")
        lease.top_up = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _borrow(self, publisher: str, lease: _Lease, lump: int) -> None:
        try:
            granted = await self._link.reserve(publisher, lease.hour, lump)
        except LedgerUnreachable as error:
            _log.warning("no escrow for %s: %s", publisher, error.detail)
            lease.refused = True
            lease.refused_until = self._clock.monotonic() + self._config.ledger_refused_s
            return
        finally:
            lease.top_up = None
        lease.left += granted
        lease.refused = granted == 0
        if granted < lump:
            # The escrow is at its end: what was granted may be used, and a deposit shows when this time is over.
            lease.refused_until = self._clock.monotonic() + self._config.ledger_refused_s
        else:
            lease.tickets = min(self._config.lease_tickets_max, lease.tickets * 2)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
