"""Tasks of one kind in their turn: what waits, what runs, and what may stop it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fallow_wire.errors import FallowError
from fallow_wire.probes import ProbeResult
from fallow_wire.session import Task, TaskStatus

_log = logging.getLogger(__name__)

REASON_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task came to. ``result`` is sent to the scheduler with it."""

    bytes_done: int = 0
    result: ProbeResult | None = None


class Work(Protocol):
    """What the device does for one kind of task.

    ``at_once``: tasks that run at a time. ``waiting_max``, ``waiting_bytes_max``: of those that wait their turn, and of
    their manifests as received; the scheduler places further ones elsewhere.
    """

    at_once: int
    waiting_max: int
    waiting_bytes_max: int

    def fault(self, task: Task) -> str | None:
        """Why it cannot be done at all, or None."""

    async def do(self, task: Task, progress: Callable[[int], None]) -> Outcome:
        """Do it. Cancelled, it leaves all as it is, and may be called for the same task again.

        :param progress: takes the bytes so far, as often as one likes.
        :raises FallowError: with the reason, when it cannot be done here.
        """


class Lane:
    """:param note: takes a status that the scheduler shall know. :param progress_s: how often progress is noted."""

    def __init__(self, work: Work, note: Callable[[TaskStatus], None], progress_s: float) -> None:
        self._work = work
        self._note = note
        self._progress_s = progress_s
        self._waiting: OrderedDict[str, Task] = OrderedDict()
        """Those that run included: a paused one keeps its place."""
        self._running: dict[str, asyncio.Task[Outcome]] = {}
        self._changed = asyncio.Event()
        self._allowed = False
        self._waits_because: str | None = None
        self._told: dict[str, TaskStatus] = {}

    def accept(self, task: Task) -> None:
        if task.id in self._waiting:
            return
        fault = self._work.fault(task)
        waiting_bytes = sum(len(waiting.manifest or "") for waiting in self._waiting.values())
        full = waiting_bytes + len(task.manifest or "") > self._work.waiting_bytes_max
        if fault is None and (full or len(self._waiting) - len(self._running) >= self._work.waiting_max):
            fault = "too many tasks wait here"
        if fault is not None:
            self._note(TaskStatus(task.id, "failed", reason=fault))
            return
        self._waiting[task.id] = task
        self._tell(TaskStatus(task.id, "accepted", reason=self._waits_because))
        self._changed.set()

    def waiting_for(self, object_id: str) -> list[str]:
        """Tasks about the object that are not done."""
        return [task.id for task in self._waiting.values() if task.object == object_id]

    def cancel(self, task_id: str) -> None:
        self._waiting.pop(task_id, None)
        self._told.pop(task_id, None)
        if task_id in self._running:
            self._running[task_id].cancel()

    def allow(self, allowed: bool, reason: str | None = None) -> None:
        """Go on, or stop within a second what runs until allowed again; ``reason`` is told meanwhile."""
        self._allowed = allowed
        if not allowed:
            for work in self._running.values():
                work.cancel()
        if reason != self._waits_because:
            self._waits_because = reason
            for task_id in self._waiting:
                self._tell(dataclasses.replace(self._told[task_id], reason=reason))
        self._changed.set()

    async def run(self) -> None:
        """Do what waits until cancelled."""
        try:
            while True:
                self._changed.clear()
                self._begin()
                await self._changed.wait()
        finally:
            running = list(self._running.values())
            for work in running:
                work.cancel()
            if running:
                await asyncio.wait(running)

    def _begin(self) -> None:
        ready = [task for task in self._waiting.values() if task.id not in self._running] if self._allowed else []
        for task in ready[: self._work.at_once - len(self._running)]:
            self._tell(TaskStatus(task.id, "running"))
            work = asyncio.get_running_loop().create_task(self._do(task), name=f"{task.kind}-{task.id}")
            self._running[task.id] = work
            work.add_done_callback(lambda ended, task=task: self._end(task, ended))  # type: ignore[misc]

    async def _do(self, task: Task) -> Outcome:
        loop = asyncio.get_running_loop()
        told_at = loop.time()

        def progress(bytes_done: int) -> None:
            nonlocal told_at
            if loop.time() - told_at >= self._progress_s:
                told_at = loop.time()
                self._tell(TaskStatus(task.id, "running", bytes_done))

        return await self._work.do(task, progress)

    def _end(self, task: Task, work: asyncio.Task[Outcome]) -> None:
        del self._running[task.id]
        self._changed.set()
        if work.cancelled():
            return  # paused: it stays first in line; cancelled: it was taken out
        self._waiting.pop(task.id, None)
        self._told.pop(task.id, None)
        error = work.exception()
        if error is None:
            outcome = work.result()
            self._note(TaskStatus(task.id, "done", outcome.bytes_done, result=outcome.result))
        elif isinstance(error, FallowError):
            _log.info("%s task %s failed: %s", task.kind, task.id, error.detail)
            self._note(TaskStatus(task.id, "failed", reason=(error.detail or error.slug)[:REASON_CHARS_MAX]))
        else:
            _log.error("%s task %s failed", task.kind, task.id, exc_info=error)
            self._note(TaskStatus(task.id, "failed", reason="the device failed; its log tells more"))

    def _tell(self, status: TaskStatus) -> None:
        self._told[status.id] = status
        self._note(status)
