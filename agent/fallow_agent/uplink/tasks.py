"""Tasks that the scheduler assigns: filled one after the other, dropped at once, and told about until it knows.

Live streams are carried beside them (:mod:`.live`).

What a task came to is kept until the scheduler has forgotten the task too, so that a session that broke in between
costs no result.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from fallow_wire.errors import FallowError, PeerError
from fallow_wire.keys import PublicKey
from fallow_wire.limits import MANIFEST_BYTES_MAX
from fallow_wire.manifest import SignedManifest, verify_manifest
from fallow_wire.session import Task, TaskStatus

from .live import LiveStreams

_log = logging.getLogger(__name__)

WAITING_MAX = 100
"""Fills that wait their turn; the scheduler places further ones elsewhere."""
WAITING_BYTES_MAX = 2 * MANIFEST_BYTES_MAX
"""Of their manifests, as received: a router has little memory, and one manifest may have 16 MiB."""
REMEMBERED_MAX = 200
"""Results kept for a scheduler that comes back; the oldest finished ones go first."""
PROGRESS_S = 5.0
"""How often a running fill says how far it is."""
REASON_CHARS_MAX = 256

Fill = Callable[[Task, SignedManifest, Callable[[int], None]], Awaitable[None]]


class Content(Protocol):
    def has(self, object_id: str) -> bool: ...

    def drop(self, object_id: str) -> bool: ...


class TaskRunner:
    """:param fill: fetches and verifies an object; raises FallowError with the reason when it cannot.
    :param keys: the scheduler's keys by ``kid``. :param send: tells the scheduler, if there is a session.
    :param now: Unix seconds."""

    def __init__(
        self,
        content: Content,
        fill: Fill,
        keys: Callable[[], dict[str, PublicKey]],
        send: Callable[[TaskStatus], None],
        now: Callable[[], int],
    ) -> None:
        self._content = content
        self._fill = fill
        self._keys = keys
        self._send = send
        self._waiting: OrderedDict[str, Task] = OrderedDict()
        self._statuses: OrderedDict[str, TaskStatus] = OrderedDict()
        self._arrived = asyncio.Event()
        self._running: tuple[str, asyncio.Task[int]] | None = None
        self._allowed = False
        self._waits_because: str | None = None
        self._live = LiveStreams(content, fill, keys, self._note, now)

    # -------------------------------------------------------------- orders

    def take(self, task: Task) -> None:
        """A task has come; perhaps again, after a session broke."""
        if task.kind == "live":
            self._live.take(task)
            return
        known = self._statuses.get(task.id)
        if known is not None and known.status != "failed":
            self._send(known)
            return
        if task.kind == "drop":
            self._drop(task)
        elif task.kind == "fill":
            self._accept(task)
        else:
            self._note(TaskStatus(task.id, "failed", reason=f"this version does not do {task.kind} tasks"))

    def cancel(self, task_id: str) -> None:
        """Stop working on it. What was fetched stays on disk, to be resumed or made room of."""
        self._waiting.pop(task_id, None)
        self._statuses.pop(task_id, None)
        self._live.leave(task_id)
        if self._running is not None and self._running[0] == task_id:
            self._running[1].cancel()

    def statuses(self) -> list[TaskStatus]:
        """All that is known, oldest first."""
        return list(self._statuses.values())

    def pause(self, reason: str | None = None, *, live: bool = True) -> None:
        """Stop the fill under way within a second; it goes on after :meth:`resume`. ``reason`` is told meanwhile.

        :param live: False lets live streams go on.
        """
        if self._running is not None:
            self._running[1].cancel()
        if live:
            self._live.pause()
        else:
            self._live.resume()
        self._allow(False, reason)

    def resume(self) -> None:
        if not self._allowed:
            self._arrived.set()
        self._live.resume()
        self._allow(True, None)

    def _allow(self, allowed: bool, reason: str | None) -> None:
        self._allowed = allowed
        if reason != self._waits_because:
            self._waits_because = reason
            for task_id in self._waiting:
                self._note(dataclasses.replace(self._statuses[task_id], reason=reason))

    def _drop(self, task: Task) -> None:
        if task.object is None:
            self._note(TaskStatus(task.id, "failed", reason="the task names no object"))
            return
        for waiting_id in [i for i, waiting in self._waiting.items() if waiting.object == task.object]:
            self.cancel(waiting_id)
        self._content.drop(task.object)
        self._note(TaskStatus(task.id, "done"))

    def _accept(self, task: Task) -> None:
        if task.id in self._waiting or (self._running is not None and self._running[0] == task.id):
            return
        if task.object is None or task.manifest is None or not task.sources:
            self._note(TaskStatus(task.id, "failed", reason="the task lacks object, manifest or sources"))
            return
        waiting_bytes = sum(len(waiting.manifest or "") for waiting in self._waiting.values())
        if len(self._waiting) >= WAITING_MAX or waiting_bytes + len(task.manifest) > WAITING_BYTES_MAX:
            self._note(TaskStatus(task.id, "failed", reason="too many tasks wait here"))
            return
        self._waiting[task.id] = task
        self._note(TaskStatus(task.id, "accepted", reason=self._waits_because))
        self._arrived.set()

    # -------------------------------------------------------------- work

    async def run(self) -> None:
        """Fill what waits, one after the other, and carry live streams, until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._live.run(), name="live-streams")
            both.create_task(self._fill_what_waits(), name="fills")

    async def _fill_what_waits(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._allowed or not self._waiting:
                self._arrived.clear()
                continue
            await self._work(next(iter(self._waiting.values())))

    async def _work(self, task: Task) -> None:
        self._note(TaskStatus(task.id, "running"))
        work = asyncio.get_running_loop().create_task(self._do(task), name=f"fill-{task.id}")
        self._running = (task.id, work)
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait((work,))
            raise
        finally:
            self._running = None
        if work.cancelled():
            return  # paused: it stays first in line; cancelled: it was taken out
        self._waiting.pop(task.id, None)
        error = work.exception()
        if error is None:
            self._note(TaskStatus(task.id, "done", work.result()))
        elif isinstance(error, FallowError):
            _log.info("fill of %s failed: %s", task.object, error.detail)
            self._note(TaskStatus(task.id, "failed", reason=(error.detail or error.slug)[:REASON_CHARS_MAX]))
        else:
            _log.error("fill of %s failed", task.object, exc_info=error)
            self._note(TaskStatus(task.id, "failed", reason="the device failed; its log tells more"))

    async def _do(self, task: Task) -> int:
        """Verify the manifest, then fill; gives the object's size. A large manifest takes a second: not in the loop."""
        assert task.manifest is not None
        try:
            signed = await asyncio.to_thread(verify_manifest, task.manifest, self._keys(), task.object)
        except PeerError as error:
            raise FallowError(f"manifest refused: {error.detail}") from None
        loop = asyncio.get_running_loop()
        told_at = loop.time()

        def progress(bytes_done: int) -> None:
            nonlocal told_at
            if loop.time() - told_at >= PROGRESS_S:
                told_at = loop.time()
                self._note(TaskStatus(task.id, "running", bytes_done))

        if not self._content.has(signed.object_id):
            await self._fill(task, signed, progress)
        return signed.manifest.size

    def _note(self, status: TaskStatus) -> None:
        self._statuses[status.id] = status
        self._statuses.move_to_end(status.id)
        if len(self._statuses) > REMEMBERED_MAX:
            finished = (i for i, known in self._statuses.items() if known.status in ("done", "failed"))
            del self._statuses[next(finished, status.id)]
        self._send(status)
