"""The session with the scheduler: one WebSocket that comes back by itself, for as long as it takes.

After ``hello`` the scheduler's policy opens the session; then the device tells what it holds, reports at every
heartbeat and at once on a large change, and takes tasks. Whatever ends the session, the device waits a jittered,
growing while and dials again; the offline device loses nothing but orders.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from fallow_wire.errors import PeerError
from fallow_wire.http import Problem
from fallow_wire.keys import PrivateKey
from fallow_wire.limits import SESSION_DOWN_BYTES_MAX
from fallow_wire.session import (
    HEARTBEAT_S,
    SUBPROTOCOL,
    Cancel,
    Challenge,
    Content,
    DialBack,
    Downward,
    Heartbeat,
    Policy,
    Reachability,
    Task,
    TaskStatus,
    read_downward,
    sign_hello,
    write,
)
from yarl import URL

from ..backoff import Backoff
from .outgoing import Outgoing
from .reports import changed_largely

_log = logging.getLogger(__name__)

REFUSED, REPLACED = 4401, 4409
HANDSHAKE_S = 20
PING_S = 20
"""A ping this often, an answer within half of it: a dead NAT mapping is noticed within 30 s."""
CLOSE_S = 5
"""For the scheduler's reason to arrive after sending has failed."""
HEALTHY_S = 60
"""A session that lived so long was good: the next failure starts with a short delay again."""
HURRIED_DELAY_S = 5.0
"""At most, at random, once the line is back."""
REFUSED_DELAY_S = 300
"""After 4401 or 4409 hammering helps nobody: the owner or the operator has to act."""
MESSAGES_BURST, MESSAGES_PER_S = 200, 3
"""Below what the scheduler takes from one device before it ends the session; many small fills would say more."""


class Receiver(Protocol):
    """What the session tells the rest of the agent."""

    def take_policy(self, policy: Policy) -> None: ...

    def take_task(self, task: Task) -> None: ...

    def take_cancel(self, cancel: Cancel) -> None: ...

    def take_dial_back(self, dial_back: DialBack) -> None: ...

    def take_reachability(self, found: Reachability) -> None: ...

    def task_statuses(self) -> list[TaskStatus]:
        """All that a scheduler which has just come back may have missed."""

    def held(self) -> tuple[list[str], list[str]]:
        """Ids of the complete objects, and of those held in part, of which what is asked for is fetched."""


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """``since``: Unix time since which it is as it is. ``error``: why it is not connected."""

    connected: bool
    since: int
    error: Problem | None = None


class SessionEnded(Exception):
    """The session is over. ``code`` is the WebSocket's close code, if it had one."""

    def __init__(self, detail: str, code: int | None = None) -> None:
        super().__init__(detail)
        self.code = code


class Session:
    """:param report: the heartbeat of now. :param now: Unix seconds. :param take_time: the scheduler's Unix time."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        scheduler: str,
        key: PrivateKey,
        version: str,
        receiver: Receiver,
        report: Callable[[], Heartbeat],
        now: Callable[[], int],
        take_time: Callable[[int], None],
    ) -> None:
        self._http = http
        self._url = scheduler.rstrip("/") + "/v1/session"
        self._key = key
        self._version = version
        self._receiver = receiver
        self._report = report
        self._now = now
        self._take_time = take_time
        self._heartbeat_s = HEARTBEAT_S
        self._outgoing = Outgoing()
        self._paid_until_s = 0.0
        self._wake = asyncio.Event()
        self._hurried = asyncio.Event()
        self._open = False
        self._reported: Heartbeat | None = None
        self.status = UplinkStatus(False, now())

    # -------------------------------------------------------------- for the agent

    def send(self, message: TaskStatus | Content) -> None:
        """Send soon, while there is a session. Without one it is dropped: the next begins with the whole picture."""
        if self._open:
            self._outgoing.add(message)
            self._wake.set()

    def report_changed(self) -> None:
        """Something changed; report at once if it is large."""
        if self._open and (self._reported is None or changed_largely(self._reported, self._report())):
            self._reported = None
            self._wake.set()

    def hurry(self) -> None:
        """The way to the internet has changed: do not wait out a long delay."""
        self._hurried.set()

    async def run(self) -> None:
        """Keep a session until cancelled."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._one_session()
                ended = SessionEnded("the scheduler closed the session")
            except SessionEnded as error:
                ended = error
            except PeerError as error:
                ended = SessionEnded(f"{self._url}: not a scheduler's answer: {error.detail}")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                ended = SessionEnded(f"{self._url}: {error or type(error).__name__}")
            if self.status.connected and loop.time() - started >= HEALTHY_S:
                backoff = backoff.succeeded()
            delay_s = backoff.delay_s(random.random())
            if ended.code in (REFUSED, REPLACED):
                delay_s = REFUSED_DELAY_S * (0.5 + random.random())
            self._note_end(ended, delay_s)
            backoff = backoff.failed()
            if await self._hurried_within(delay_s):
                backoff = Backoff()
                # A provider's failure ends for many homes at once.
                await asyncio.sleep(HURRIED_DELAY_S * random.random())

    async def _hurried_within(self, delay_s: float) -> bool:
        self._hurried.clear()
        try:
            async with asyncio.timeout(delay_s):
                await self._hurried.wait()
        except TimeoutError:
            return False
        return True

    # -------------------------------------------------------------- one session

    async def _one_session(self) -> None:
        async with self._client() as http:
            async with asyncio.timeout(HANDSHAKE_S):
                socket = await http.ws_connect(
                    self._url,
                    protocols=(SUBPROTOCOL,),
                    heartbeat=PING_S,
                    max_msg_size=SESSION_DOWN_BYTES_MAX,
                    compress=0,
                )
            try:
                if socket.protocol != SUBPROTOCOL:
                    raise SessionEnded(f"{self._url} does not speak {SUBPROTOCOL}")
                await self._greet(socket)
                await self._converse(socket)
            finally:
                self._open = False
                self._outgoing.clear()
                await socket.close()

    def _client(self) -> aiohttp.ClientSession:
        """Shares the agent's connector, and follows no redirect: the owner named one scheduler, and no LAN address."""
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        return aiohttp.ClientSession(
            connector=self._http.connector,
            connector_owner=False,
            headers=self._http.headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        challenge = await self._receive(socket, HANDSHAKE_S)
        if not isinstance(challenge, Challenge):
            raise SessionEnded("the scheduler did not begin with a challenge")
        self._take_time(challenge.now)
        await socket.send_str(write(sign_hello(challenge, authority_of(self._url), self._key, self._version)))
        policy = await self._receive(socket, HANDSHAKE_S)
        if not isinstance(policy, Policy):
            raise SessionEnded("the scheduler did not answer hello with its policy")
        self._take(policy)
        self._open = True
        self._reported = None
        self.status = UplinkStatus(True, self._now())
        _log.info("session with %s", self._url)
        self._outgoing.begin(*self._receiver.held(), self._receiver.task_statuses())

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        writer = asyncio.get_running_loop().create_task(self._write_all(socket), name="session-writer")
        reader = asyncio.get_running_loop().create_task(self._read_all(socket), name="session-reader")
        try:
            await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
            # A close frame ends both. Only the reader knows its code, and may be a moment later than the writer.
            await asyncio.wait((reader,), timeout=CLOSE_S)
            (reader if reader.done() else writer).result()
        finally:
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)

    async def _read_all(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            try:
                self._take(await self._receive(socket, None))
            except PeerError as error:
                # A newer scheduler may say what we do not know yet; the session goes on.
                _log.warning("a message of the scheduler is passed over: %s: %s", error.slug, error.detail)

    async def _write_all(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        while self._outgoing:
            await self._pace()
            await socket.send_str(write(self._outgoing.take()))
        due = loop.time()
        while True:
            if self._reported is None or loop.time() >= due:
                await self._pace()
                self._reported = self._report()
                await socket.send_str(write(self._reported))
                due = loop.time() + self._heartbeat_s * (0.9 + 0.2 * random.random())
            elif self._outgoing:
                await self._pace()
                await socket.send_str(write(self._outgoing.take()))
            else:
                self._wake.clear()
                try:
                    async with asyncio.timeout_at(due):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _pace(self) -> None:
        """Wait until one more message is within the rate; what waits meanwhile is replaced by what is newer."""
        now = asyncio.get_running_loop().time()
        self._paid_until_s = max(self._paid_until_s, now) + 1 / MESSAGES_PER_S
        await asyncio.sleep(self._paid_until_s - now - MESSAGES_BURST / MESSAGES_PER_S)

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse, timeout_s: float | None) -> Downward:
        message = await socket.receive(timeout_s)
        if message.type is aiohttp.WSMsgType.TEXT:
            return read_downward(message.data)
        if message.type is aiohttp.WSMsgType.ERROR:
            raise SessionEnded(f"the session broke: {message.data}")
        raise SessionEnded(str(message.extra or "the scheduler closed the session"), socket.close_code)

    def _take(self, message: Downward) -> None:
        match message:
            case Policy():
                self._heartbeat_s = message.heartbeat_s
                self._receiver.take_policy(message)
            case Task():
                self._receiver.take_task(message)
            case Cancel():
                self._receiver.take_cancel(message)
            case DialBack():
                self._receiver.take_dial_back(message)
            case Reachability():
                self._receiver.take_reachability(message)
            case Challenge():
                raise SessionEnded("a challenge in the middle of the session")

    def _note_end(self, ended: SessionEnded, delay_s: float) -> None:
        detail = str(ended)
        before = self.status
        if before.connected or before.error is None or before.error.detail != detail:
            _log.warning("no session with the scheduler: %s; trying again, first in %.0f s", detail, delay_s)
        since = self._now() if before.connected else before.since
        self.status = UplinkStatus(False, since, problem_of_end(ended))


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: object, params: aiohttp.TraceRequestRedirectParams
) -> None:
    params.response.close()
    raise SessionEnded(f"{params.url} redirects; give the scheduler's own address")


def authority_of(url: str) -> str:
    """Host, and port where it is not the default, as the ``Host`` header of a request to ``url`` says them."""
    parts = URL(url)
    name = parts.raw_host or ""
    authority = f"[{name}]" if ":" in name else name
    return authority if parts.is_default_port() else f"{authority}:{parts.port}"


def problem_of_end(ended: SessionEnded) -> Problem:
    """What to tell the owner."""
    if ended.code == REFUSED:
        remedy = "If it was removed from your account, leave and activate it again."
        return Problem(403, "session-refused", "The scheduler refused this device", str(ended), "upstream", remedy)
    if ended.code == REPLACED:
        remedy = "Only one device may run with this state directory; stop the other."
        return Problem(409, "session-replaced", "Another session of this device is open", str(ended), "caller", remedy)
    remedy = "Nothing is lost; the device goes on trying."
    return Problem(503, "scheduler-away", "The scheduler cannot be reached", str(ended), "upstream", remedy)
