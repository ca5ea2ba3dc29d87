"""Turns at the origin: of one object a few chunks go to devices at a time, the others wait for theirs.

Twenty devices that fetch a chunk each from a slow origin would all have it at the same late moment, and their lines lie
idle until then; one after the other, the first serves its consumers while the last still waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

AT_ONCE = 3
HELPS_AT_ONCE = 8
"""Consumers that have devices too and want help, of one object; none while devices wait or have their turn, for what
these get serves many. A device that takes long does not count: the line is not what it waits for."""
SLOW_S = 3.0
"""Who takes longer makes room: then it is the taker that is slow, or others have the origin's line."""
WAITING_MAX = 1000
"""Of one object. Each is a connection."""


class TooManyWait(Exception):
    """There is no room in the queue."""


class Busy(Exception):
    """No help now."""


class Turns:
    """By object; in the order in which they came."""

    def __init__(self, at_once: int = AT_ONCE, slow_s: float = SLOW_S) -> None:
        self._at_once = at_once
        self._slow_s = slow_s
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """Objects that somebody has a turn at, or waits for."""
        return len(self._queues)

    @asynccontextmanager
    async def turn(self, object_id: str) -> AsyncIterator[None]:
        """:raises TooManyWait: at once."""
        queue = self._queue(object_id)
        if queue.turns >= WAITING_MAX:
            raise TooManyWait
        queue.turns += 1
        try:
            await queue.room.acquire()
            slow = False

            def make_room() -> None:
                nonlocal slow
                slow = True
                queue.slow += 1
                queue.room.release()

            timer = asyncio.get_running_loop().call_later(self._slow_s, make_room)
            try:
                yield
            finally:
                timer.cancel()
                if slow:
                    queue.slow -= 1
                else:
                    queue.room.release()
        finally:
            queue.turns -= 1
            self._forget_unused(object_id, queue)

    @contextmanager
    def help(self, object_id: str) -> Iterator[None]:
        """:raises Busy: at once."""
        queue = self._queue(object_id)
        if queue.turns > queue.slow or queue.helps >= HELPS_AT_ONCE:
            self._forget_unused(object_id, queue)
            raise Busy
        queue.helps += 1
        try:
            yield
        finally:
            queue.helps -= 1
            self._forget_unused(object_id, queue)

    def _queue(self, object_id: str) -> _Queue:
        if object_id not in self._queues:
            self._queues[object_id] = _Queue(asyncio.Semaphore(self._at_once))
        return self._queues[object_id]

    def _forget_unused(self, object_id: str, queue: _Queue) -> None:
        if not queue.turns and not queue.helps:
            self._queues.pop(object_id, None)


class _Queue:
    """``turns``: who waits for one or has it; ``slow``: those of them who have made room."""

    __slots__ = ("helps", "room", "slow", "turns")

    def __init__(self, room: asyncio.Semaphore) -> None:
        self.room = room
        self.turns = 0
        self.slow = 0
        self.helps = 0
