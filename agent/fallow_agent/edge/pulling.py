"""Objects held in part: a chunk is fetched when the first consumer asks for it, verified, served and kept.

This is how a device helps with an object that is suddenly wanted by many and held by few: it serves at once, and takes
from the origin only what is asked of *it*. However many ask for a chunk, it is fetched once. What is asked is bounded
as fills are: only objects of a manifest that the scheduler signed and told of, from the sources that it named, within
the download budget and the day's writing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fallow_wire.errors import FallowError, LocalError
from fallow_wire.http import Span
from fallow_wire.manifest import SignedManifest
from fallow_wire.session import Task

from fallow_agent.clock import Clock

from .connection import Connection
from .content import ContentStore
from .fill import Fill, Gone, NoSpace, StoredObject
from .filling import Filler, FillFailed, Supplier
from .sieve import SecondHit

_log = logging.getLogger(__name__)

PARTIAL_MAX = 16
"""Objects at once; the one that was asked for least lately goes first."""
IDLE_S_MAX = 3600.0
"""A crowd that has gone does not come back in pieces: what nobody asks for any more is dropped."""
PULL_S_MAX = 14.0
"""How long a consumer that asks chunk by chunk waits for one; by then another device has it."""
LEGACY_PULL_S_MAX = 45.0
"""The same for ordinary programs, which come by Metalink. They take what is cut short for a fault and go to the origin
for all that is left; aria2 waits 60 s for a byte."""
FAILED_REST_S = 2.0
"""After a source failed nothing is fetched for so long; who asks meanwhile is sent elsewhere."""


class PullFailed(Exception):
    """The chunk did not come in time: the answer is cut short."""


class Partial:
    """One object. Its chunks are at ``fill``; this says who waits for which."""

    def __init__(self, fill: Fill, suppliers: list[Supplier], now: float) -> None:
        self.fill = fill
        self.suppliers = suppliers
        self.touched_at = now
        self.rest_until = 0.0
        self.worker: asyncio.Task[None] | None = None
        self.writing = asyncio.Lock()
        self._waiting: dict[int, int] = {}
        """Consumers that wait, by chunk."""
        self._wakes: set[Callable[[], None]] = set()

    @property
    def object_id(self) -> str:
        return self.fill.object_id

    def pieces(self, span: Span) -> Iterator[tuple[int, Span]]:
        """The parts of ``span`` by chunk."""
        size, end = self.fill.manifest.chunk_size, span.start + span.length
        position = span.start
        while position < end:
            index = position // size
            stop = min(end, (index + 1) * size)
            yield index, Span(position, stop - position, span.size, span.partial)
            position = stop

    @contextmanager
    def waited_for(self, index: int, wake: Callable[[], None]) -> Iterator[None]:
        """A consumer wants this chunk; ``wake`` is called when any chunk came, or none will."""
        self._waiting[index] = self._waiting.get(index, 0) + 1
        self._wakes.add(wake)
        try:
            yield
        finally:
            self._wakes.discard(wake)
            self._waiting[index] -= 1
            if not self._waiting[index]:
                del self._waiting[index]

    def next_chunk(self) -> int | None:
        """What to fetch now: what most wait for. Nothing ahead: the origin's line is what a crowd is short of."""
        wanted = (index for index in self._waiting if not self.fill.holds(index))
        return max(wanted, key=lambda index: (self._waiting[index], -index), default=None)

    def wake_all(self) -> None:
        for wake in tuple(self._wakes):
            wake()


class Pulls:
    """What is held in part. ``on_change`` is told an object's id, and whether it is held so now.

    :param allowed: whether anything may be fetched and written now. :param wears: whether the disk bears few writes.
    """

    def __init__(
        self,
        content: ContentStore,
        filler: Filler,
        clock: Clock,
        allowed: Callable[[], bool] = lambda: True,
        wears: Callable[[], bool] = lambda: False,
    ) -> None:
        self.on_change: Callable[[str, bool], None] = lambda object_id, held: None
        self._content = content
        self._filler = filler
        self._clock = clock
        self._allowed = allowed
        self._wears = wears
        self._hits = SecondHit()
        self._partials: OrderedDict[str, Partial] = OrderedDict()

    def ids(self) -> tuple[str, ...]:
        return tuple(self._partials)

    def described(self, object_id: str) -> StoredObject | None:
        """An object that is held in part; None also when it is held whole."""
        partial = self.get(object_id)
        if partial is None:
            return None
        return StoredObject(object_id, partial.fill.manifest.size, partial.fill.manifest.type, None)

    def get(self, object_id: str) -> Partial | None:
        partial = self._partials.get(object_id)
        if partial is not None and partial.fill.closed:
            self._forget(partial)  # the owner's quota, or a drop
            return None
        return partial

    async def hold(self, task: Task, signed: SignedManifest, progress: Callable[[int], None]) -> None:
        """Hold what is asked for from now on.

        :raises FillFailed: there is no room.
        """
        object_id = signed.object_id
        if self._content.has(object_id) or self.get(object_id) is not None:
            return
        while len(self._partials) >= PARTIAL_MAX:
            self._drop(next(iter(self._partials.values())))
        try:
            fill = self._content.begin(signed, cached=True)
        except (NoSpace, LocalError) as error:
            raise FillFailed(error.detail, slug="no-space") from None
        partial = Partial(fill, self._filler.suppliers(task), self._clock.monotonic())
        self._partials[object_id] = partial
        try:
            await asyncio.to_thread(fill.recover)
        except (Gone, OSError) as error:
            self._drop(partial)
            raise FillFailed(str(error), slug="dropped") from None
        progress(fill.bytes_held())
        self.on_change(object_id, True)

    def admits(self, partial: Partial, index: int) -> bool:
        """Whether a request for the chunk is answered. Each call is one request: where the disk wears, the second of
        one chunk is worth a write."""
        if partial.fill.holds(index):
            return True
        return self.gives_now(partial, index) and (
            not self._wears() or self._hits.admits(f"{partial.object_id} {index}")
        )

    def gives_now(self, partial: Partial, index: int) -> bool:
        """Whether the chunk is there, or may be fetched."""
        now = self._clock.monotonic()
        return partial.fill.holds(index) or (self._allowed() and now >= partial.rest_until)

    async def arrival(
        self, partial: Partial, index: int, connection: Connection, stall_s: float, patience_s: float
    ) -> None:
        """Until the chunk is there.

        :raises PullFailed: it does not come.
        :raises Disconnected: the consumer went away.
        """
        now = self._clock.monotonic()
        partial.touched_at = now
        if partial.object_id in self._partials:
            self._partials.move_to_end(partial.object_id)
        with partial.waited_for(index, connection.wake):
            self._work(partial)
            if partial.fill.holds(index):
                return
            until = now + patience_s
            connection.deadline = asyncio.get_running_loop().time() + patience_s + stall_s
            while not partial.fill.holds(index):
                left = until - self._clock.monotonic()
                if left <= 0 or partial.fill.closed or not self.gives_now(partial, index):
                    raise PullFailed
                await connection.woken(left)

    async def fill(self, task: Task, signed: SignedManifest, progress: Callable[[int], None]) -> None:
        """A whole copy is wanted: :meth:`Filler.fill`, or the rest of what is held in part.

        :raises FillFailed: saying why.
        """
        partial = self.get(signed.object_id)
        if partial is None:
            await self._filler.fill(task, signed, progress)
            return
        partial.suppliers = self._filler.suppliers(task)
        self._content.place(partial.fill)
        try:
            while (missing := partial.fill.missing()) is not None:
                await self._fetch(partial, missing[0])
                progress(partial.fill.bytes_held())
            await self._finish(partial)
        except Gone as error:
            raise FillFailed(error.detail, slug="dropped") from None

    def drop_idle(self) -> None:
        """Call it every few seconds: what nobody asks for is dropped, and what the store gave up is forgotten."""
        before = self._clock.monotonic() - IDLE_S_MAX
        for partial in tuple(self._partials.values()):
            if self.get(partial.object_id) is partial and partial.touched_at < before:
                self._drop(partial)

    async def close(self) -> None:
        """End what is under way; what was fetched stays on the disk."""
        workers = [partial.worker for partial in self._partials.values() if partial.worker is not None]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    # ------------------------------------------------------------------ fetching

    def _work(self, partial: Partial) -> None:
        """Have a worker, if there is something for it."""
        idle = partial.worker is None or partial.worker.done()
        if idle and self._may_fetch(partial) and partial.next_chunk() is not None:
            work = self._fetch_wanted(partial)
            partial.worker = asyncio.get_running_loop().create_task(work, name=f"pull-{partial.object_id[:8]}")

    def _may_fetch(self, partial: Partial) -> bool:
        return self._allowed() and not partial.fill.closed and self._clock.monotonic() >= partial.rest_until

    async def _fetch_wanted(self, partial: Partial) -> None:
        """One after the other: two at a time would each take twice as long."""
        try:
            while self._may_fetch(partial) and (index := partial.next_chunk()) is not None:
                await self._fetch(partial, index)
            if partial.fill.missing() is None and not partial.fill.closed:
                await self._finish(partial)
        except FillFailed as error:
            _log.info("object %s is not served in part for now: %s", partial.object_id[:8], error.detail)
            partial.rest_until = self._clock.monotonic() + FAILED_REST_S
            if error.slug in ("no-space", "disk"):
                self._drop(partial)
        except FallowError as error:
            _log.info("object %s is no longer held in part: %s", partial.object_id[:8], error.detail)
        finally:
            partial.wake_all()

    async def _fetch(self, partial: Partial, index: int) -> None:
        """:raises FillFailed: no source gives it, or the disk refuses. :raises Gone: the fill was given up."""
        async with partial.writing:
            if not partial.fill.holds(index):
                await self._filler.take_chunk(partial.fill, partial.suppliers, index)
        partial.wake_all()

    async def _finish(self, partial: Partial) -> None:
        """:raises Gone: the fill was given up."""
        async with partial.writing:
            if self._partials.get(partial.object_id) is not partial:
                return
            stored = await asyncio.to_thread(partial.fill.finish)
            if self._partials.get(partial.object_id) is partial:
                partial.fill.publish(stored)
                del self._partials[partial.object_id]

    def _drop(self, partial: Partial) -> None:
        partial.fill.discard()
        self._forget(partial)

    def _forget(self, partial: Partial) -> None:
        if self._partials.get(partial.object_id) is partial:
            del self._partials[partial.object_id]
            partial.wake_all()
            self.on_change(partial.object_id, False)
