"""Who sends now: as many transfers at once as the budget carries well. The others wait their turn, in order.

Sixty transfers that share 10 Mbit/s all end late, each begins with ten packets that no pace holds back, and shares of a
packet now and then come in bursts with all the others': the queue that our pacing is there to avoid. A few at a time
fill the line as well, and most are served sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .connection import Connection, Disconnected

AT_ONCE_MIN = 4
"""Transfers: the consumer of one may read slowly, or be between two requests; the others fill the line."""
TRANSFER_BPS = 2_000_000
"""A chunk takes four seconds then, and a film plays."""
SLOW_S = 8.0
"""Twice what a chunk takes. Whoever takes longer makes room for one more, and goes on: it may be the consumer that is
slow."""
WAIT_S_MAX = 30.0
"""Whoever still waits then is better served elsewhere."""


class Turns:
    """:param rate_bps: the budget of now."""

    def __init__(self, rate_bps: Callable[[], int]) -> None:
        self._rate_bps = rate_bps
        self._turns: dict[object, float] = {}
        """Transfers that send, and when each began; in that order."""
        self._waiting: dict[object, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """A transfer that begins now has to wait."""
        return bool(self._waiting) or not self._has_room()

    @asynccontextmanager
    async def turn(self, connection: Connection, stall_s: float) -> AsyncIterator[None]:
        """:param stall_s: how long the connection may do nothing after a turn has come.

        :raises Disconnected: the consumer went away, or none came in time.
        """
        loop, turn = asyncio.get_running_loop(), object()
        if self.full:
            until = loop.time() + WAIT_S_MAX
            connection.deadline = until + stall_s
            self._waiting[turn] = connection.wake
            self._look_again()
            try:
                while turn not in self._turns:
                    if not await connection.woken(max(0.0, until - loop.time())):
                        raise Disconnected
            except BaseException:
                self._waiting.pop(turn, None)
                self._leave(turn)
                raise
            connection.deadline = loop.time() + stall_s
        else:
            self._turns[turn] = loop.time()
        try:
            yield
        finally:
            self._leave(turn)

    def _has_room(self) -> bool:
        at_once = max(AT_ONCE_MIN, self._rate_bps() // TRANSFER_BPS)
        if len(self._turns) < at_once:
            return True
        since = asyncio.get_running_loop().time() - SLOW_S
        return sum(began > since for began in self._turns.values()) < at_once

    def _leave(self, turn: object) -> None:
        if self._turns.pop(turn, None) is not None:
            self._give()

    def _give(self) -> None:
        """Turns to who waits, as far as there is room."""
        while self._waiting and self._has_room():
            turn = next(iter(self._waiting))
            wake = self._waiting.pop(turn)
            self._turns[turn] = asyncio.get_running_loop().time()
            wake()
        self._look_again()

    def _look_again(self) -> None:
        """When the first of those that send has had its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            began = (at for at in self._turns.values() if at > loop.time() - SLOW_S)
            self._timer = loop.call_at(next(began, loop.time()) + SLOW_S, self._give)
