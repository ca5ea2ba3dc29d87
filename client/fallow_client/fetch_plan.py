"""Which chunk is asked of which source: a pure machine, events in and commands out.

Sources are the devices of the last plan, one ticket each, and the origin. Times are milliseconds of one monotonic
clock. The rules:

1. A ticket never has more bytes asked for and not confirmed than the device would send (``unacknowledged_bytes_max``),
   nor more asked for than it allows.
2. Devices come first; the origin serves when no device can. Else it helps with a small share of the chunks: where a
   device gives no sign of life, or refuses, or where all are so slow that many must be asking.
3. When nothing is left to ask for, a slow chunk is asked of a second source, the origin last; the first good answer
   counts, and only that one is confirmed. Where none has begun to send, more are asked, and whichever begins goes on
   alone, so that nothing is sent twice (tied requests: Dean and Barroso, The Tail at Scale, 2013).
4. A device that sent a wrong chunk is never asked again, in later plans neither.
5. A device is asked first for the chunk where consumers begin with it, and for those behind it; one that holds the
   object in part for those of its stripe, and for others, which it has to fetch, when nobody else brings them.
6. A failed chunk goes back to the front. A source that fails repeatedly is closed; when too few are left, a new plan
   is wanted, each barren one later than the last.
7. A chunk that waits is asked of an idle device too, as in 3: a crowd that does so shares the devices evenly.
8. How many requests are under way follows from how long devices let them wait (:class:`.fetch_sources.Window`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable

from .fetch_commands import ORIGIN as ORIGIN
from .fetch_commands import Abort as Abort
from .fetch_commands import Command as Command
from .fetch_commands import Config as Config
from .fetch_commands import Failure as Failure
from .fetch_commands import Fetch as Fetch
from .fetch_commands import Finish as Finish
from .fetch_commands import GiveUp as GiveUp
from .fetch_commands import Replan as Replan
from .fetch_commands import TicketSource as TicketSource
from .fetch_sources import Chunk, Request, Source, Window


class FetchPlan:
    """:param size: bytes of the object. :param done: chunks that are there already. :param lot: 0 ≤ … < 1, by chance:
    whether a share of less than a chunk is one."""

    def __init__(
        self, size: int, chunk_size: int, done: Iterable[int] = (), config: Config | None = None, lot: float = 0.0
    ) -> None:
        self._config, self._lot = config or Config(), lot
        self._size = size
        self._chunk_size = chunk_size
        self.chunk_count = -(-size // chunk_size)
        self._done = bytearray(self.chunk_count)
        for chunk in done:
            self._done[chunk] = 1
        self._left = self.chunk_count - sum(self._done)
        # In order.
        self._pending = [chunk for chunk in range(self.chunk_count) if not self._done[chunk]]
        self._first_missing = 0
        self._active: dict[int, Chunk] = {}
        self._requests: dict[int, Request] = {}
        self._next_number = 1
        self._devices: dict[str, Source] = {}
        self._origin = Source(ORIGIN, "")
        self._origin_wrong: Counter[int] = Counter()
        self._helped = 0  # chunks that the origin has helped with
        self._relieved = 0  # and others that a device was asked for in a silent one's place
        self._window = Window(self._config)
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

    @property
    def _help_chunks(self) -> int:
        """How many chunks the origin may help with while devices serve."""
        if self._in_part:
            return int(self.chunk_count * self._config.help_in_part_permille / 1000 + self._lot)
        return self._relief_chunks

    @property
    def _relief_chunks(self) -> int:
        """How many a device may be asked for in a silent one's place."""
        config = self._config
        return max(config.help_chunks_min, int(self.chunk_count * config.help_permille / 1000 + self._lot))

    @property
    def _in_part(self) -> bool:
        return any(source.chunks is not None for source in self._devices.values())

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
        self._devices = {key: source for key, source in self._devices.items() if source.in_flight}
        for source in offered:
            if source.key not in self._devices:
                self._devices[source.key] = Source.of(source)
        self._offered = len(offered)
        self._replan_done(now_ms)

    def replan_failed(self, now_ms: int) -> None:
        self._replan_done(now_ms)

    def answered(self, request: int, now_ms: int) -> None:
        """The head of an answer came: the device lives, and will send as soon as it can."""
        found = self._requests.get(request)
        if found is not None and found.answered_ms is None:
            found.answered_ms = now_ms
            waited_ms = now_ms - found.since_ms
            rtt_ms = found.source.rtt_ms
            found.source.rtt_ms = waited_ms if rtt_ms is None else min(rtt_ms, waited_ms)

    def began(self, request: int, now_ms: int) -> list[Abort]:
        """The first byte of the chunk came."""
        found = self._requests.get(request)
        if found is None or found.waited_ms is not None:
            return []
        found.waited_ms = now_ms - (now_ms if found.answered_ms is None else found.answered_ms)
        if found.source is not self._origin:
            self._window.began(found.waited_ms)
        aborted = []
        for other in tuple(self._active[found.chunk].requests):
            if other.waited_ms is None and (found.tied or other.tied):
                self._take(other.number)
                self._give_back(other)
                aborted.append(Abort(other.number))
        return aborted

    def verified(self, request: int, now_ms: int) -> list[Command]:
        """The chunk of ``request`` is verified and kept."""
        found = self._take(request)
        if found is None:
            return []
        source = found.source
        source.confirmed += self.chunk_length(found.chunk)
        source.failures = 0
        source.last_ms, source.waited_ms, source.done_ms = now_ms - found.since_ms, found.waited_ms or 0, now_ms
        if source is not self._origin:
            self._barren = 0
            self._window.done(found.waited_ms or 0)
        self._done[found.chunk] = 1
        self._left -= 1
        aborted: list[Command] = []
        for other in self._active.pop(found.chunk).requests:
            self._take(other.number)
            # What has been sent is never confirmed, and stays in its window.
            if other.waited_ms is None:
                self._give_back(other)
            aborted.append(Abort(other.number))
        return aborted

    def failed(self, request: int, failure: Failure, now_ms: int, retry_after_ms: int = 0) -> None:
        """:param retry_after_ms: what a busy source asked for."""
        found = self._take(request)
        if found is None:
            return
        source, config = found.source, self._config
        unsent = found.answered_ms is not None and found.waited_ms is None and failure is Failure.BROKEN
        if unsent or failure in (Failure.BUSY, Failure.GONE):
            self._give_back(found)
        if not self._active[found.chunk].requests:
            del self._active[found.chunk]
            insort(self._pending, found.chunk)
        if found.helping and failure is Failure.BUSY:
            # It protects itself from a crowd; that is no fault, and the devices have the chunk too.
            source.rest_until_ms = now_ms + min(max(retry_after_ms, config.rest_ms_min), config.rest_ms_max)
            return
        if found.tied and (unsent or failure is Failure.BUSY) and found.chunk in self._active:  # nothing was lost
            source.rest_until_ms = now_ms + min(max(retry_after_ms, config.tie_early_after_ms), config.rest_ms_max)
            return
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
            command = self._help_silent(now_ms) or self._assign(now_ms) or self._hedge(now_ms)
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
        self._window.full = self.in_flight - self._origin.in_flight >= self._window.size
        source, helping = None if self._window.full else self._free_device(chunk, now_ms), False
        if source is not None:
            chunk = self._chunk_for(source)
        else:
            source = self._free_origin(now_ms)
            if source is None and self._may_help(now_ms):
                source, helping = self._origin, True
            if source is None:
                return None
        del self._pending[bisect_left(self._pending, chunk)]
        self._active[chunk] = Chunk()
        return self._ask(source, chunk, now_ms, helping=helping)

    def _chunk_for(self, source: Source) -> int:
        """The first pending chunk at or behind the one where consumers begin with this source."""
        ahead = self._config.ahead_chunks_max
        end = len(self._pending) if ahead is None else bisect_left(self._pending, self._first_missing + ahead)
        found = bisect_left(self._pending, source.first_chunk)
        return self._pending[found if found < end else 0]

    def _behind(self, source: Source, chunk: int) -> int:
        """How far behind the one where consumers begin with this source."""
        return (chunk - source.first_chunk) % self.chunk_count

    def _may_help(self, now_ms: int) -> bool:
        """Whether every device is slow: then many are asking, and the origin has a line too. One chunk at a time."""
        if self._helped >= self._help_chunks or self._origin.in_flight or not self._is_free(self._origin, 0, now_ms):
            return False
        if self._in_part and len(self._pending) > self._config.help_in_part_pending_max:
            return False
        known = (source.last_ms for source in self._devices.values() if source.last_ms is not None)
        return self._window.crowded or min(known, default=0) >= self._config.slow_chunk_ms

    def _help_silent(self, now_ms: int) -> Command | None:
        """Another source for a chunk whose device does not answer at all."""
        config = self._config
        for chunk in self._active.values():
            request = chunk.requests[0]
            if len(chunk.requests) > 1 or request.answered_ms is not None or request.source is self._origin:
                continue
            rtt_ms, age_ms = request.source.rtt_ms or 0, now_ms - request.since_ms
            if age_ms < max(config.silent_ms_min, config.silent_rtt_factor * rtt_ms):
                continue
            ranked = [one for one in self._ranked(request.chunk, now_ms) if one.device_id != request.source.device_id]
            if ranked and not ranked[0].in_flight and self._relieved < self._relief_chunks:
                self._relieved += 1
                return self._ask(ranked[0], request.chunk, now_ms)
            helps = self._helped < self._help_chunks or (not ranked and age_ms >= config.hedge_origin_after_ms_min)
            if helps and self._is_free(self._origin, 0, now_ms):
                return self._ask(self._origin, request.chunk, now_ms, helping=True)
        return None

    def _hedge(self, now_ms: int) -> Command | None:
        """A second source for the chunk that is asked for longest, when there is no other work for it."""
        if self._next_pending() is not None:
            return self._tie(now_ms, at_end=False)
        config = self._config
        if (tie := self._tie(now_ms, at_end=True)) is not None:
            return tie
        single = [chunk.requests[0] for chunk in self._active.values() if len(chunk.requests) == 1]
        for slow in sorted(single, key=lambda request: (request.since_ms, request.chunk)):
            age_ms = now_ms - slow.since_ms
            if age_ms < config.hedge_after_ms_min:
                continue
            for source in [*self._ranked(slow.chunk, now_ms, far=age_ms >= config.far_after_ms), self._origin]:
                if source.device_id == slow.source.device_id or not self._is_free(source, slow.chunk, now_ms):
                    continue
                if source is self._origin and self._helped >= self._help_chunks:
                    continue
                if age_ms >= self._hedge_age_ms(slow.source, source):
                    return self._ask(source, slow.chunk, now_ms, helping=source is self._origin)
        return None

    def _tie(self, now_ms: int, *, at_end: bool) -> Command | None:
        """One more source for the chunk that has waited for longest, where a device has nothing of ours to do."""
        config = self._config
        first_after_ms = config.tie_after_ms if at_end else config.tie_early_after_ms
        if not at_end and sum(request.tied for request in self._requests.values()) >= config.ties_early_max:
            return None
        for asked in sorted((chunk.requests for chunk in self._active.values()), key=lambda asked: asked[0].number):
            waits = all(request.waited_ms is None for request in asked) and not asked[0].source.is_origin
            after_ms = first_after_ms if len(asked) == 1 else config.tie_again_after_ms
            if waits and len(asked) < (config.ties_max if at_end else 2) and now_ms - asked[-1].since_ms >= after_ms:
                helper = self._idle_device(asked, now_ms)
                if helper is not None:
                    return self._ask(helper, asked[0].chunk, now_ms, tied=True)
        return None

    def _idle_device(self, asked: list[Request], now_ms: int) -> Source | None:
        """One more that has nothing of ours to do and is for their chunk."""
        chunk, known = asked[0].chunk, {request.source.device_id for request in asked}
        idle = [
            source
            for source in self._devices.values()
            if source.device_id not in known
            and not source.in_flight
            and self._is_near(source, chunk)
            and self._is_free(source, chunk, now_ms)
        ]
        return min(idle, key=lambda one: (one.expected_ms(now_ms), self._behind(one, chunk)), default=None)

    def _hedge_age_ms(self, slow: Source, helper: Source) -> int:
        """A device helps when it would have been done twice over; the origin, when the slow one is slow for itself."""
        config = self._config
        if helper is self._origin:
            return max(config.hedge_origin_after_ms_min, config.hedge_factor * (slow.last_ms or 0))
        known = [source.last_ms for source in self._devices.values() if source.last_ms is not None]
        # A device that has shown nothing yet is taken to be no faster than the others: in a crowd all are slow.
        expected_ms = max(known, default=config.slow_chunk_ms) if helper.last_ms is None else helper.last_ms
        return max(config.hedge_after_ms_min, config.hedge_factor * expected_ms)

    def _ask(self, source: Source, chunk: int, now_ms: int, *, helping: bool = False, tied: bool = False) -> Fetch:
        request = Request(self._next_number, source, chunk, now_ms, helping=helping, tied=tied)
        self._helped += helping
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

    def _ranked(self, chunk: int, now_ms: int, *, far: bool = False) -> list[Source]:
        """Free devices that are for the chunk, the least busy first, then the fastest. :param far: the others too."""
        free = (source for source in self._devices.values() if self._is_free(source, chunk, now_ms))
        fit = [source for source in free if far or self._is_near(source, chunk)]
        return sorted(fit, key=lambda one: (not self._is_near(one, chunk), one.in_flight, one.expected_ms(now_ms)))

    def _is_near(self, source: Source, chunk: int) -> bool:
        """Whether it is for the chunk: another would have to fetch it from the origin first."""
        return source.chunks is None or self._behind(source, chunk) < source.chunks

    def _is_free(self, source: Source, chunk: int, now_ms: int) -> bool:
        return source.is_free(self.chunk_length(chunk), now_ms, self._config)

    def _free_device(self, chunk: int, now_ms: int) -> Source | None:
        free = [source for source in self._devices.values() if self._is_free(source, chunk, now_ms)]
        best = min(free, key=lambda source: self._cost(source, now_ms), default=None)
        far = best is not None and not self._is_near(best, self._chunk_for(best))
        return None if far and self._requests else best

    def _cost(self, source: Source, now_ms: int) -> tuple[bool, int, int, int]:
        """Who is for what it would be asked for, then the least busy, the fastest, and who begins there."""
        chunk = self._chunk_for(source)
        far = not self._is_near(source, chunk)
        return far, source.in_flight, source.expected_ms(now_ms), self._behind(source, chunk)

    def _free_origin(self, now_ms: int) -> Source | None:
        """The origin, when no device serves and no plan is under way."""
        if self._replanning or not self._is_free(self._origin, 0, now_ms):
            return None
        serving = any(
            source.in_flight or not (source.closed or source.rest_until_ms > now_ms)
            for source in self._devices.values()
        )
        return None if serving else self._origin

    # ------------------------------------------------------------------ closing, planning anew

    def _close_exhausted(self, now_ms: int) -> None:
        """Close tickets that expire, or that idle and would not be served one chunk more."""
        smallest = min((self.chunk_length(chunk) for chunk in (*self._pending[:1], *self._active)), default=0)
        for source in self._devices.values():
            if source.until_ms is not None and now_ms >= source.until_ms:
                source.closed = True
            if not source.in_flight and not source.fits(smallest):
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

    def _give_back(self, request: Request) -> None:
        """Nothing was sent for it."""
        request.source.requested -= self.chunk_length(request.chunk)
        self._helped -= request.helping

    def _take(self, number: int) -> Request | None:
        """Forget a request; None when it was aborted before."""
        request = self._requests.pop(number, None)
        if request is None:
            return None
        request.source.in_flight -= 1
        if request.chunk in self._active:
            self._active[request.chunk].requests.remove(request)
        return request
