"""The service port (32557): objects for holders of tickets, receipts, and dial-backs. Nothing else.

It stands on a small HTTP server of its own (:mod:`.server`). aiohttp's takes three times the processor time of nginx
for ranges of 64 KiB before a ticket is even looked at, four times in pure Python, which is what routers have; it
limits neither slow request heads nor connections in number, and has no public way to hand its socket to ``sendfile``.
``bench/edge.py`` measures what this one takes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from fallow_wire.errors import PeerError
from fallow_wire.fields import encode
from fallow_wire.http import Problem, Span, etag_of, not_modified, repr_digest
from fallow_wire.keys import PrivateKey, PublicKey
from fallow_wire.lan import Limits
from fallow_wire.limits import RECEIPT_BYTES_MAX
from fallow_wire.session import sign_dial_back
from fallow_wire.strict import dumps

from fallow_agent.clock import Clock
from fallow_agent.line.pacer import Pacer
from fallow_agent.proofs.outbox import Outbox, OutboxUnavailable

from . import cross_origin, http1, sending
from .account import Account
from .admission import ELSEWHERE, Refusal, Refused, VerifiedTickets, admit_ticket, admit_transfer, line_busy, not_held
from .connection import Connection
from .content import ContentStore
from .dial_back import DialBackNonces
from .fill import Gone, StoredObject
from .http1 import BadRequest, Request
from .pulling import LEGACY_PULL_S_MAX, PULL_S_MAX, Partial, PullFailed, Pulls
from .register import SAVE_INTERVAL_S, Register
from .server import EdgeConfig, Server
from .turns import Turns

_log = logging.getLogger(__name__)

PULL_RETRY_S = 2
OBJECT_LINES_MAX = 256
"""Ready header lines, about 300 bytes each."""

_OBJECT = re.compile(r"/o/([0-9a-f]{64})/[^/]{1,765}\Z")
_DIAL_BACK = re.compile(r"/v1/dial-back/([A-Za-z0-9_-]{16,64})\Z")
_RECEIPTS = "/v1/receipts"


@dataclass(frozen=True, slots=True)
class Session:
    """A transfer under way, for the owner to see. The consumer's address is not in it."""

    object: str
    service: str
    tier: str
    bytes_sent: int
    started_at: int


class EdgeService:
    """Answers on the service port; the accounts of tickets are its own."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        key: PrivateKey,
        clock: Clock,
        content: ContentStore,
        outbox: Outbox,
        pacer: Pacer,
        scheduler_key: Callable[[str], PublicKey | None],
        limits: Callable[[], Limits],
        refusal: Callable[[], Refusal | None],
        ticket_idle_s: Callable[[], int],
        nonces: DialBackNonces,
        connections_max: Callable[[], int],
        pulls: Pulls | None = None,
    ) -> None:
        """:param scheduler_key: the key of a ``kid``, or None when the scheduler does not use it.
        :param refusal: why nothing is served now (paused, hours, quota, line), or None.
        :param ticket_idle_s: the policy's, in force now.
        :param connections_max: open connections that the host allows now, idle ones included; 0 for no new transfer.
        :param pulls: what is held in part; None where nothing ever is.
        """
        self._head_s = config.head_s
        self._key = key
        self._device_id = key.public.device_id()
        self._clock = clock
        self._content = content
        self._pacer = pacer
        self._limits = limits
        self._refusal = refusal
        self._ticket_idle_s = ticket_idle_s
        self._nonces = nonces
        self._connections_max = connections_max
        self._pulls = pulls
        self._tickets = VerifiedTickets(scheduler_key)
        self._register = Register(outbox, clock)
        self._transfers: dict[Connection, sending.Progress] = {}
        self.turns = Turns(lambda: pacer.rate_bps)
        self._bytes_up_ended = 0
        self._connections_total_max = config.connections_total_max
        self._server = Server(config, self._answer, self._answer_bad, pacer.prepare, connections_max)
        self._ticker: asyncio.Task[None] | None = None
        self._object_lines: dict[str, bytes] = {}
        self._date = (0, (b"", b""))

    # ------------------------------------------------------------------ for the composition root

    async def start(self) -> int:
        """Listen. Gives the port, which the config may have left to the system (0).

        :raises OSError: the port is taken.
        """
        self._ticker = asyncio.get_running_loop().create_task(self._tick(), name="edge-tick")
        return self._server.start()

    async def close(self) -> None:
        """Stop listening, end every connection, save every account."""
        await self._server.close()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait((self._ticker,))
        self.close_idle()

    async def stop_transfers(self) -> None:
        """End every transfer, at once: what the kernel still holds is thrown away."""
        await self._server.end(tuple(self._transfers))
        self._save()

    def sessions(self) -> list[Session]:
        """The transfers under way."""
        return [
            Session(
                progress.account.ticket.obj,
                progress.account.ticket.svc,
                progress.account.ticket.tier,
                progress.sent_bytes,
                progress.started_at,
            )
            for progress in self._transfers.values()
        ]

    @property
    def transfers_max(self) -> int:
        """Transfers at once, as things stand: the owner's limit, or the host's where that is less."""
        return min(self._limits().connections_max, self.connections_max)

    @property
    def connections_max(self) -> int:
        """Open connections at most, idle ones included, as things stand."""
        return min(self._connections_total_max, self._connections_max())

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return self._server.connections

    @property
    def refused_total(self) -> int:
        """Connections closed at once since the start, because there were too many or they came too fast."""
        return self._server.refused_total

    @property
    def bytes_up_total(self) -> int:
        """Payload bytes sent since the start."""
        return self._bytes_up_ended + sum(progress.sent_bytes for progress in self._transfers.values())

    def close_idle(self) -> None:
        """Save, and seal what is complete, idle or expired. Runs every second; call it before a last submission."""
        self._save()
        try:
            self._register.close_idle(self._clock.now(), self._ticket_idle_s())
        except OutboxUnavailable as error:
            _log.error("served tickets cannot be sealed: %s", error.detail)

    def close_all(self) -> None:
        """Seal every ticket that is not being served right now: the device leaves."""
        self._save()
        self._register.close_all()

    def keys_changed(self) -> None:
        """The scheduler's keys have changed: tickets are verified anew."""
        self._tickets.clear()

    # ------------------------------------------------------------------ what admission asks for (Door)

    def is_served(self, service: str) -> bool:
        return self._limits().services.get(service, True)

    def is_spent(self, jti: str) -> bool:
        return self._register.is_spent(jti)

    def size_of(self, object_id: str) -> int | None:
        stored = self._stored(object_id)
        return None if stored is None else stored.size

    def _stored(self, object_id: str) -> StoredObject | None:
        """An object that is held, whole or in part."""
        stored = self._content.get(object_id)
        return stored if stored is not None or self._pulls is None else self._pulls.described(object_id)

    def refusal(self) -> Refusal | None:
        return self._refusal()

    def is_full(self) -> bool:
        return len(self._transfers) >= self.transfers_max

    def is_table_full(self) -> bool:
        return self._connections_max() <= 0

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL_S)
            try:
                self.close_idle()
            except Exception:  # noqa: BLE001 - outermost: the next second may be better, and serving goes on
                _log.exception("served tickets could not be saved or sealed")

    def _save(self) -> None:
        try:
            self._register.save()
        except OutboxUnavailable as error:
            _log.error("what was served cannot be saved: %s", error.detail)

    # ------------------------------------------------------------------ answers

    async def _answer(self, connection: Connection, request: Request) -> bool:
        """Answer one request; False when the connection is to be closed after it."""
        keep = request.keep_alive
        try:
            if request.method == "POST" and request.path == _RECEIPTS:
                await self._take_receipt(connection, request, keep)
                return keep
            if request.body_bytes:
                raise BadRequest(413, "body-too-large", "this request takes no body")
            found = _OBJECT.match(request.path)
            if found is not None and request.method in ("GET", "HEAD"):
                return await self._give_object(connection, request, found[1], keep)
            await connection.write(self._small_answer(request, found is not None, keep))
        except Refused as refused:
            refusal = refused.refusal
            lines = self._lines()
            if refusal.problem.status == 416:
                size = self._stored(_object_of(request))
                lines += b"Content-Range: bytes */%d\r\n" % (size.size if size else 0)
            await connection.write(
                http1.problem_answer(
                    refusal.problem, lines, keep, refusal.retry_after_s, with_body=request.method != "HEAD"
                )
            )
        return keep

    def _answer_bad(self, bad: BadRequest) -> bytes:
        """The last answer of a connection whose request could not be read."""
        return http1.problem_answer(bad.problem, self._lines(is_open=False), False, None, True)

    async def _give_object(self, connection: Connection, request: Request, object_id: str, keep: bool) -> bool:
        fields = request.fields
        signed = admit_ticket(
            _ticket_in(request.query), object_id, self._clock.now(), self._device_id, self._tickets, self
        )
        account = self._register.open(signed)
        receipt = fields.get("fallow-receipt")
        if receipt is not None:
            self._confirmed(lambda: self._register.confirm(account, receipt))
        # Validators come before ranges, and ranges belong to GET alone (RFC 9110, sections 13.2.2 and 14.2).
        unchanged = not_modified(fields.get("if-none-match"), etag_of(object_id))
        with_body = request.method == "GET" and not unchanged
        range_header = fields.get("range") if with_body else None
        span = admit_transfer(account, range_header, fields.get("if-range"), with_body=with_body, door=self)
        stored = self._stored(object_id)
        if stored is None:
            raise Refused(not_held())
        self._check_pull(object_id, span)
        lines = self._lines() + self._lines_of(stored)
        if unchanged:
            await connection.write(http1.head(304, lines, keep))
            return keep
        if span.partial:
            lines += b"Content-Range: %s\r\nContent-Length: %d\r\n" % (span.content_range().encode(), span.length)
            head = http1.head(206, lines, keep)
        else:
            lines += b"Content-Length: %d\r\n" % stored.size
            head = http1.head(200, lines, keep)
        if not with_body:
            await connection.write(head)
            return keep
        return await self._transfer(connection, account, span, head) and keep

    async def _transfer(self, connection: Connection, account: Account, span: Span, head: bytes) -> bool:
        """Send ``head`` and ``span``; False when the answer had to be cut short."""
        loop = asyncio.get_running_loop()
        connection.deadline = loop.time() + sending.STALL_S_MAX
        object_id = account.ticket.obj
        progress = sending.Progress(account, self._clock.now())
        partial = None if self._pulls is None or self._content.has(object_id) else self._pulls.get(object_id)
        try:
            with self._content.reading(object_id) if partial is None else partial.fill.reading() as descriptor:
                self._register.begin(account)
                self._transfers[connection] = progress
                try:
                    if partial is None:
                        await self._send(connection, descriptor, span, progress, head)
                    else:
                        await self._send_pulled(partial, connection, descriptor, span, progress, head)
                finally:
                    del self._transfers[connection]
                    self._bytes_up_ended += progress.sent_bytes
                    self._register.end(account)
        except Gone:
            raise Refused(not_held()) from None
        except OutboxUnavailable as error:
            raise Refused(_outbox_unavailable(error)) from None
        except (sending.ReceiptMissing, PullFailed):
            return False
        except sending.ContentLost:
            self._content.lost(object_id, "its file ended early")
            return False
        return True

    async def _send(
        self, connection: Connection, descriptor: int, span: Span, progress: sending.Progress, head: bytes
    ) -> None:
        if head and self.turns.full:
            await connection.write(head)  # at once: it is a sign of life, and whoever sees none asks elsewhere
            head = b""
        async with self.turns.turn(connection, sending.STALL_S_MAX):
            share = self._pacer.join(connection.socket, connection.wake)
            try:
                await connection.write(head, more=span.length > 0)
                await sending.send_span(connection, descriptor, span, share, progress)
            finally:
                share.leave()

    async def _send_pulled(
        self, partial: Partial, connection: Connection, descriptor: int, span: Span,
        progress: sending.Progress, head: bytes,
    ) -> None:  # fmt: skip
        """Chunk by chunk as they come, after the head. Who waits for a chunk takes no part of the budget."""
        assert self._pulls is not None
        await connection.write(head)
        patience_s = PULL_S_MAX if progress.account.countersigned else LEGACY_PULL_S_MAX
        for index, piece in partial.pieces(span):
            await self._pulls.arrival(partial, index, connection, sending.STALL_S_MAX, patience_s)
            await self._send(connection, descriptor, piece, progress, b"")

    def _check_pull(self, object_id: str, span: Span) -> None:
        """:raises Refused: the first chunk is not here and may not be fetched now."""
        partial = None if self._pulls is None or self._content.has(object_id) else self._pulls.get(object_id)
        if self._pulls is None or partial is None or not span.length:
            return
        if not self._pulls.admits(partial, span.start // partial.fill.manifest.chunk_size):
            raise Refused(line_busy("The device holds only other parts of the object now.", PULL_RETRY_S))

    async def _take_receipt(self, connection: Connection, request: Request, keep: bool) -> None:
        if request.body_bytes > RECEIPT_BYTES_MAX:
            raise BadRequest(413, "body-too-large", f"a receipt has at most {RECEIPT_BYTES_MAX} bytes")
        connection.deadline = asyncio.get_running_loop().time() + self._head_s
        if request.fields.get("expect", "").lower() == "100-continue":
            await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        token = (await connection.body(request.body_bytes)).strip()
        self._confirmed(lambda: self._register.confirm_any(token))
        await connection.write(http1.head(204, self._lines(), keep))

    def _confirmed(self, confirm: Callable[[], Account]) -> None:
        """Take a receipt, and let the transfers go on that waited for it."""
        try:
            account = confirm()
        except PeerError as error:
            raise Refused(
                Refusal(Problem(400, error.slug, "Receipt refused", error.detail, "caller", "send the last good one"))
            ) from None
        except OutboxUnavailable as error:
            raise Refused(_outbox_unavailable(error)) from None
        for connection, progress in self._transfers.items():
            if progress.account is account:
                connection.wake()

    def _small_answer(self, request: Request, is_object: bool, keep: bool) -> bytes:
        """Everything but objects and receipts."""
        is_open = is_object or request.path == _RECEIPTS
        lines = self._lines(is_open=is_open)
        if is_open:
            allowed = b"GET, HEAD, OPTIONS" if is_object else b"POST, OPTIONS"
            if request.method == "OPTIONS":
                return http1.head(204, lines + cross_origin.preflight_lines(is_object=is_object), keep)
            problem = Problem(405, "method-not-allowed", "Method not allowed", f"allowed: {allowed.decode()}")
            lines += b"Allow: %s\r\n" % allowed
            return http1.problem_answer(problem, lines, keep, None, request.method != "HEAD")
        nonce = _DIAL_BACK.match(request.path)
        if nonce and request.method == "GET" and self._nonces.knows(nonce[1], self._clock.monotonic()):
            body = dumps(encode(sign_dial_back(nonce[1], self._key)))
            lines += b"Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: %d\r\n" % len(body)
            return http1.head(200, lines, keep) + body
        problem = Problem(404, "not-found", "Not found", "there is nothing at this address", remedy=ELSEWHERE)
        return http1.problem_answer(problem, lines, keep, None, request.method != "HEAD")

    def _lines(self, *, is_open: bool = True) -> bytes:
        """Header lines of every answer. ``is_open``: at an address that pages of any site may ask."""
        now = self._clock.now()
        if self._date[0] != now:
            lines = b"Date: %s\r\nX-Content-Type-Options: nosniff\r\n" % formatdate(now, usegmt=True).encode("ascii")
            self._date = (now, (lines, lines + cross_origin.OPEN))
        return self._date[1][is_open]

    def _lines_of(self, stored: StoredObject) -> bytes:
        """Header lines that belong to an object; the URL and its ticket are one consumer's, so caches stay private."""
        lines = self._object_lines.get(stored.object_id) if stored.sha256 is not None else None
        if lines is None:
            digest = "" if stored.sha256 is None else f"Repr-Digest: {repr_digest(stored.sha256)}\r\n"
            lines = (
                f"Accept-Ranges: bytes\r\nETag: {etag_of(stored.object_id)}\r\nContent-Type: {stored.type}\r\n"
                f"{digest}Cache-Control: private, max-age=900, immutable\r\n"
            ).encode("ascii")
            if stored.sha256 is not None:
                if len(self._object_lines) >= OBJECT_LINES_MAX:
                    self._object_lines.clear()
                self._object_lines[stored.object_id] = lines
        return lines


def _ticket_in(query: str) -> str | None:
    """The one ``ticket`` parameter, else None. A compact JWS needs no percent-encoding."""
    found = [pair[7:] for pair in query.split("&") if pair.startswith("ticket=")]
    return found[0] if len(found) == 1 else None


def _object_of(request: Request) -> str:
    found = _OBJECT.match(request.path)
    return found[1] if found else ""


def _outbox_unavailable(error: OutboxUnavailable) -> Refusal:
    return Refusal(Problem(503, error.slug, "No room for proofs", error.detail, "here", ELSEWHERE), 60)
