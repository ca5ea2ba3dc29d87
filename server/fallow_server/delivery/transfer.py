"""An object's bytes from this server: ranges, validators and digests as a device gives them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from aiohttp import web
from fallow_wire.errors import UnsatisfiableRange
from fallow_wire.http import Span, etag_of, not_modified, repr_digest, requested_span

from ..catalogue.blobs import Blobs
from ..catalogue.objects import HeldObject
from ..http import ApiProblem, caller_address, refusal
from .config import Config
from .pseudonym import prefix_of
from .turns import Busy, TooManyWait, Turns

SLICE_BYTES = 256 * 1024
"""Read in a thread and written in one go: the next is read when the socket has taken most of this one, so a slow
consumer holds two slices and no more."""
HELP_RETRY_S = 2


class Transfer:
    """Streams objects out of the blob store."""

    def __init__(self, config: Config, blobs: Blobs) -> None:
        self._config = config
        self._blobs = blobs
        self._running: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        """For a turn, or at it."""
        self._turns = Turns()
        self.sent_bytes = 0
        """To consumers, since the start."""
        self.filled_bytes = 0
        """To devices, for copies of theirs."""

    @property
    def running(self) -> int:
        """Transfers under way."""
        return self._running.total()

    def unchanged(self, request: web.Request, held: HeldObject) -> web.Response | None:
        """The 304 where the consumer has the object already, else None."""
        if not not_modified(request.headers.get("If-None-Match"), etag_of(held.object_id)):
            return None
        return web.Response(status=304, headers=_validators(held))

    def span(self, request: web.Request, held: HeldObject) -> Span:
        """What the request asks for. :raises ApiProblem: 416 for a range outside of the object."""
        try:
            return requested_span(
                request.headers.get("Range") if request.method == "GET" else None,
                request.headers.get("If-Range"),
                held.size,
                etag_of(held.object_id),
            )
        except UnsatisfiableRange as error:
            raise refusal(
                416, error.slug, "The range lies outside of the object", error.detail,
                headers={"Content-Range": f"bytes */{held.size}"},
            ) from None  # fmt: skip

    async def in_turn(self, request: web.Request, held: HeldObject) -> web.StreamResponse:
        """As :meth:`respond`, after others who wait for bytes of the same object.

        :raises ApiProblem: 429 and 503 at once, when too many wait.
        """
        consumer = prefix_of(caller_address(request))
        # Who waits holds a place in the queue, so that one address could keep all devices out of it.
        if self._waiting[consumer] >= self._config.transfers_per_consumer_max:
            raise _too_many_of_one()
        self._waiting[consumer] += 1
        try:
            async with self._turns.turn(held.object_id):
                return await self.respond(request, held)
        except TooManyWait:
            raise refusal(
                503, "too-many", "Too many wait for this object", fault="here", headers={"Retry-After": "5"}
            ) from None
        finally:
            self._waiting[consumer] -= 1
            if not self._waiting[consumer]:
                del self._waiting[consumer]

    async def help(self, request: web.Request, held: HeldObject) -> web.StreamResponse:
        """As :meth:`respond`, for a consumer that has devices to turn to as well.

        :raises ApiProblem: 503 while others need the origin more.
        """
        try:
            with self._turns.help(held.object_id):
                return await self.respond(request, held)
        except Busy:
            raise refusal(
                503, "origin-busy", "The origin cannot help now", remedy="Ask the devices of the plan.", fault="here",
                headers={"Retry-After": str(HELP_RETRY_S)},
            ) from None  # fmt: skip

    async def respond(self, request: web.Request, held: HeldObject) -> web.StreamResponse:
        """The bytes that the request asks for.

        :raises ApiProblem: 404 when they went meanwhile, 429 and 503 when too many transfers run.
        """
        span = self.span(request, held)
        response = web.StreamResponse(status=206 if span.partial else 200, headers=_validators(held))
        response.headers["Content-Type"] = held.type
        response.headers["Content-Length"] = str(span.length)
        # Publishers' pages must not act as pages of this server.
        response.headers["Content-Security-Policy"] = "sandbox"
        if span.partial:
            response.headers["Content-Range"] = span.content_range()
        if request.method == "HEAD" or span.length == 0:
            await response.prepare(request)
            await response.write_eof()
            return response
        consumer = prefix_of(caller_address(request))
        self._check_room(consumer)
        self._running[consumer] += 1
        try:
            with self._blobs.reading(held.object_id) as descriptor:
                await response.prepare(request)
                await self._stream(response, descriptor, span, fill="fill" in request.query or "turn" in request.query)
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            # The consumer went away, or takes nothing any longer: both are everyday, and the end of this connection.
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
        except FileNotFoundError:
            raise refusal(404, "not-found", "The object's bytes are no longer here") from None
        finally:
            self._running[consumer] -= 1
            if not self._running[consumer]:
                del self._running[consumer]
        return response

    def _check_room(self, consumer: str) -> None:
        if self._running[consumer] >= self._config.transfers_per_consumer_max:
            raise _too_many_of_one()
        if self.running >= self._config.transfers_max:
            headers = {"Retry-After": "5"}
            raise refusal(503, "too-many", "Too many transfers are under way", fault="here", headers=headers)

    async def _stream(self, response: web.StreamResponse, descriptor: int, span: Span, *, fill: bool) -> None:
        position, end = span.start, span.start + span.length
        while position < end:
            data = await self._read(descriptor, min(SLICE_BYTES, end - position), position)
            if not data:
                raise OSError(f"a file ends at byte {position} before its object does")
            async with asyncio.timeout(self._config.stall_s_max):
                await response.write(data)
            position += len(data)
            if fill:
                self.filled_bytes += len(data)
            else:
                self.sent_bytes += len(data)

    async def _read(self, descriptor: int, length: int, position: int) -> bytes:
        # Shielded: a thread that still reads while the descriptor is closed could read another file's bytes.
        reading = asyncio.ensure_future(self._blobs.run(lambda: os.pread(descriptor, length, position)))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            await asyncio.wait([reading])
            raise


def _too_many_of_one() -> ApiProblem:
    return refusal(
        429, "too-many", "Too many transfers to this address are under way",
        remedy="Wait until some have ended.", headers={"Retry-After": "5"},
    )  # fmt: skip


def _validators(held: HeldObject) -> dict[str, str]:
    return {
        "ETag": etag_of(held.object_id),
        "Accept-Ranges": "bytes",
        "Repr-Digest": repr_digest(bytes.fromhex(held.sha256)),
        # Kept and asked again: the answer may be a redirect to a device the next time.
        "Cache-Control": "no-cache",
    }
