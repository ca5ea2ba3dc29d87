"""Heartbeats that came, read together some times a second.

One by one, each would find the processor's caches full of other things, for a socket, a task and the kernel come
between, and cost twice as much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from .live import LiveDevice

READ_EVERY_S = 0.1
READ_AT_ONCE = 20
"""Before others have their turn on the loop: 1 ms; 3 ms of devices' first ones."""
WAITING_MAX = 5000
"""Texts of some 1 KiB; then whoever brings one waits until they are read. A hundred thousand devices send 330 in the
time."""


class Inbox:
    """:param act: deals with the text that a device sent, and raises nothing."""

    def __init__(self, act: Callable[[LiveDevice, str], Awaitable[None]]) -> None:
        self._act = act
        self._waiting: deque[tuple[LiveDevice, str]] = deque()
        self._some = asyncio.Event()
        self._reading = asyncio.Lock()

    async def put(self, device: LiveDevice, text: str) -> None:
        if len(self._waiting) >= WAITING_MAX:
            await self.empty()
        self._waiting.append((device, text))
        self._some.set()

    async def empty(self) -> None:
        """Deal with all that came until now, in the order in which it came."""
        async with self._reading:
            read = 0
            while self._waiting:
                await self._act(*self._waiting.popleft())
                read += 1
                if read % READ_AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(READ_EVERY_S)
            self._some.clear()
            await self.empty()
