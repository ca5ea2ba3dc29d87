"""Download an object from several devices at once, verified chunk by chunk, with receipts for what arrived.

The decisions are :mod:`~.fetch_plan`'s; this module performs them: requests, verification, writing, receipts.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from fallow_wire.errors import ChunkMismatch, PeerError
from fallow_wire.http import Span
from fallow_wire.keys import PrivateKey, PublicKey
from fallow_wire.manifest import SignedManifest, verify_manifest
from fallow_wire.plans import Plan, PlanSource, first_chunk
from fallow_wire.tickets import verify_ticket
from yarl import URL

from . import fetch_plan
from .bodies import BrokenOff, TooLong, read_body
from .errors import BadAnswer, ClientError, FetchFailed
from .fetch_plan import ORIGIN, Abort, Failure, Fetch, FetchPlan, Finish, GiveUp, Replan, TicketSource
from .locations import Location, safe_name
from .part_file import Sink
from .receipts import TicketReceipts
from .scheduler import Scheduler
from .transport import reason_of

RECEIPT_HEADER = "Fallow-Receipt"


@dataclass(frozen=True, slots=True)
class Config:
    """``stall_s``: a transfer without a byte for so long has failed; a device may let it wait for 30 s.

    ``receipt_after_s``: a receipt that no request has carried by then is posted."""

    machine: fetch_plan.Config = field(default_factory=fetch_plan.Config)
    connect_s: float = 5.0
    stall_s: float = 32.0
    tick_s: float = 0.25
    receipt_after_s: float = 3.0
    receipt_post_s: float = 3.0
    expiry_margin_s: float = 15.0
    retry_after_s_max: int = 60


@dataclass(frozen=True, slots=True)
class FetchResult:
    """``bytes_by_source``: verified bytes by device id, and ``origin``. All ``size`` bytes are verified."""

    object_id: str
    name: str
    size: int
    bytes_by_source: dict[str, int]
    resumed_bytes: int
    seconds: float
    dropped: dict[str, str]
    verified: bool = True

    @property
    def device_bytes(self) -> int:
        return sum(count for source, count in self.bytes_by_source.items() if source != ORIGIN)


class Observer(Protocol):
    """Is told how a fetch goes on."""

    def started(self, name: str, size: int, held_bytes: int) -> None: ...

    def got(self, source: str, length: int) -> None: ...

    def dropped(self, source: str, why: str) -> None: ...


async def fetch(
    location: Location,
    sink_of: Callable[[str], Sink],
    *,
    observer: Observer | None = None,
    config: Config | None = None,
) -> FetchResult:
    """Fetch the object into ``sink_of(name)``.

    :raises FetchFailed: neither devices nor the origin could bring it; the part file stays.
    :raises ClientError: the scheduler refused or is away, or the output cannot be written.
    """
    settings = config or Config()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    # No compression: a chunk's bytes are what the manifest lists, and a bomb would have to be unpacked first.
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        return await _Fetcher(location, session, observer, settings).run(sink_of)


class _Refused(Exception):
    """A source answered, but not with the bytes."""

    def __init__(self, failure: Failure, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.failure = failure
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class _Got:
    command: Fetch
    digest: str
    ms: int


@dataclass(frozen=True, slots=True)
class _Lost:
    command: Fetch
    failure: Failure
    why: str
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class _Planned:
    plan: Plan | None
    key: PrivateKey
    keys: dict[str, PublicKey]


_Event = _Got | _Lost | _Planned | BaseException


class _Fetcher:
    """One download: the machine, its tasks, its tickets."""

    def __init__(
        self, location: Location, session: aiohttp.ClientSession, observer: Observer | None, config: Config
    ) -> None:
        self._location = location
        self._session = session
        self._scheduler = Scheduler(location.scheduler, session=session)
        self._observer = observer
        self._config = config
        self._log = logging.getLogger(f"{__name__}.{location.object_id[:8]}")
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._chunk_tasks: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets: dict[str, TicketReceipts] = {}
        self._confirmed_at_ms: dict[str, int] = {}
        self._posting: set[str] = set()
        self._bytes_by_source: dict[str, int] = {}
        self._dropped: dict[str, str] = {}
        self._signed: SignedManifest
        self._machine: FetchPlan
        self._sink: Sink
        self._origin = ""

    @staticmethod
    def _now_ms() -> int:
        return time.monotonic_ns() // 1_000_000

    async def run(self, sink_of: Callable[[str], Sink]) -> FetchResult:
        started_ms = self._now_ms()
        planned = await self._plan()
        plan = planned.plan
        assert plan is not None
        try:
            self._signed = verify_manifest(plan.manifest, planned.keys, self._location.object_id)
        except PeerError as error:
            raise BadAnswer(self._location.scheduler, f"the manifest is refused: {error.detail}") from error
        manifest = self._signed.manifest
        name = safe_name(self._location.name or plan.name, self._location.object_id)
        self._sink = sink_of(name)
        held = await self._sink.open(manifest)
        held_bytes = sum(manifest.chunk_span(index)[1] for index in held)
        machine_config = self._config.machine
        if self._sink.ahead_chunks_max is not None:
            machine_config = replace(machine_config, ahead_chunks_max=self._sink.ahead_chunks_max)
        self._machine = FetchPlan(manifest.size, manifest.chunk_size, held, machine_config, random.random())
        if self._observer is not None:
            self._observer.started(name, manifest.size, held_bytes)
        try:
            self._use(planned)
            await self._drive()
            await self._stop()
            await self._sink.finish()
        finally:
            await self._stop()
            await self._sink.abandon()
        seconds = (self._now_ms() - started_ms) / 1000
        return FetchResult(
            self._location.object_id,
            name,
            manifest.size,
            dict(self._bytes_by_source),
            held_bytes,
            seconds,
            dict(self._dropped),
        )

    # ------------------------------------------------------------------ the loop

    async def _drive(self) -> None:
        while True:
            for command in self._machine.poll(self._now_ms()):
                match command:
                    case Fetch():
                        name = f"chunk {command.chunk} from {command.source}"
                        self._chunk_tasks[command.request] = self._spawn(self._fetch_chunk(command), name)
                    case Abort(request):
                        self._abort(request)
                    case Replan():
                        self._spawn(self._replan(), "plan anew")
                    case Finish():
                        return
                    case GiveUp():
                        raise FetchFailed(
                            "neither the devices nor the origin could bring the rest of the object",
                            "start it again later: it resumes",
                        )
            event: _Event | None = None
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation (Ctrl-C) that comes together with an event.
                async with asyncio.timeout(self._config.tick_s):
                    event = await self._events.get()
            except TimeoutError:
                pass  # time alone may make something due
            while event is not None:
                self._handle(event)
                event = None if self._events.empty() else self._events.get_nowait()
            self._post_overdue()

    def _handle(self, event: _Event) -> None:
        now_ms = self._now_ms()
        match event:
            case _Got(command, digest, ms):
                if self._chunk_tasks.pop(command.request, None) is None:
                    return  # aborted while its event was under way: another source's answer counted
                length = self._machine.chunk_length(command.chunk)
                commands = self._machine.verified(command.request, now_ms)
                ticket = self._tickets.get(command.source)
                if ticket is not None:
                    ticket.confirm(length, ms, digest)
                    self._confirmed_at_ms[command.source] = now_ms
                source = ORIGIN if ticket is None else ticket.device_id
                self._bytes_by_source[source] = self._bytes_by_source.get(source, 0) + length
                if self._observer is not None:
                    self._observer.got(source, length)
                for abort in commands:
                    if isinstance(abort, Abort):
                        self._abort(abort.request)
            case _Lost(command, failure, why, retry_after_s):
                self._chunk_tasks.pop(command.request, None)
                self._machine.failed(command.request, failure, now_ms, retry_after_s * 1000)
                ticket = self._tickets.get(command.source)
                source = ORIGIN if ticket is None else ticket.device_id
                self._log.info("chunk %d from %s: %s", command.chunk, source, why)
                if failure is Failure.WRONG:
                    self._dropped[source] = why
                    if self._observer is not None:
                        self._observer.dropped(source, why)
            case _Planned(plan):
                if plan is None:
                    self._machine.replan_failed(now_ms)
                else:
                    self._use(event)
            case BaseException():
                raise event

    def _abort(self, request: int) -> None:
        task = self._chunk_tasks.pop(request, None)
        if task is not None:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._events.put_nowait(error)

    async def _stop(self) -> None:
        """End all transfers, then hand over the last receipts."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, _Got):
                self._handle(event)  # it was kept, so it is confirmed
        due = [key for key, ticket in self._tickets.items() if ticket.is_due]
        await asyncio.gather(*(self._post_receipt(key) for key in due))

    # ------------------------------------------------------------------ plans

    async def _plan(self) -> _Planned:
        key = PrivateKey.generate()
        keys = await self._scheduler.keys()
        return _Planned(await self._scheduler.plan(self._location.object_id, key.public.jwk()), key, keys)

    async def _replan(self) -> None:
        try:
            planned = await self._plan()
        except ClientError as error:
            self._log.info("no new plan: %s", error.detail)
            planned = _Planned(None, PrivateKey.generate(), {})
        self._events.put_nowait(planned)

    def _use(self, planned: _Planned) -> None:
        assert planned.plan is not None
        now_ms = self._now_ms()
        self._origin = planned.plan.origin
        sources = []
        for offered in planned.plan.sources:
            try:
                sources.append(self._accept(offered, planned, now_ms))
            except PeerError as error:
                self._log.warning("ticket for %s is refused: %s", offered.device_id, error.detail)
        self._machine.planned(sources, now_ms)

    def _accept(self, offered: PlanSource, planned: _Planned, now_ms: int) -> TicketSource:
        """:raises PeerError: for a ticket that we could not sign receipts for."""
        ticket = verify_ticket(offered.ticket, planned.keys.get).value
        if ticket.aud != offered.device_id or ticket.obj != self._location.object_id:
            raise PeerError("it is for another device or object")
        if ticket.cnf is None or PublicKey.from_jwk(ticket.cnf.jwk) != planned.key.public:
            raise PeerError("it is not bound to our key")
        if urlsplit(offered.url).scheme not in ("http", "https"):
            raise PeerError("its address is not http")
        self._tickets[ticket.jti] = TicketReceipts(
            ticket.jti, offered.device_id, offered.url, offered.ticket, planned.key
        )
        # By its lifetime, not by its times: this computer's clock may be wrong. The margin is for a last chunk.
        lifetime_s = ticket.exp - ticket.iat
        until_ms = now_ms + int(1000 * (lifetime_s - min(self._config.expiry_margin_s, lifetime_s / 4)))
        count = len(self._signed.manifest.chunks)
        first, chunks = first_chunk(ticket.obj, offered.device_id, count), None
        if offered.stripe is not None:
            first, chunks = offered.stripe.first % count, offered.stripe.chunks
        return TicketSource(ticket.jti, offered.device_id, ticket.max_bytes, until_ms, first, offered.rtt_ms, chunks)

    # ------------------------------------------------------------------ chunks

    async def _fetch_chunk(self, command: Fetch) -> None:
        started_ms = self._now_ms()
        event: _Event
        try:
            data = await self._download(command)
            await asyncio.to_thread(self._signed.manifest.verify_chunk, command.chunk, data)
            ms = self._now_ms() - started_ms
            await self._sink.write(command.chunk, data)
            event = _Got(command, self._signed.manifest.chunks[command.chunk], ms)
        except ChunkMismatch as error:
            event = _Lost(command, Failure.WRONG, error.detail)
        except TooLong as error:
            event = _Lost(command, Failure.WRONG, str(error))
        except BrokenOff as error:
            event = _Lost(command, Failure.BROKEN, str(error))
        except _Refused as refused:
            event = _Lost(command, refused.failure, str(refused), refused.retry_after_s)
        except aiohttp.ClientConnectorError as error:
            event = _Lost(command, Failure.BUSY, reason_of(error))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            event = _Lost(command, Failure.BROKEN, reason_of(error))
        self._events.put_nowait(event)

    async def _download(self, command: Fetch) -> memoryview:
        """The bytes that a source gives for a chunk; not verified yet."""
        manifest = self._signed.manifest
        start, length = manifest.chunk_span(command.chunk)
        ticket = self._tickets.get(command.source)
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        url = URL(self._origin if ticket is None else ticket.url, encoded=True)
        receipt = None
        if ticket is not None:
            url = url.update_query(ticket=ticket.ticket)
            receipt = ticket.latest() if ticket.is_due else None
            if receipt is not None:
                headers[RECEIPT_HEADER] = receipt[1]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._config.connect_s, sock_read=self._config.stall_s)
        # A device must not send us elsewhere; the origin may, for what arrives is verified.
        async with self._session.get(url, headers=headers, timeout=timeout, allow_redirects=ticket is None) as response:
            self._check_answer(response, Span(start, length, manifest.size, True))
            self._machine.answered(command.request, self._now_ms())
            if ticket is not None and receipt is not None:
                ticket.delivered(receipt[0])
            return await read_body(response, length, lambda: self._began(command.request))

    def _began(self, request: int) -> None:
        for abort in self._machine.began(request, self._now_ms()):
            self._abort(abort.request)

    def _check_answer(self, response: aiohttp.ClientResponse, span: Span) -> None:
        """:raises _Refused: unless the body will be exactly ``span``."""
        status = response.status
        if status == 206 and response.headers.get("Content-Range") == span.content_range():
            return
        if status == 200 and span.length == span.size and response.content_length == span.size:
            return
        if status in (429, 500, 502, 503, 504):
            after = response.headers.get("Retry-After", "")
            retry_after_s = int(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0
            raise _Refused(Failure.BUSY, f"status {status}", min(retry_after_s, self._config.retry_after_s_max))
        raise _Refused(Failure.GONE, f"status {status}")

    # ------------------------------------------------------------------ receipts

    def _post_overdue(self) -> None:
        """Receipts that no request carried: of sources that rest, were closed, or have no more to do."""
        before_ms = self._now_ms() - int(self._config.receipt_after_s * 1000)
        for key, ticket in self._tickets.items():
            if ticket.is_due and key not in self._posting and self._confirmed_at_ms[key] <= before_ms:
                self._posting.add(key)
                self._confirmed_at_ms[key] = self._now_ms()
                self._spawn(self._post_receipt(key), f"receipt to {ticket.device_id}")

    async def _post_receipt(self, key: str) -> None:
        ticket = self._tickets[key]
        receipt = ticket.latest()
        assert receipt is not None
        number, token = receipt
        url = URL(ticket.url, encoded=True).origin() / "v1/receipts"
        timeout = aiohttp.ClientTimeout(total=self._config.receipt_post_s)
        headers = {"Content-Type": "application/jwt"}
        try:
            async with self._session.post(
                url, data=token.encode("ascii"), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status < 300:
                    ticket.delivered(number)
                else:
                    self._log.info("%s refused a receipt: status %d", ticket.device_id, response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._log.info("%s could not be given a receipt: %s", ticket.device_id, reason_of(error))
        finally:
            self._posting.discard(key)
