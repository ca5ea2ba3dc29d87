"""Filling: fetching an object from its sources, in order, each chunk verified before it is written.

A source is another device, which wants a ticket and gets receipts signed with this device's key, or the origin. What a
source may not do: send a wrong chunk, redirect, compress, answer another range than the one asked for, or lie in the
owner's home (:mod:`fallow_agent.outward`). One that does is dropped for good; one that is away or busy is asked again
later, until the deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from fallow_wire.errors import ChunkMismatch, FallowError, PeerError
from fallow_wire.jws import Kind, parse, sign, split
from fallow_wire.keys import PrivateKey, PublicKey
from fallow_wire.manifest import SignedManifest
from fallow_wire.session import Source, Task
from fallow_wire.tickets import Receipt, Ticket, unacknowledged_bytes_max
from yarl import URL

from fallow_agent.clock import Clock
from fallow_agent.line.marking import LowerEffort
from fallow_agent.line.pacer import WIRE_PERMILLE
from fallow_agent.line.tcp_info import received_by, sent_by
from fallow_agent.outward import Outward, fault_of

from .content import ContentStore
from .fill import Fill, Gone, NoSpace

_log = logging.getLogger(__name__)

REQUEST_CHUNKS_MAX = 8
"""Per request. A device confirms nothing in between, so it must also fit the window of a countersigned ticket."""
PIECE_BYTES = 64 * 1024
"""Read at once; the download budget is kept between pieces."""
BUDGET_POLL_S = 1.0
"""How often a budget of 0 is looked at again."""
PAUSE_S_MIN, PAUSE_S_MAX = 1.0, 60.0
"""Between two rounds through the sources; it doubles, and a ``Retry-After`` raises it."""
ROUNDS_WITHOUT_PROGRESS_MAX = 10
"""With the pauses above about eight minutes, when there is no deadline."""
CONNECT_S, READ_S = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class FillConfig:
    """``private_sources``: allow sources, and a ledger, on private addresses. Only where the scheduler itself, to which
    the owner has sent the device, is on one; else it could make the device knock at the owner's other machines."""

    private_sources: bool = False


class FillFailed(FallowError):
    """The object could not be fetched. ``slug``: ``deadline``, ``no-source``, ``no-space``, ``disk``
    or ``dropped``."""

    slug = "no-source"

    @property
    def reason(self) -> str:
        """One line for the task's status."""
        return f"{self.slug}: {self.detail}"[:256]


class _SourceBad(Exception):
    """Never ask this source again."""


class _SourceAway(Exception):
    """Ask it again later, after ``retry_after_s``."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


def filling_session(config: FillConfig) -> aiohttp.ClientSession:
    """The session that a :class:`Filler` wants, made in a running loop.

    No cookies, no proxy, and public addresses only unless configured.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
    if config.private_sources:
        return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, timeout=timeout)
    return Outward().session(auto_decompress=False, timeout=timeout)


class Supplier:
    """One source during one fill: its address, and what this device has confirmed to it."""

    def __init__(self, source: Source, key: PrivateKey, config: FillConfig) -> None:
        self.url = URL(source.url, encoded=True)
        self.receipt: str | None = None
        self.bad: str | None = None
        self._key = key
        self._ticket: Ticket | None = None
        self._device = "a device" if source.ticket is not None else ""
        self._n = 0
        self._bytes = 0
        self._ms = 0
        if self.url.scheme not in ("http", "https") or not self.url.host:
            self.bad = "its address is not http or https"
        elif not config.private_sources and Outward().refuses(self.url.host):
            self.bad = "its address is private"
        if source.ticket is not None:
            joint = "&" if self.url.raw_query_string else "?"
            self.url = URL(f"{self.url}{joint}ticket={source.ticket}", encoded=True)
            try:
                ticket = parse(split(source.ticket, Kind.TICKET), Ticket)
            except PeerError as error:
                self.bad = f"its ticket cannot be read: {error.detail}"
            else:
                self._device = ticket.aud
                self._ticket = ticket if ticket.cnf is not None else None
                if ticket.cnf is not None and PublicKey.from_jwk(ticket.cnf.jwk) != key.public:
                    self.bad = "its ticket is another device's"

    @property
    def name(self) -> str:
        """For logs and for the scheduler: another device by its id, as its address is a household's."""
        return self._device or f"{self.url.scheme}://{self.url.authority}"

    def chunks_max(self, chunk_size: int) -> int:
        """Chunks to ask for at once."""
        if self._ticket is None:
            return REQUEST_CHUNKS_MAX
        return max(1, min(REQUEST_CHUNKS_MAX, unacknowledged_bytes_max(self._bytes) // chunk_size))

    def confirm(self, data: bytearray, ms: int) -> None:
        """A chunk was verified: the receipt that goes with the next request counts it."""
        if self._ticket is None:
            return
        self._n += 1
        self._bytes += len(data)
        self._ms += ms
        digest = hashlib.sha256(data).hexdigest()
        confirmed = min(self._bytes, self._ticket.max_bytes)
        self.receipt = sign(Kind.RECEIPT, Receipt(self._ticket.jti, self._n, confirmed, self._ms, digest), self._key)


class Filler:
    """Fetches objects into the store, one call each. It sends nothing but requests for what a task names.

    :param http: see :func:`filling_session`.
    :param download_bps: the download budget now, in bit/s; 0 waits.
    """

    def __init__(
        self,
        content: ContentStore,
        http: aiohttp.ClientSession,
        key: PrivateKey,
        clock: Clock,
        download_bps: Callable[[], int],
        config: FillConfig | None = None,
    ) -> None:
        self.bytes_down_total = 0
        self._content = content
        self._http = http
        self._key = key
        self._clock = clock
        self._download_bps = download_bps
        self._config = config or FillConfig()
        self._lower_effort = LowerEffort()
        self._free_at = 0.0
        self._wire_up_bytes = self._wire_bytes = 0
        self._carried: dict[asyncio.BaseTransport, tuple[int, int]] = {}
        """By each open connection, up and down, when it was looked at last."""

    def wire_bytes(self) -> tuple[int, int]:
        """Bytes on the wire since the start: what fills have sent, which is acknowledgements more than anything, and
        what they have received, read or still in the kernel's buffer."""
        for transport, (up_before, before) in tuple(self._carried.items()):
            sock = transport.get_extra_info("socket")
            gone = sock is None or sock.fileno() < 0
            received, sent = (None, None) if gone else (received_by(sock), sent_by(sock))
            if received is None or sent is None:
                del self._carried[transport]
                continue
            self._wire_up_bytes += sent.wire_bytes - up_before
            self._wire_bytes += received - before
            self._carried[transport] = sent.wire_bytes, received
        return self._wire_up_bytes, self._wire_bytes

    async def fill(self, task: Task, manifest: SignedManifest, progress: Callable[[int], None]) -> None:
        """Fetch the object of ``manifest``; at once when it is held. ``progress`` gets the verified bytes so far.

        Cancelled, it leaves what it has on disk, and the next fill of the object goes on from there.

        :raises FillFailed: saying why.
        """
        if self._content.has(manifest.object_id):
            progress(manifest.manifest.size)
            return
        try:
            fill = self._content.begin(manifest, fleeting=task.kind == "live")
        except NoSpace as error:
            raise FillFailed(error.detail, slug="no-space") from None
        try:
            progress(await asyncio.to_thread(fill.recover))
            async with asyncio.timeout(self._time_left_s(task)):
                await self._fetch(task, fill, progress)
            fill.publish(await asyncio.to_thread(fill.finish))
        except NoSpace as error:
            fill.discard()
            raise FillFailed(error.detail, slug="no-space") from None
        except Gone as error:
            raise FillFailed(error.detail, slug="dropped") from None
        except TimeoutError:
            raise FillFailed("the task's time is over", slug="deadline") from None
        except OSError as error:
            raise FillFailed(f"the disk refuses: {error.strerror}", slug="disk") from None
        finally:
            fill.close()

    def suppliers(self, task: Task) -> list[Supplier]:
        return [Supplier(source, self._key, self._config) for source in task.sources]

    async def take_chunk(self, fill: Fill, suppliers: list[Supplier], index: int) -> None:
        """Fetch one chunk, from the first source that gives it.

        :raises FillFailed: none does now, or the disk refuses.
        :raises Gone: the fill was given up.
        """
        why = "the task names no source"
        for supplier in suppliers:
            if supplier.bad is not None:
                why = supplier.bad
                continue
            try:
                await self._take(fill, supplier, index, index + 1, lambda held: None)
            except _SourceBad as bad:
                supplier.bad = why = str(bad)
                _log.warning("source %s is dropped: %s", supplier.name, bad)
            except _SourceAway as away:
                why = str(away)
            except NoSpace as error:
                raise FillFailed(error.detail, slug="no-space") from None
            else:
                return
        raise FillFailed(why, slug="no-source")

    async def _fetch(self, task: Task, fill: Fill, progress: Callable[[int], None]) -> None:
        suppliers = self.suppliers(task)
        pause_s, fruitless = PAUSE_S_MIN, 0
        while fill.missing() is not None:
            before = fill.bytes_held()
            retry_after_s = await self._round(fill, suppliers, progress)
            if fill.missing() is None:
                break
            if all(supplier.bad for supplier in suppliers):
                why = "; ".join(f"{supplier.name}: {supplier.bad}" for supplier in suppliers)
                raise FillFailed(why or "the task names no source", slug="no-source")
            grown = fill.bytes_held() > before
            pause_s, fruitless = (PAUSE_S_MIN, 0) if grown else (min(PAUSE_S_MAX, pause_s * 2), fruitless + 1)
            if fruitless >= ROUNDS_WITHOUT_PROGRESS_MAX:
                raise FillFailed("no source answers", slug="no-source")
            await asyncio.sleep(max(pause_s, min(retry_after_s, PAUSE_S_MAX)))
        for supplier in suppliers:
            await self._hand_over_receipt(supplier)

    async def _round(self, fill: Fill, suppliers: list[Supplier], progress: Callable[[int], None]) -> float:
        """Take from each source in turn all that it gives. The longest ``Retry-After`` that one asked for."""
        retry_after_s = 0.0
        for supplier in suppliers:
            try:
                while supplier.bad is None and (missing := fill.missing()) is not None:
                    first, end = missing
                    count = min(end - first, supplier.chunks_max(fill.manifest.chunk_size))
                    await self._take(fill, supplier, first, first + count, progress)
            except _SourceBad as bad:
                supplier.bad = str(bad)
                _log.warning("source %s is dropped: %s", supplier.name, bad)
            except _SourceAway as away:
                retry_after_s = max(retry_after_s, away.retry_after_s)
                _log.info("source %s is passed over: %s", supplier.name, away)
            if supplier.bad:
                await self._hand_over_receipt(supplier)
        return retry_after_s

    async def _take(
        self, fill: Fill, supplier: Supplier, first: int, end: int, progress: Callable[[int], None]
    ) -> None:
        """Ask for chunks [first, end) and write them as they come."""
        manifest = fill.manifest
        start = manifest.chunk_span(first)[0]
        last = sum(manifest.chunk_span(end - 1)) - 1
        fields = {"Range": f"bytes={start}-{last}", "Accept-Encoding": "identity"}
        if supplier.receipt is not None:
            fields["Fallow-Receipt"] = supplier.receipt
        try:
            async with self._http.get(supplier.url, headers=fields, allow_redirects=False) as response:
                _check_answer(response, start, last, manifest.size)
                self._take_note(response)
                for index in range(first, end):
                    began = self._clock.monotonic()
                    data = await self._read_chunk(response, manifest.chunk_span(index)[1])
                    await _write(fill, index, data)
                    supplier.confirm(data, int((self._clock.monotonic() - began) * 1000))
                    progress(fill.bytes_held())
                self.wire_bytes()  # the connection may be closed before it is looked at again
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _SourceAway(fault_of(error)) from None

    async def _read_chunk(self, response: aiohttp.ClientResponse, length: int) -> bytearray:
        data = bytearray()
        while len(data) < length:
            piece = await response.content.read(min(PIECE_BYTES, length - len(data)))
            if not piece:
                raise _SourceAway("the answer ended early")
            data += piece
            self.bytes_down_total += len(piece)
            if not self._carried:
                self._wire_bytes += len(piece) * WIRE_PERMILLE // 1000
            await self._keep_budget(len(piece))
        return data

    def _take_note(self, response: aiohttp.ClientResponse) -> None:
        """Count what comes by this connection as ours from the moment when it comes, not when it is read.

        From here on it is also marked; what went before is the handshake and one request.
        """
        transport = None if response.connection is None else response.connection.transport
        sock = None if transport is None else transport.get_extra_info("socket")
        if transport is None or sock is None:
            return
        self._lower_effort.mark(sock)
        if received_by(sock) is not None:
            self._carried.setdefault(transport, (0, 0))

    async def _keep_budget(self, count: int) -> None:
        """Wait until the budget has paid for ``count`` bytes; the sender is slowed down by the full socket."""
        while (budget_bps := self._download_bps()) <= 0:  # noqa: ASYNC110 - a reading; nothing announces it
            await asyncio.sleep(BUDGET_POLL_S)
        now = self._clock.monotonic()
        self._free_at = max(now, self._free_at) + count * 8 * WIRE_PERMILLE / 1000 / budget_bps
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    async def _hand_over_receipt(self, supplier: Supplier) -> None:
        """The last receipt, for which there is no next request. It is the other's loss only; we try once."""
        if supplier.receipt is None:
            return
        url = supplier.url.origin() / "v1/receipts"
        try:
            async with self._http.post(url, data=supplier.receipt.encode("ascii"), allow_redirects=False) as response:
                if response.status != 204:
                    _log.info("%s did not take the last receipt: %d", supplier.name, response.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            _log.info("%s did not take the last receipt: %s", supplier.name, fault_of(error))

    def _time_left_s(self, task: Task) -> float | None:
        return None if task.deadline is None else max(0.0, task.deadline - self._clock.now())


async def _write(fill: Fill, index: int, data: bytearray) -> None:
    """:raises FillFailed: our disk is at fault, not the source. :raises _SourceBad: it is not that chunk."""
    try:
        await asyncio.to_thread(fill.write, index, data)
    except ChunkMismatch as error:
        raise _SourceBad(error.detail) from None
    except OSError as error:
        raise FillFailed(f"the disk refuses: {error.strerror}", slug="disk") from None


def _check_answer(response: aiohttp.ClientResponse, start: int, last: int, size: int) -> None:
    """:raises _SourceBad: it will never give these bytes. :raises _SourceAway: it may later."""
    status = response.status
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _SourceAway(f"status {status}", float(wait) if wait.isdecimal() and len(wait) < 7 else 0.0)
    if status not in (200, 206):
        raise _SourceBad(f"status {status}" + (", a redirect, which is not followed" if 300 <= status < 400 else ""))
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _SourceBad("it compresses the object")
    if status == 200 and (start != 0 or last != size - 1):
        raise _SourceBad("it ignores ranges")
    if status == 206 and response.headers.get("Content-Range") != f"bytes {start}-{last}/{size}":
        raise _SourceBad("it answers another range than the one asked for")
