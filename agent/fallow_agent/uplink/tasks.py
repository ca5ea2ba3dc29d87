"""Tasks that the scheduler assigns: each kind in its lane, drops at once, and told about until the scheduler knows.

Live streams take no turns (:mod:`.live`).

What a task came to is kept until the scheduler has forgotten the task too, so that a session that broke in between
costs no result.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from fallow_wire.errors import FallowError, PeerError
from fallow_wire.keys import PublicKey
from fallow_wire.limits import MANIFEST_BYTES_MAX
from fallow_wire.manifest import SignedManifest, verify_manifest
from fallow_wire.session import Task, TaskStatus

from .lanes import Lane, Outcome, Work
from .live import LIVE, LiveStreams

REMEMBERED_MAX = 200
"""Results kept for a scheduler that comes back; the oldest finished ones go first."""
PROGRESS_S = 5.0
"""How often a running task says how far it is."""

Fill = Callable[[Task, SignedManifest, Callable[[int], None]], Awaitable[None]]


class Content(Protocol):
    def has(self, object_id: str) -> bool: ...

    def drop(self, object_id: str) -> bool: ...


class Fills:
    """Objects are fetched one after the other: two at a time would each take twice as long.

    :param fill: fetches and verifies an object; raises FallowError with the reason when it cannot.
    :param keys: the scheduler's keys by ``kid``.
    """

    at_once = 1
    waiting_max = 100
    waiting_bytes_max = 2 * MANIFEST_BYTES_MAX
    """A router has little memory, and one manifest may have 16 MiB."""

    def __init__(self, content: Content, fill: Fill, keys: Callable[[], dict[str, PublicKey]]) -> None:
        self._content = content
        self._fill = fill
        self._keys = keys

    def fault(self, task: Task) -> str | None:
        whole = task.object is not None and task.manifest is not None and task.sources
        return None if whole else "the task lacks object, manifest or sources"

    async def do(self, task: Task, progress: Callable[[int], None]) -> Outcome:
        """Verify the manifest, then fill. A large manifest takes a second: not in the loop."""
        assert task.manifest is not None
        try:
            signed = await asyncio.to_thread(verify_manifest, task.manifest, self._keys(), task.object)
        except PeerError as error:
            raise FallowError(f"manifest refused: {error.detail}") from None
        if not self._content.has(signed.object_id):
            await self._fill(task, signed, progress)
        return Outcome(signed.manifest.size)


FILL, PULL = "fill", "pull"
WRITING = frozenset({FILL, PULL})
"""Kinds of tasks that write to the disk."""


def fills_of(content: Content, fill: Fill, hold: Fill, keys: Callable[[], dict[str, PublicKey]]) -> dict[str, Work]:
    """What the device does for tasks about objects. :param hold: fetches nothing yet, and then what is asked of it."""
    return {FILL: Fills(content, fill, keys), PULL: Fills(content, hold, keys)}


class TaskRunner:
    """:param works: what this device does, by kind of task. :param send: tells the scheduler, if there is a session."""

    def __init__(
        self,
        content: Content,
        works: Mapping[str, Work],
        send: Callable[[TaskStatus], None],
        live: LiveStreams | None = None,
    ) -> None:
        self._content = content
        self._send = send
        self._lanes: dict[str, Lane | LiveStreams] = {
            kind: Lane(work, self._note, PROGRESS_S) for kind, work in works.items()
        }
        if live is not None:
            self._lanes[LIVE] = live
            live.tell = self._note
        self._statuses: OrderedDict[str, TaskStatus] = OrderedDict()

    # -------------------------------------------------------------- orders

    def take(self, task: Task) -> None:
        """A task has come; perhaps again, after a session broke."""
        known = self._statuses.get(task.id)
        if known is not None and known.status != "failed" and task.kind != LIVE:
            self._send(known)
            return
        if task.kind == "drop":
            self._drop(task)
        elif task.kind in self._lanes:
            self._lanes[task.kind].accept(task)
        else:
            self._note(TaskStatus(task.id, "failed", reason=f"this version does not do {task.kind} tasks"))

    def cancel(self, task_id: str) -> None:
        """Stop working on it. What was fetched stays on disk, to be resumed or made room of."""
        self._statuses.pop(task_id, None)
        for lane in self._lanes.values():
            lane.cancel(task_id)

    def statuses(self) -> list[TaskStatus]:
        """All that is known, oldest first."""
        return list(self._statuses.values())

    def pause(self, reason: str | None = None, kinds: Collection[str] | None = None) -> None:
        """Stop what is under way within a second; it goes on after :meth:`resume`. ``reason`` is told meanwhile.

        :param kinds: of these tasks only, and let the others go on; all where None.
        """
        for kind, lane in self._lanes.items():
            stopped = kinds is None or kind in kinds
            lane.allow(not stopped, reason if stopped else None)

    def resume(self) -> None:
        self.pause(kinds=())

    def _drop(self, task: Task) -> None:
        if task.object is None:
            self._note(TaskStatus(task.id, "failed", reason="the task names no object"))
            return
        for lane in self._lanes.values():
            for waiting_id in lane.waiting_for(task.object):
                self.cancel(waiting_id)
        self._content.drop(task.object)
        self._note(TaskStatus(task.id, "done"))

    # -------------------------------------------------------------- work

    async def run(self) -> None:
        """Do what waits until cancelled."""
        loop = asyncio.get_running_loop()
        running = [loop.create_task(lane.run(), name=f"{kind} tasks") for kind, lane in self._lanes.items()]
        try:
            await asyncio.gather(*running)
        finally:
            for lane in running:
                lane.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _note(self, status: TaskStatus) -> None:
        self._statuses[status.id] = status
        self._statuses.move_to_end(status.id)
        if len(self._statuses) > REMEMBERED_MAX:
            finished = (i for i, known in self._statuses.items() if known.status in ("done", "failed"))
            del self._statuses[next(finished, status.id)]
        self._send(status)
