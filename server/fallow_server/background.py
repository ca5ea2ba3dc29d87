"""Loops that run for as long as the program: named, kept, and never dead unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` to its end even when the caller is cancelled meanwhile, which shows after it.

    For transactions of loops that are cancelled: a connection that is cut off in the middle of one would keep
    SQLite's only writing lock for as long as the process lives.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class Background:
    """:attr:`failed` is set when a loop ended without being asked to; the program should stop then and be restarted."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(loop, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        _log.critical("background loop %r ended", task.get_name(), exc_info=task.exception())
        self.failed.set()

    async def close(self) -> None:
        """Cancel all loops and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
