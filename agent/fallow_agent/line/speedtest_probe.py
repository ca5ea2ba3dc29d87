"""Runs the owner's speed test against the scheduler: opens the streams, reads what they carried, keeps the result.

Everything is decided by :mod:`.speedtest`. While a test runs nobody is served and nothing is filled.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from fallow_wire.errors import FallowError, PeerError
from fallow_wire.http import Problem
from fallow_wire.strict import loads_object

from ..clock import Clock
from ..lifecycle import RequestRefused
from ..store import Settings
from ..uplink.enrolment import ANSWER_BYTES_MAX, problem_of, read_all
from . import speedtest
from .capacity import Estimate
from .marking import LowerEffort
from .speedtest import FAILED, RUNNING, SPEEDTEST, STREAM_BYTES_MAX, STREAMS, Course, Measured, Reading, Result
from .tcp_info import Carried, carried_by, received_by, sent_by
from .train import Spoilt

_log = logging.getLogger(__name__)

TICK_S = 0.1
SETTLE_S = 1.0
"""What was under way before is gone after it: what others were served, and between the directions our own queue."""
CONNECT_S = 10.0
DRAIN_S = 5.0
"""For what waits in the sockets after an upload. Deep queues take seconds; beyond, nobody waits for the answer."""
PIECE_BYTES = 64 * 1024
"""Sent over and over: what compresses on the way looks back 32 KiB, and memory is dear on a router."""
UP, DOWN = "up", "down"


class SpeedtestFailed(FallowError):
    """There is no result; ``problem`` says why."""

    slug = "speedtest-failed"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class _Connector(aiohttp.TCPConnector):
    """Tells of each connection that it makes: the kernel is asked about it while a request is under way."""

    def __init__(self, connected: Callable[[asyncio.BaseTransport], None]) -> None:
        super().__init__(limit=STREAMS)
        self._connected = connected

    async def connect(self, *args: Any, **options: Any) -> Connection:
        connection = await super().connect(*args, **options)
        if connection.transport is not None:
            self._connected(connection.transport)
        return connection


class Streams:
    """The connections of one direction, and what they have carried: what was known last of those that closed."""

    def __init__(self) -> None:
        self.all_open = asyncio.Event()
        self._lower_effort = LowerEffort()
        self._payload: dict[asyncio.BaseTransport, Carried] = {}
        self._wire: dict[asyncio.BaseTransport, tuple[int, int]] = {}

    def add(self, transport: asyncio.BaseTransport) -> None:
        self._lower_effort.mark(transport.get_extra_info("socket"))
        self._payload.setdefault(transport, Carried())
        self._wire.setdefault(transport, (0, 0))
        if len(self._payload) == STREAMS:
            self.all_open.set()

    def look(self) -> None:
        """Ask the kernel."""
        for transport in self._payload:
            sock = transport.get_extra_info("socket")
            if sock is None or sock.fileno() < 0:
                continue
            carried, sent, received = carried_by(sock), sent_by(sock), received_by(sock)
            if carried is not None and sent is not None and received is not None:
                self._payload[transport] = carried
                self._wire[transport] = (sent.wire_bytes, received)

    def payload_bytes(self, direction: str) -> int:
        carried = self._payload.values()
        return sum(one.up_bytes if direction == UP else one.down_bytes for one in carried)

    def wire_bytes(self) -> tuple[int, int]:
        return sum(up for up, _ in self._wire.values()), sum(down for _, down in self._wire.values())


class SpeedtestProbe:
    """:param hold: stops all other use of the line, and lets it go on again.
    :param line_bytes: through the home's WAN interface, sent and received; None where it is not this device's.
    :param own_bytes: on the wire, of all that Fallow does, this test included.
    :param take: gets the estimates of a result, for up and down.
    """

    def __init__(
        self,
        scheduler: str,
        token: str,
        *,
        clock: Clock,
        settings: Settings,
        hold: Callable[[bool], None],
        line_bytes: Callable[[], tuple[int, int] | None],
        own_bytes: Callable[[], tuple[int, int]],
        take: Callable[[list[Estimate], list[Estimate]], None],
        busy_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._url = f"{scheduler.rstrip('/')}/v1/speedtest"
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        self._clock = clock
        self._settings = settings
        self._hold = hold
        self._line_bytes = line_bytes
        self._own_bytes = own_bytes
        self._take = take
        self._busy_s = busy_s
        self._streams: Streams | None = None
        self._ended = (0, 0)
        """Bytes on the wire of streams that are gone."""
        result = speedtest.restored(settings.get(SPEEDTEST))
        self.status: dict[str, Any] | None = None
        """What the owner sees; None before the first test."""
        if result is not None:
            self.status = result.as_status()
            take(*result.estimates())

    @property
    def running(self) -> bool:
        return self.status is not None and self.status["state"] == RUNNING

    def wire_bytes(self) -> tuple[int, int]:
        """Sent and received since the start, by all tests."""
        up, down = self._ended
        if self._streams is not None:
            self._streams.look()
            more_up, more_down = self._streams.wire_bytes()
            up, down = up + more_up, down + more_down
        return up, down

    def begin(self, costs: str, *, insist: bool) -> None:
        """From here on the test counts as running; :meth:`run` runs it.

        :param costs: why its bytes are dear, empty when they are not.
        :param insist: the owner wants it all the same.
        :raises RequestRefused: one runs, or it is dear.
        """
        if self.running:
            remedy = "Wait for its result: fallow status"
            raise RequestRefused(Problem(409, "speedtest-running", "A speed test is running", remedy=remedy))
        if costs and not insist:
            remedy = "Start it with --insist if you want it all the same."
            raise RequestRefused(Problem(409, "speedtest-costs", "A speed test moves much data", costs, remedy=remedy))
        self.status = {"state": RUNNING}

    async def run(self) -> None:
        self._hold(True)
        try:
            down = await self._direction(DOWN)
            up = await self._direction(UP)
        except SpeedtestFailed as error:
            _log.warning("the speed test failed: %s", error.detail)
            self.status = {"state": FAILED, "error": error.problem.as_json()}
        except BaseException:
            self.status = {"state": FAILED, "error": _failed("It was stopped.").as_json()}
            raise
        else:
            self._keep(speedtest.result_of(up, down, self._clock.now()))
        finally:
            self._hold(False)

    def _keep(self, result: Result) -> None:
        self.status = result.as_status()
        _log.info("speed test: %d bit/s up, %d down; household: %s", result.up_bps, result.down_bps, result.household)
        if result.counts:
            self._settings.keep(SPEEDTEST, speedtest.stored(result))
            self._take(*result.estimates())

    # -------------------------------------------------------------- one direction

    async def _direction(self, direction: str) -> Measured:
        """:raises SpeedtestFailed: saying why."""
        self.status = {"state": RUNNING, "direction": direction}
        await asyncio.sleep(SETTLE_S)
        self._streams = streams = Streams()
        # Of an upload, nothing is heard before its end.
        read_s = CONNECT_S + speedtest.RUN_S + DRAIN_S
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=read_s)
        try:
            async with aiohttp.ClientSession(
                connector=_Connector(streams.add),
                headers=self._headers,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as http:
                found = await self._measure(direction, streams, http)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = str(error) or type(error).__name__
            remedy = "Check the internet connection, then start the test again."
            raise SpeedtestFailed(_failed(f"The scheduler cannot be tested against: {detail}.", remedy)) from None
        finally:
            self._ended = self.wire_bytes()
            self._streams = None
        if isinstance(found, Spoilt):
            remedy = "Tell the device what the line carries in its configuration: line.up_mbps and line.down_mbps."
            raise SpeedtestFailed(_failed(f"{found.reason[:1].upper()}{found.reason[1:]}.", remedy))
        return found

    async def _measure(self, direction: str, streams: Streams, http: aiohttp.ClientSession) -> Measured | Spoilt:
        enough, loop = asyncio.Event(), asyncio.get_running_loop()
        works = [self._upload(http, enough) if direction == UP else self._download(http) for _ in range(STREAMS)]
        tasks = [loop.create_task(work, name=f"speedtest-{direction}-{n}") for n, work in enumerate(works)]
        opening = loop.create_task(_opened(streams), name="speedtest-opening")
        try:
            if not await _first_of(opening, *tasks, timeout_s=2 * CONNECT_S):
                raise TimeoutError("it cannot be connected to in time")
            course = Course(self._clock.monotonic())
            while (left_s := course.left_s(self._clock.monotonic())) > 0:
                if await _first_of(*tasks, timeout_s=min(left_s, TICK_S)):
                    break  # by its bytes: what comes after would be of fewer streams
                course = course.after(self._reading(direction, streams))
            enough.set()
            if direction == UP and not await self._arrived(streams, tasks):
                return Spoilt("something on the way to the scheduler takes uploads in its stead")
            return course.measured()
        finally:
            streams.look()
            for task in (opening, *tasks):
                task.cancel()
            await asyncio.gather(opening, *tasks, return_exceptions=True)

    def _reading(self, direction: str, streams: Streams) -> Reading:
        own, line = self._own_bytes(), self._line_bytes()
        streams.look()
        at = 0 if direction == UP else 1
        return Reading(
            self._clock.monotonic(),
            streams.payload_bytes(direction),
            self._busy_s(),
            own[at],
            None if line is None else line[at],
        )

    async def _arrived(self, streams: Streams, tasks: list[asyncio.Task[int]]) -> bool:
        """Whether the server has read what the kernel says it got, as far as it answers in time."""
        ended, waiting = await asyncio.wait(tasks, timeout=DRAIN_S)
        streams.look()
        read_bytes = sum(task.result() for task in ended)
        return bool(waiting) or speedtest.believed(streams.payload_bytes(UP), read_bytes)

    async def _download(self, http: aiohttp.ClientSession) -> int:
        count = 0
        async with http.get(self._url, params={"bytes": str(STREAM_BYTES_MAX)}, allow_redirects=False) as response:
            await _check(response)
            async for piece in response.content.iter_any():
                count += len(piece)
        return count

    async def _upload(self, http: aiohttp.ClientSession, enough: asyncio.Event) -> int:
        """What the server has read of it."""
        async with http.post(self._url, data=_noise(enough), allow_redirects=False) as response:
            await _check(response)
            body = await read_all(response)
        try:
            count = loads_object(body, ANSWER_BYTES_MAX).get("bytes")
        except PeerError:
            count = None
        if not isinstance(count, int):
            raise SpeedtestFailed(_failed("The scheduler does not answer like one."))
        return count


async def _noise(enough: asyncio.Event) -> AsyncIterator[bytes]:
    piece = os.urandom(PIECE_BYTES)
    for _ in range(STREAM_BYTES_MAX // PIECE_BYTES):
        if enough.is_set():
            return
        yield piece


async def _check(response: aiohttp.ClientResponse) -> None:
    """:raises SpeedtestFailed: the scheduler refuses."""
    if response.status != 200:
        raise SpeedtestFailed(problem_of(response.status, await read_all(response), SpeedtestFailed.slug))


async def _opened(streams: Streams) -> int:
    await streams.all_open.wait()
    return STREAMS


async def _first_of(*tasks: asyncio.Task[int], timeout_s: float | None = None) -> bool:
    """Wait until one has ended, and raise what it raised; whether one has."""
    ended, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    return bool(ended)


def _failed(detail: str, remedy: str = "Start the test again later.") -> Problem:
    return Problem(503, SpeedtestFailed.slug, "The speed test failed", detail, "upstream", remedy)
