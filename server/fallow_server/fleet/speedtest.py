"""The other end of a speed test that a device's owner started: a sink, and a source, of bytes that mean nothing.

Only a device that is bound to an owner may call. A test is a window of time that its first stream opens, in which so
many streams each way may carry so many bytes each way; then the device waits. What is not asked for costs nothing, and
what is asked for is bounded: ``at_once_max`` tests of ``SPEEDTEST_BYTES_MAX`` each way within ``SPEEDTEST_S_MAX``.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import ClientConnectionError, web
from fallow_wire.errors import Malformed
from fallow_wire.limits import MIB, SPEEDTEST_BYTES_MAX, SPEEDTEST_S_MAX, SPEEDTEST_STREAMS_MAX

from ..clock import Clock
from ..http import Api, ApiProblem, Role, json_response, principal, refusal

PIECE_BYTES = 256 * 1024
NOISE_BYTES = MIB
"""Repeated over and over. Proxies that compress look back 32 KiB, and find nothing to leave out."""
UP, DOWN = "up", "down"
SEEN_S_MIN = 2.0
"""Buffers on the way take in the first moment more than the line carries."""


@dataclass(frozen=True, slots=True)
class SpeedtestConfig:
    """``at_once_max``: tests of all devices together, for they share this machine's line; 0 turns them off.
    ``interval_s``: from one test of a device to its next, ``SPEEDTEST_S_MAX`` at least."""

    at_once_max: int = 2
    interval_s: int = 600


@dataclass(slots=True)
class Window:
    """One test of one device. ``carried``: bytes; it and ``streams`` are by direction, as the device sees them."""

    opened_at: float
    carried: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})
    streams: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})
    came_at: float | None = None
    """When the device's first byte came."""

    @property
    def ends_at(self) -> float:
        return self.opened_at + SPEEDTEST_S_MAX

    def seen_bps(self, now: float) -> int | None:
        """What the device was seen to send, over all streams; None where it was too short to say."""
        if self.came_at is None or now - self.came_at < SEEN_S_MIN:
            return None
        return round(self.carried[UP] * 8 / (now - self.came_at))

    def left(self, direction: str) -> int:
        """Bytes that the direction may still carry."""
        return max(0, SPEEDTEST_BYTES_MAX - self.carried[direction])


class Speedtests:
    """Who may test now. Times are monotonic seconds."""

    def __init__(self, config: SpeedtestConfig) -> None:
        self._config = config
        self._windows: dict[str, Window] = {}
        """Of the last ``interval_s``: so many as fit into it one after another."""

    @contextmanager
    def stream(self, device: str, direction: str, now: float) -> Iterator[Window]:
        """One stream of the device's test, which begins with it unless it is under way.

        :raises ApiProblem: 429, with ``Retry-After``.
        """
        window = self._window(device, now)
        if window.streams[direction] >= SPEEDTEST_STREAMS_MAX or not window.left(direction):
            raise _too_many("This speed test has had its streams and bytes", window.ends_at - now)
        window.streams[direction] += 1
        try:
            yield window
        finally:
            window.streams[direction] -= 1

    def _window(self, device: str, now: float) -> Window:
        kept_s = max(self._config.interval_s, SPEEDTEST_S_MAX)
        self._windows = {id_: one for id_, one in self._windows.items() if now < one.opened_at + kept_s}
        found = self._windows.get(device)
        if found is not None:
            if now >= found.ends_at:
                wait_s = math.ceil(found.opened_at + kept_s - now)
                raise refusal(
                    429,
                    "too-soon",
                    "This device has tested its line a short while ago",
                    f"It may test again in {wait_s} s.",
                    remedy="Wait, then start the test again.",
                    headers={"Retry-After": str(wait_s)},
                )
            return found
        if self._config.at_once_max == 0:
            raise refusal(
                404,
                "no-speedtest",
                "This server offers no speed test",
                remedy="Tell the device what the line carries in its configuration.",
            )
        ends = sorted(one.ends_at for one in self._windows.values() if now < one.ends_at)
        if len(ends) >= self._config.at_once_max:
            raise _too_many("Other devices test their lines now", ends[0] - now)
        return self._windows.setdefault(device, Window(now))


class SpeedtestRoutes:
    """:param measured: hears what the devices' lines were seen to carry, bit/s."""

    def __init__(
        self,
        config: SpeedtestConfig,
        clock: Clock,
        measured: Callable[[str, int], None] = lambda device, bps: None,
    ) -> None:
        self._tests = Speedtests(config)
        self._clock = clock
        self._measured = measured

    def add_to(self, api: Api) -> None:
        api.add("POST", "/v1/speedtest", self.sink, Role.DEVICE, body_bytes_max=None)
        api.add("GET", "/v1/speedtest", self.source, Role.DEVICE)

    async def sink(self, request: web.Request) -> web.Response:
        """Read and forget; the answer tells how many bytes came, and in how many ms from the first to the last."""
        now = self._clock.monotonic
        count, first_at, last_at = 0, None, 0.0
        device = _device(request)
        with self._tests.stream(device, UP, now()) as window:
            try:
                async with asyncio.timeout(max(0.0, window.ends_at - now())):
                    async for piece in request.content.iter_any():
                        last_at = now()
                        first_at = last_at if first_at is None else first_at
                        window.came_at = last_at if window.came_at is None else window.came_at
                        count += len(piece)
                        window.carried[UP] += len(piece)
                        if window.carried[UP] > SPEEDTEST_BYTES_MAX:
                            raise refusal(413, "too-large", "A speed test sends less", f"{SPEEDTEST_BYTES_MAX} bytes")
            except TimeoutError:
                raise refusal(408, "too-slow", "The speed test took too long") from None
            except (ClientConnectionError, ConnectionError):
                raise refusal(400, "cut-short", "The device went away during the test") from None
            if (bps := window.seen_bps(last_at)) is not None:
                self._measured(device, bps)
        return json_response({"bytes": count, "ms": 0 if first_at is None else int((last_at - first_at) * 1000)})

    async def source(self, request: web.Request) -> web.StreamResponse:
        """``bytes`` of noise, or less: until the test's bytes or time are used up. Its end is said by the encoding."""
        wanted = request.query.get("bytes", "")
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 12 and 0 < int(wanted) <= SPEEDTEST_BYTES_MAX):
            raise Malformed(f"bytes: a whole number from 1 to {SPEEDTEST_BYTES_MAX} is wanted")
        with self._tests.stream(_device(request), DOWN, self._clock.monotonic()) as window:
            headers = {"Cache-Control": "no-store, no-transform", "Content-Type": "application/octet-stream"}
            response = web.StreamResponse(headers=headers)
            response.enable_chunked_encoding()
            try:
                async with asyncio.timeout(max(0.0, window.ends_at - self._clock.monotonic())):
                    await response.prepare(request)
                    await self._pour(response, window, int(wanted))
                    await response.write_eof()
            except TimeoutError:
                # Nobody takes it. Asked to close politely, the connection would wait for its buffer to empty.
                if request.transport is not None:
                    request.transport.abort()
        return response

    async def _pour(self, response: web.StreamResponse, window: Window, wanted: int) -> None:
        noise, at = memoryview(_noise()), 0
        while (size := min(wanted, window.left(DOWN), PIECE_BYTES)) > 0:
            window.carried[DOWN] += size
            wanted -= size
            await response.write(noise[at : at + size])
            at = (at + PIECE_BYTES) % NOISE_BYTES


@functools.cache
def _noise() -> bytes:
    return os.urandom(NOISE_BYTES)


def _device(request: web.Request) -> str:
    device = principal(request).device
    assert device is not None, "the route is for devices alone"
    return device


def _too_many(title: str, wait_s: float) -> ApiProblem:
    headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
    return refusal(429, "too-many", title, remedy="Wait, then start the test again.", headers=headers)
