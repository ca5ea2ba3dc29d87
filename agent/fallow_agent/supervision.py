"""Named tasks that are kept. One that fails stops the agent, so that the service manager starts a whole one again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 0.5


class Tasks:
    """The running loops of the agent, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until it ends or :meth:`stop` is called with its name, which must be free."""
        assert name not in self._tasks, f"{name} runs already"
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)

    def replace(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in place of what ran under ``name``, which is cancelled if it has not ended yet."""
        before = self._tasks.pop(name, None)
        if before is not None and before is not asyncio.current_task():
            before.cancel()
        self.start(name, work)

    async def stop(self, *names: str) -> None:
        """Cancel those that run and wait until they have ended."""
        pending = {self._tasks[name] for name in names if name in self._tasks}
        while pending:
            for task in pending:
                task.cancel()
            # Before Python 3.12 asyncio.wait_for, which libraries use, loses a cancellation that comes with its result.
            _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)

    async def stop_all(self) -> None:
        await self.stop(*self._tasks)

    async def failure(self) -> None:
        """Wait until a task has failed."""
        if self._failed is None:
            self._failed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._failed)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._tasks.get(task.get_name()) is task:
            del self._tasks[task.get_name()]
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        _log.error("%s failed", task.get_name(), exc_info=error)
        if self._failed is None:
            self._failed = asyncio.get_running_loop().create_future()
        if not self._failed.done():
            self._failed.set_result(None)
