"""Live streams that the device helps to carry: segments come as orders, are held while players want them, and go.

The device joins a stream when it is told to and says so; from then on each segment is one message with its signed
manifest. Segments do not wait behind ordinary fills, for after some seconds nobody wants them. What was verified is
served like any object and is dropped by the device itself when its time is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from fallow_wire.errors import FallowError, PeerError
from fallow_wire.keys import PublicKey
from fallow_wire.manifest import SignedManifest, verify_manifest
from fallow_wire.session import Task, TaskStatus

_log = logging.getLogger(__name__)

LIVE = "live"
STREAMS_MAX = 8
"""Joined at once; a home line carries fewer."""
SEGMENTS_MAX = 16
"""Under way at once, of all streams: seconds of video. What does not fit in is late already."""
HELD_MAX = 1000
"""Segments held at once, of all streams; a minute of each is some thirty."""
HELD_S_MAX = 900
"""However long a scheduler wants a segment: what is to be held for longer is no segment of a live stream."""
MISSED_MAX = 3
"""Segments in a row that did not come: others serve the stream better."""

Fill = Callable[[Task, SignedManifest, Callable[[int], None]], Awaitable[None]]


class Content(Protocol):
    def has(self, object_id: str) -> bool: ...

    def drop(self, object_id: str) -> bool: ...


@dataclass(slots=True)
class _Stream:
    """``until``: Unix seconds, None while it is not known to end. ``missed``: segments in a row that did not come.
    ``works``: those that are fetched, by object."""

    until: int | None
    bytes_done: int = 0
    missed: int = 0
    works: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class LiveStreams:
    """:param fill: fetches and verifies an object; raises FallowError with the reason when it cannot.
    :param keys: the scheduler's keys by ``kid``. :param now: Unix seconds.

    ``tell``: takes a status that the scheduler shall know.
    """

    def __init__(
        self,
        content: Content,
        fill: Fill,
        keys: Callable[[], dict[str, PublicKey]],
        now: Callable[[], int],
    ) -> None:
        self._content = content
        self._fill = fill
        self._keys = keys
        self.tell: Callable[[TaskStatus], None] = lambda status: None
        self._now = now
        self._streams: dict[str, _Stream] = {}
        self._held: OrderedDict[str, int] = OrderedDict()
        """Until when (Unix seconds), by object."""
        self._changed = asyncio.Event()
        self._allowed = False

    def accept(self, task: Task) -> None:
        """An order: to join a stream, or a segment of one that was joined."""
        stream = self._streams.get(task.id)
        if task.object is None:
            self._join(task, stream)
        elif stream is not None and self._allowed:
            self._begin(task, stream)

    def waiting_for(self, object_id: str) -> list[str]:
        """Streams do not wait for an object."""
        return []

    def cancel(self, stream_id: str) -> None:
        """Leave a stream: no further segments; those that are held stay their time."""
        stream = self._streams.pop(stream_id, None)
        for work in () if stream is None else stream.works.values():
            work.cancel()

    def allow(self, allowed: bool, reason: str | None = None) -> None:
        """Go on, or fetch nothing until allowed again; the streams stay joined."""
        self._allowed = allowed
        if not allowed:
            for stream in self._streams.values():
                for work in stream.works.values():
                    work.cancel()

    async def run(self) -> None:
        """Drop what is over, until cancelled."""
        try:
            while True:
                self._changed.clear()
                self._drop_what_is_over()
                ends = [*self._held.values(), *(one.until for one in self._streams.values() if one.until is not None)]
                wait_s = max(1, min(ends) - self._now()) if ends else None
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                except TimeoutError:
                    pass  # the first is over
        finally:
            works = [work for stream in self._streams.values() for work in stream.works.values()]
            for stream_id in tuple(self._streams):
                self.cancel(stream_id)
            await asyncio.gather(*works, return_exceptions=True)

    def _drop_what_is_over(self) -> None:
        now = self._now()
        for object_id in [one for one, until in self._held.items() if until <= now]:
            del self._held[object_id]
            self._content.drop(object_id)
        for stream_id in [one for one, stream in self._streams.items() if (stream.until or now + 1) <= now]:
            self._end(stream_id, TaskStatus(stream_id, "done", self._streams[stream_id].bytes_done))

    def _end(self, stream_id: str, status: TaskStatus) -> None:
        self.cancel(stream_id)
        self.tell(status)

    def _join(self, task: Task, stream: _Stream | None) -> None:
        if stream is None:
            if len(self._streams) >= STREAMS_MAX:
                self.tell(TaskStatus(task.id, "failed", reason=f"{STREAMS_MAX} live streams are carried already"))
                return
            stream = self._streams[task.id] = _Stream(task.deadline)
        stream.until = task.deadline
        self._changed.set()
        self.tell(TaskStatus(task.id, "running", stream.bytes_done))

    def _begin(self, task: Task, stream: _Stream) -> None:
        assert task.object is not None
        under_way = [object_id for one in self._streams.values() for object_id in one.works]
        if task.object in under_way:
            return
        if task.manifest is None or not task.sources or task.deadline is None:
            self._missed(task.id, stream, "a segment lacks manifest, sources or deadline")
        elif len(under_way) >= SEGMENTS_MAX or len(self._held) >= HELD_MAX:
            self._missed(task.id, stream, "the device does not keep up")
        else:
            work = asyncio.get_running_loop().create_task(self._work(task, stream), name=f"live-{task.id}")
            object_id = task.object
            stream.works[object_id] = work
            work.add_done_callback(lambda _: stream.works.pop(object_id, None))

    async def _work(self, task: Task, stream: _Stream) -> None:
        assert task.manifest is not None
        assert task.object is not None
        assert task.deadline is not None
        try:
            signed = await asyncio.to_thread(verify_manifest, task.manifest, self._keys(), task.object)
            # What is held for another reason is not ours to drop.
            if task.object in self._held or not self._content.has(task.object):
                self._hold(task.object, min(task.deadline, self._now() + HELD_S_MAX))
                await self._fill(task, signed, lambda _: None)
        except FallowError as error:
            self._give_up(task.object)
            reason = error.detail or error.slug
            self._missed(task.id, stream, f"manifest refused: {reason}" if isinstance(error, PeerError) else reason)
        except asyncio.CancelledError:
            self._give_up(task.object)
            raise
        except Exception:  # noqa: BLE001  # the outermost of a segment
            _log.exception("a segment of %s failed", task.id)
            self._give_up(task.object)
            self._missed(task.id, stream, "the device failed; its log tells more")
        else:
            stream.bytes_done += signed.manifest.size
            stream.missed = 0
            self.tell(TaskStatus(task.id, "running", stream.bytes_done))

    def _hold(self, object_id: str, until: int) -> None:
        self._held[object_id] = max(until, self._held.get(object_id, 0))
        self._changed.set()

    def _give_up(self, object_id: str) -> None:
        if self._held.pop(object_id, None) is not None:
            self._content.drop(object_id)

    def _missed(self, stream_id: str, stream: _Stream, why: str) -> None:
        stream.missed += 1
        _log.info("a segment of %s is missed: %s", stream_id, why)
        if stream.missed >= MISSED_MAX and self._streams.get(stream_id) is stream:
            reason = f"{stream.missed} segments in a row did not come: {why}"
            self._end(stream_id, TaskStatus(stream_id, "failed", stream.bytes_done, reason[:256]))
