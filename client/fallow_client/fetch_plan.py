"""Which chunk is asked of which source: a pure machine, events in and commands out.

Sources are the devices of the last plan, one ticket each, and the origin. Times are milliseconds of one monotonic
clock. The rules:

1. A ticket never has more bytes asked for and not confirmed than the device would send (``unacknowledged_bytes_max``),
   nor more asked for than it allows.
2. Devices come first; the origin serves when no device can, and helps at the end.
3. When nothing is left to ask for, a slow chunk is asked of a second source, the origin last; the first good answer
   counts, and only that one is confirmed.
4. A device that sent a wrong chunk is never asked again, in later plans neither.
5. A failed chunk goes back to the front. A source that fails repeatedly is closed; when too few are left, a new plan
   is wanted, each barren one later than the last.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from fallow_wire.errors import LocalError
from fallow_wire.tickets import unacknowledged_bytes_max

ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Config:
    """``requests_max`` bounds memory: each request holds one chunk. ``requests_per_source_max``: enough to fill a long
    path. ``ahead_chunks_max``: how far beyond the first missing chunk to ask, for output in order."""

    requests_max: int = 16
    requests_per_source_max: int = 4
    ahead_chunks_max: int | None = None
    hedge_after_ms_min: int = 1000
    hedge_origin_after_ms_min: int = 4000
    hedge_factor: int = 2
    slow_chunk_ms: int = 4000
    fast_chunk_ms: int = 1000
    failures_max: int = 3
    origin_failures_max: int = 6
    origin_wrong_max: int = 3
    rest_ms_min: int = 500
    rest_ms_max: int = 60_000
    replan_ms_min: int = 2000
    replan_ms_max: int = 300_000


class Failure(Enum):
    """Why a request brought nothing."""

    BUSY = "busy"
    """Refused for now, nothing was sent."""
    GONE = "gone"
    """This ticket or device serves no more, nothing was sent."""
    BROKEN = "broken"
    """No answer, or it broke off; some of it may have been sent."""
    WRONG = "wrong"
    """The bytes are not the chunk that the manifest lists."""


@dataclass(frozen=True, slots=True)
class TicketSource:
    """A device as the plan offers it. ``key`` is the ticket's ``jti``; nothing is asked of it from ``until_ms`` on."""

    key: str
    device_id: str
    max_bytes: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask ``source`` for ``chunk``; answer with :meth:`FetchPlan.verified` or :meth:`FetchPlan.failed`."""

    request: int
    source: str
    chunk: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Another source was faster; the machine has forgotten this request."""

    request: int


@dataclass(frozen=True, slots=True)
class Replan:
    """Get a new plan; answer with :meth:`FetchPlan.planned` or :meth:`FetchPlan.replan_failed`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Every chunk is verified."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Neither a device nor the origin can bring what is missing."""


Command = Fetch | Abort | Replan | Finish | GiveUp


@dataclass(slots=True)
class _Source:
    key: str
    device_id: str
    max_bytes: int | None
    until_ms: int | None
    requested: int = 0
    confirmed: int = 0
    in_flight: int = 0
    failures: int = 0
    rest_until_ms: int = 0
    last_ms: int | None = None
    closed: bool = False


@dataclass(slots=True)
class _Request:
    number: int
    source: _Source
    chunk: int
    since_ms: int


@dataclass(slots=True)
class _Chunk:
    """A chunk that is being asked for."""

    requests: list[_Request] = field(default_factory=list)


class FetchPlan:
    """:param size: bytes of the object. :param done: chunks that are there already."""

    def __init__(self, size: int, chunk_size: int, done: Iterable[int] = (), config: Config | None = None) -> None:
        self._config = config or Config()
        self._size = size
        self._chunk_size = chunk_size
        self.chunk_count = -(-size // chunk_size)
        self._done = bytearray(self.chunk_count)
        for chunk in done:
            self._done[chunk] = 1
        self._left = self.chunk_count - sum(self._done)
        self._pending = [chunk for chunk in range(self.chunk_count) if not self._done[chunk]]
        self._first_missing = 0
        self._active: dict[int, _Chunk] = {}
        self._requests: dict[int, _Request] = {}
        self._next_number = 1
        self._devices: dict[str, _Source] = {}
        self._origin = _Source(ORIGIN, "", None, None)
        self._origin_wrong: Counter[int] = Counter()
        self._offered = 0
        self._replanning = False
        self._replan_at_ms = 0
        self._barren = 0
        self.banned: set[str] = set()

    # ------------------------------------------------------------------ reading

    @property
    def finished(self) -> bool:
        return self._left == 0

    @property
    def in_flight(self) -> int:
        return len(self._requests)

    def chunk_length(self, chunk: int) -> int:
        return min(self._chunk_size, self._size - chunk * self._chunk_size)

    def unconfirmed(self, source: str) -> int:
        """Bytes asked of a ticket and not confirmed."""
        found = self._devices[source]
        return found.requested - found.confirmed

    # ------------------------------------------------------------------ events

    def planned(self, sources: Iterable[TicketSource], now_ms: int) -> None:
        """A plan arrived. Older tickets are asked no more; what they still bring counts."""
        offered = [source for source in sources if source.device_id not in self.banned]
        for old in self._devices.values():
            old.closed = True
        self._forget_closed()
        for source in offered:
            if source.key not in self._devices:
                self._devices[source.key] = _Source(source.key, source.device_id, source.max_bytes, source.until_ms)
        self._offered = len(offered)
        self._replan_done(now_ms)

    def replan_failed(self, now_ms: int) -> None:
        self._replan_done(now_ms)

    def verified(self, request: int, now_ms: int) -> list[Command]:
        """The chunk of ``request`` is verified and kept."""
        found = self._take(request)
        if found is None:
            return []
        source = found.source
        source.confirmed += self.chunk_length(found.chunk)
        source.failures = 0
        source.last_ms = now_ms - found.since_ms
        if source is not self._origin:
            self._barren = 0
        self._done[found.chunk] = 1
        self._left -= 1
        aborted: list[Command] = []
        # What the other was sent meanwhile is never confirmed: it stays in its window.
        for other in self._active.pop(found.chunk).requests:
            self._take(other.number)
            aborted.append(Abort(other.number))
        return aborted

    def failed(self, request: int, failure: Failure, now_ms: int, retry_after_ms: int = 0) -> None:
        """:param retry_after_ms: what a busy source asked for."""
        found = self._take(request)
        if found is None:
            return
        source, config = found.source, self._config
        if failure in (Failure.BUSY, Failure.GONE):
            source.requested -= self.chunk_length(found.chunk)
        if not self._active[found.chunk].requests:
            del self._active[found.chunk]
            heapq.heappush(self._pending, found.chunk)
        source.failures += 1
        rest_ms = max(retry_after_ms, config.rest_ms_min << min(source.failures - 1, 10))
        source.rest_until_ms = now_ms + min(rest_ms, config.rest_ms_max)
        if source is self._origin:
            self._origin_wrong[found.chunk] += failure is Failure.WRONG
            wrong = self._origin_wrong[found.chunk] >= config.origin_wrong_max
            source.closed = wrong or source.failures >= config.origin_failures_max
            return
        if failure is Failure.WRONG:
            self.banned.add(source.device_id)
        if failure in (Failure.WRONG, Failure.GONE) or source.failures >= config.failures_max:
            source.closed = True

    # ------------------------------------------------------------------ commands

    def poll(self, now_ms: int) -> list[Command]:
        """What to do now. Call it after every event, and a few times a second, for rests and hedges end by time."""
        if self._left == 0:
            return [Finish()]
        commands: list[Command] = []
        self._close_exhausted(now_ms)
        if self._wants_replan(now_ms):
            self._replanning = True
            commands.append(Replan())
        while self.in_flight < self._config.requests_max:
            command = self._assign(now_ms) or self._hedge(now_ms)
            if command is None:
                break
            commands.append(command)
        if not commands and not self._requests and self._is_hopeless():
            return [GiveUp()]
        return commands

    def _assign(self, now_ms: int) -> Command | None:
        chunk = self._next_pending()
        if chunk is None:
            return None
        source = self._free_device(chunk, now_ms) or self._free_origin(now_ms)
        if source is None:
            return None
        heapq.heappop(self._pending)
        self._active[chunk] = _Chunk()
        return self._ask(source, chunk, now_ms)

    def _hedge(self, now_ms: int) -> Command | None:
        """A second source for the chunk that is asked for longest, when there is no other work for it."""
        if self._next_pending() is not None:
            return None
        config = self._config
        single = [chunk.requests[0] for chunk in self._active.values() if len(chunk.requests) == 1]
        for slow in sorted(single, key=lambda request: (request.since_ms, request.chunk)):
            age_ms = now_ms - slow.since_ms
            if age_ms < config.hedge_after_ms_min:
                break
            for source in [*self._ranked(slow.chunk, now_ms), self._origin]:
                if source.device_id == slow.source.device_id or not self._is_free(source, slow.chunk, now_ms):
                    continue
                if age_ms >= self._hedge_age_ms(slow.source, source):
                    return self._ask(source, slow.chunk, now_ms)
        return None

    def _hedge_age_ms(self, slow: _Source, helper: _Source) -> int:
        """A device helps when it would have been done twice over; the origin, when the slow one is slow for itself."""
        config = self._config
        if helper is self._origin:
            return max(config.hedge_origin_after_ms_min, config.hedge_factor * (slow.last_ms or 0))
        return max(config.hedge_after_ms_min, config.hedge_factor * (helper.last_ms or 0))

    def _ask(self, source: _Source, chunk: int, now_ms: int) -> Fetch:
        request = _Request(self._next_number, source, chunk, now_ms)
        self._next_number += 1
        self._requests[request.number] = request
        self._active[chunk].requests.append(request)
        source.in_flight += 1
        source.requested += self.chunk_length(chunk)
        return Fetch(request.number, source.key, chunk)

    # ------------------------------------------------------------------ choosing

    def _next_pending(self) -> int | None:
        if not self._pending:
            return None
        ahead = self._config.ahead_chunks_max
        if ahead is not None:
            while self._done[self._first_missing]:
                self._first_missing += 1
            if self._pending[0] >= self._first_missing + ahead:
                return None
        return self._pending[0]

    def _ranked(self, chunk: int, now_ms: int) -> list[_Source]:
        """Free devices, the least busy first, then the fastest."""
        free = [source for source in self._devices.values() if self._is_free(source, chunk, now_ms)]
        return sorted(free, key=lambda source: (source.in_flight, source.last_ms or 0))

    def _free_device(self, chunk: int, now_ms: int) -> _Source | None:
        ranked = self._ranked(chunk, now_ms)
        return ranked[0] if ranked else None

    def _free_origin(self, now_ms: int) -> _Source | None:
        """The origin, when no device serves and no plan is under way."""
        if self._replanning or not self._is_free(self._origin, 0, now_ms):
            return None
        serving = any(
            source.in_flight or not (source.closed or source.rest_until_ms > now_ms)
            for source in self._devices.values()
        )
        return None if serving else self._origin

    def _is_free(self, source: _Source, chunk: int, now_ms: int) -> bool:
        if source.closed or source.rest_until_ms > now_ms or source.in_flight >= self._depth(source):
            return False
        return source is self._origin or self._fits(source, self.chunk_length(chunk))

    @staticmethod
    def _fits(source: _Source, length: int) -> bool:
        if source.max_bytes is not None and source.requested + length > source.max_bytes:
            return False
        return source.requested + length - source.confirmed <= unacknowledged_bytes_max(source.confirmed)

    def _depth(self, source: _Source) -> int:
        """Requests at once: few at a slow source, so that little waits behind it at the end."""
        if source.failures:
            return 1
        if source.last_ms is None or source.last_ms <= self._config.fast_chunk_ms:
            return self._config.requests_per_source_max
        return 1 if source.last_ms >= self._config.slow_chunk_ms else min(2, self._config.requests_per_source_max)

    # ------------------------------------------------------------------ closing, planning anew

    def _close_exhausted(self, now_ms: int) -> None:
        """Close tickets that expire, or that idle and would not be served one chunk more."""
        smallest = min((self.chunk_length(chunk) for chunk in (*self._pending[:1], *self._active)), default=0)
        for source in self._devices.values():
            if source.until_ms is not None and now_ms >= source.until_ms:
                source.closed = True
            if not source.in_flight and not self._fits(source, smallest):
                source.closed = True

    def _wants_replan(self, now_ms: int) -> bool:
        if self._replanning or now_ms < self._replan_at_ms or not self._pending:
            return False
        usable = sum(not source.closed for source in self._devices.values())
        return usable == 0 or 2 * usable < self._offered

    def _replan_done(self, now_ms: int) -> None:
        self._replanning = False
        wait_ms = min(self._config.replan_ms_min * 4 ** min(self._barren, 8), self._config.replan_ms_max)
        self._replan_at_ms = now_ms + wait_ms
        self._barren += 1

    def _is_hopeless(self) -> bool:
        usable = any(not source.closed for source in self._devices.values())
        return self._origin.closed and not usable and not self._replanning

    def _take(self, number: int) -> _Request | None:
        """Forget a request; None when it was aborted before."""
        request = self._requests.pop(number, None)
        if request is None:
            return None
        request.source.in_flight -= 1
        if request.chunk in self._active:
            self._active[request.chunk].requests.remove(request)
        return request

    def _forget_closed(self) -> None:
        self._devices = {key: source for key, source in self._devices.items() if not source.closed or source.in_flight}

    def check(self) -> None:
        """:raises LocalError: when the machine contradicts itself; tests call it after every event."""
        pending = set(self._pending)
        for chunk in range(self.chunk_count):
            if bool(self._done[chunk]) + (chunk in pending) + (chunk in self._active) != 1:
                raise LocalError(f"chunk {chunk} is lost or known twice")
        if len(pending) != len(self._pending) or any(not active.requests for active in self._active.values()):
            raise LocalError("a chunk waits twice, or for nobody")
        if sum(len(active.requests) for active in self._active.values()) != len(self._requests):
            raise LocalError("requests and chunks do not agree")
        for source in (*self._devices.values(), self._origin):
            if source.in_flight != sum(request.source is source for request in self._requests.values()):
                raise LocalError(f"{source.key} does not know its requests")
            if source is not self._origin and source.requested - source.confirmed > unacknowledged_bytes_max(
                source.confirmed
            ):
                raise LocalError(f"{source.key} is asked for more than its window")
