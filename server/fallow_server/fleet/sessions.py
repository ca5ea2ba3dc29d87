"""``GET /v1/session``: the WebSocket of a device.

One coroutine per device reads a message, acts on it and forgets it before it waits for the next: with many devices
it is the idle session that counts, so it has no compression, small buffers and no task of its own beyond the
connection's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable
from itertools import islice
from sys import intern

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from fallow_wire.encoding import base64url
from fallow_wire.errors import PeerError
from fallow_wire.limits import SESSION_UP_BYTES_MAX
from fallow_wire.session import (
    SUBPROTOCOL,
    Challenge,
    Content,
    Heartbeat,
    Hello,
    Policy,
    TaskStatus,
    Upward,
    read_upward,
    verify_hello,
    write,
)

from ..clock import Clock
from ..delivery.pseudonym import prefix_of
from ..http import caller_address, refusal
from ..scheduling.views import NOTHING
from .connection import Connection, SessionConfig
from .inbox import Inbox
from .live import Fleet, LiveDevice
from .rate import Bucket
from .records import DeviceRecords, Seen
from .reports import lasting
from .turnstile import Turnstile

HELLO_REFUSED = 4401
REPLACED = 4409
TOO_MANY = 4429
"""More messages, or more objects, than a device may have."""

HEARTBEAT = f'"type":"{Heartbeat.TYPE}"'
"""What a heartbeat contains. Other messages may too, and are read a little later then."""

REMEMBERED_AT_ONCE = 1000
"""Devices in one transaction: other writers wait for it, and the loop while its rows are made (1 ms)."""

PULSES = 3
"""In ``ping_s``: so often all are felt, and a ping is a third of it late at most."""
SENT_AT_ONCE = 100
FELT_AT_ONCE = 1000
"""Messages, and connections, before others have their turn on the loop: some ms."""

_log = logging.getLogger(__name__)


class Sessions:
    """All sessions of this process.

    :param names: hosts that a device may have dialled, as it signs them; None believes the ``Host`` header.
    :param policy: the policy of now.
    """

    def __init__(
        self,
        config: SessionConfig,
        fleet: Fleet,
        records: DeviceRecords,
        clock: Clock,
        names: tuple[str, ...] | None,
        policy: Callable[[], Policy],
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._records = records
        self._clock = clock
        self._names = names
        self._policy = policy
        self._heartbeats = Inbox(self._told_before)
        self._turnstile = Turnstile()
        self._seen: dict[str, LiveDevice] = {}
        self._closing = False
        self._open: set[Connection] = set()
        self._strangers: Counter[str] = Counter()
        self._strangers_count = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        await self._turnstile.through()
        caller = self._admit(request)
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), max_msg_size=SESSION_UP_BYTES_MAX, compress=False, autoping=False
        )
        await socket.prepare(request)
        socket.headers.clear()  # they are sent, and would be kept as long as the session
        connection = Connection(self._config, socket, request, self._clock)
        self._open.add(connection)
        self._none_open.clear()
        try:
            unbindings = self._records.unbindings
            self._strangers[caller] += 1
            self._strangers_count += 1
            try:
                device = await self._greet(request, connection)
            finally:
                self._strangers_count -= 1
                self._strangers[caller] -= 1
                if not self._strangers[caller]:
                    del self._strangers[caller]
            if device is not None:
                await self._run(device, connection, unbindings)
        except ConnectionError:
            pass  # it is gone; what was to be done about that is done in _run
        finally:
            await connection.ended()
            self._open.discard(connection)
            if not self._open:
                self._none_open.set()
        return socket

    def _admit(self, request: web.Request) -> str:
        """What stands for the caller. :raises ApiProblem: when no session may begin now."""
        offered = {name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
        if SUBPROTOCOL not in offered:
            raise refusal(400, "subprotocol-missing", "A WebSocket of subprotocol fallow.v1 is wanted here")
        if self._closing:
            raise refusal(503, "closing", "The server is about to stop", fault="here", headers={"Retry-After": "5"})
        caller = prefix_of(caller_address(request))
        config = self._config
        if self._strangers[caller] >= config.strangers_per_caller_max or self._strangers_count >= config.strangers_max:
            raise refusal(
                503, "too-many", "Too many sessions begin at once", fault="here", headers={"Retry-After": "5"}
            )
        return caller

    async def _greet(self, request: web.Request, connection: Connection) -> LiveDevice | None:
        """Challenge and hello; None when the session was refused and closed."""
        nonce = base64url(secrets.token_bytes(24))
        await connection.send(write(Challenge(nonce, self._clock.now())))
        try:
            async with asyncio.timeout(self._config.hello_timeout_s):
                message = await connection.receive()
        except TimeoutError:
            connection.close(HELLO_REFUSED, "no hello in time")
            return None
        hello = _read(message.data) if message.type is WSMsgType.TEXT else None
        if not isinstance(hello, Hello):
            connection.close(HELLO_REFUSED, "hello is wanted first")
            return None
        bound = await self._records.bound(hello.device_id)
        if bound is None:
            connection.close(HELLO_REFUSED, "unknown-device")
            return None
        await self._turnstile.through()
        if not verify_hello(hello, nonce, self._names_of(request), bound.key):
            connection.close(HELLO_REFUSED, "bad-signature")
            return None
        now = self._clock.now()
        address = caller_address(request)
        return LiveDevice(hello.device_id, bound.owner, bound.key.raw, address, now, connection.send, connection.close)

    def _names_of(self, request: web.Request) -> tuple[str, ...]:
        """What the device may have signed. Believing any ``Host`` would let another server pass our challenge on, so
        besides the configured names only the address that this connection really came to counts."""
        if self._names is None:
            return (request.host,)
        found = list(self._names)
        local = request.transport.get_extra_info("sockname") if request.transport is not None else None
        if local is not None:
            host = f"[{local[0]}]" if ":" in local[0] else local[0]
            found.append(f"{host}:{local[1]}")
            if local[1] == 80:
                found.append(host)
        return tuple(found)

    async def _run(self, device: LiveDevice, connection: Connection, unbindings: int) -> None:
        """:param unbindings: how many there had been before the device was looked up."""
        await self._heartbeats.empty()  # what its session before this one said
        older = await self._fleet.attach(device)
        try:
            if older is not None:
                older.close(REPLACED, "a newer session took its place")
            # An unbinding that happened between the hello and now has seen no session to close.
            if self._records.unbindings != unbindings and await self._records.bound(device.device_id) is None:
                device.close(HELLO_REFUSED, "unknown-device")
                return
            await device.send(self._policy())
            config = self._config
            bucket = Bucket(config.messages_burst, config.messages_per_s, self._clock.monotonic())
            # Nothing of a message is kept while waiting for the next one.
            while await self._hear(device, connection, bucket, await connection.receive()):
                pass
        except ConnectionError:
            pass
        finally:
            try:
                await self._heartbeats.empty()
            finally:  # cancelled while it waits there, it is gone all the same
                self._note_seen(device)
                await self._fleet.detach(device)

    async def _hear(self, device: LiveDevice, connection: Connection, bucket: Bucket, message: WSMessage) -> bool:
        """False when that was the session's last message."""
        if message.type is not WSMsgType.TEXT:
            if message.type is WSMsgType.BINARY:
                connection.close(WSCloseCode.UNSUPPORTED_DATA, "text frames only")
            return False
        if connection.closing:
            return False
        if not bucket.take(1, self._clock.monotonic()):
            connection.close(TOO_MANY, "too many messages")
            return False
        device.last_seen = self._clock.now()
        if HEARTBEAT in message.data:
            await self._heartbeats.put(device, message.data)
            return True
        await self._turnstile.through()
        await self._heartbeats.empty()
        await self._told(device, message.data)
        return not connection.closing

    async def _told_before(self, device: LiveDevice, text: str) -> None:
        """As :meth:`_told`, for all devices at once: what fails for one ends only its session."""
        try:
            await self._told(device, text)
        except Exception:  # noqa: BLE001  # the outermost place of a heartbeat
            _log.exception("a heartbeat of %s could not be dealt with", device.device_id)
            device.close(WSCloseCode.INTERNAL_ERROR, "internal error")

    async def _told(self, device: LiveDevice, text: str) -> None:
        said = _read(text, device.heartbeat)
        if said is not None and not await self._act(device, said):
            device.close(TOO_MANY, "too many objects")

    async def _act(self, device: LiveDevice, said: Upward) -> bool:
        """False when the device holds more objects than one may."""
        observers = self._fleet.observers
        if isinstance(said, Heartbeat):
            last = device.heartbeat
            device.heartbeat = lasting(said, last)
            if _is_news(device, last, self._config.remember_connected_s):
                self._note_seen(device)
            for observer in observers:
                await observer.reported(device.device_id)
        elif isinstance(said, Content):
            # Interned: thousands of devices hold the same object, and its id is in memory once.
            before = (NOTHING, NOTHING) if said.snapshot else (device.content, device.partial)
            added, partial, dropped = ({*map(intern, ids)} for ids in (said.added, said.partial, said.dropped))
            device.content = (before[0] | added) - partial - dropped or NOTHING
            device.partial = (before[1] | partial) - added - dropped or NOTHING
            if len(device.content) + len(device.partial) > self._config.content_objects_max:
                return False
            for observer in observers:
                await observer.content_changed(device.device_id)
        elif isinstance(said, TaskStatus):
            for observer in observers:
                await observer.task_status(device.device_id, said)
        return True

    def _note_seen(self, device: LiveDevice) -> None:
        if device.heartbeat is not None:
            device.noted_at = device.last_seen
            self._seen[device.device_id] = device

    async def remember(self) -> None:
        """Write down what was seen since the last time."""
        seen, self._seen = iter(self._seen.values()), {}
        while some := list(islice(seen, REMEMBERED_AT_ONCE)):
            await self._records.remember({device.device_id: _seen(device) for device in some})

    async def read_heartbeats(self) -> None:
        """Until cancelled."""
        await self._heartbeats.run()

    async def run(self) -> None:
        """Write down what was seen, every minute, until cancelled."""
        while True:
            await asyncio.sleep(self._config.remember_s)
            await self.remember()

    async def keep_pulse(self) -> None:
        """Find devices that went without a word, until cancelled."""
        while True:
            await asyncio.sleep(self._config.ping_s / PULSES)
            await self.feel_pulse()

    async def feel_pulse(self) -> None:
        for number, connection in enumerate(list(self._open), 1):
            connection.feel()
            if number % FELT_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def announce_policy(self) -> None:
        """Send the policy anew to everyone: a key was rotated or the ledger moved."""
        policy = self._policy()
        for number, device in enumerate(list(self._fleet.devices()), 1):
            try:
                await device.send(policy)
            except ConnectionError:
                _log.info("%s left while the policy was sent", device.device_id)
            if number % SENT_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End all sessions with 1012 (service restart): devices come back after a random while."""
        self._closing = True
        for connection in self._open:
            connection.close(WSCloseCode.SERVICE_RESTART, "restart")
        await self._none_open.wait()
        await self.remember()


def _is_news(device: LiveDevice, before: Heartbeat | None, again_s: int) -> bool:
    """Whether the database should know. That a device is still there it is told now and then."""
    beat = device.heartbeat
    assert beat is not None, "asked after a heartbeat"
    return (
        before is None
        or device.last_seen - device.noted_at >= again_s
        or beat.state != before.state
        or beat.environment.version != before.environment.version
    )


def _seen(device: LiveDevice) -> Seen:
    assert device.heartbeat is not None, "only devices that reported are noted"
    version = device.heartbeat.environment.version
    return Seen(device.last_seen, device.heartbeat.state, version if version.isprintable() else None)


def _read(text: str, before: Heartbeat | None = None) -> Upward | None:
    """The message; None for one that cannot be read, which is passed over: a newer device may know more kinds."""
    try:
        return read_upward(text, before)
    except PeerError as error:
        _log.info("message passed over: %s: %s", error.slug, error.detail)
        return None
