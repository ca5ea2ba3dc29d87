"""``GET /v1/session``: the WebSocket of a device.

One coroutine per device reads a message, acts on it and forgets it before it waits for the next: with many devices
it is the idle session that counts, so it has no compression, small buffers and no task of its own beyond the
connection's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
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
from ..http import caller_address, refusal
from .live import Fleet, LiveDevice
from .rate import Bucket
from .records import DeviceRecords, Seen

HELLO_REFUSED = 4401
REPLACED = 4409
TOO_MANY = 4429
"""More messages, or more objects, than a device may have."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    hello_timeout_s: int = 10
    ping_s: int = 30
    """A device that answers no ping within half of it is gone; also keeps NAT mappings open."""
    send_timeout_s: int = 30
    """A device that takes no message for so long is gone."""
    messages_burst: int = 300
    """At once after connecting: a content snapshot of 100,000 objects has 100 messages."""
    messages_per_s: int = 4
    content_objects_max: int = 100_000
    """Per device; each costs about 130 bytes of memory."""
    remember_s: int = 60
    """How often last_seen and states go to the database, all devices in one transaction."""


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
        self._seen: dict[str, Seen] = {}
        self._closing = False
        self._open: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        offered = {name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
        if SUBPROTOCOL not in offered:
            raise refusal(400, "subprotocol-missing", "A WebSocket of subprotocol fallow.v1 is wanted here")
        if self._closing:
            raise refusal(503, "closing", "The server is about to stop", fault="here", headers={"Retry-After": "5"})
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=self._config.ping_s,
            max_msg_size=SESSION_UP_BYTES_MAX,
            compress=False,
        )
        await socket.prepare(request)
        self._open.add(socket)
        try:
            device = await self._greet(request, socket)
            if device is not None:
                await self._run(device, socket)
        except ConnectionError:
            pass  # it is gone; what was to be done about that is done in _run
        finally:
            self._open.discard(socket)
        return socket

    async def _greet(self, request: web.Request, socket: web.WebSocketResponse) -> LiveDevice | None:
        """Challenge and hello; None when the session was refused and closed."""
        nonce = base64url(secrets.token_bytes(24))
        await socket.send_str(write(Challenge(nonce, self._clock.now())))
        try:
            message = await socket.receive(timeout=self._config.hello_timeout_s)
        except TimeoutError:
            await socket.close(code=HELLO_REFUSED, message=b"no hello in time")
            return None
        hello = _read(message) if message.type is WSMsgType.TEXT else None
        if not isinstance(hello, Hello):
            await socket.close(code=HELLO_REFUSED, message=b"hello is wanted first")
            return None
        bound = await self._records.bound(hello.device_id)
        if bound is None:
            await socket.close(code=HELLO_REFUSED, message=b"unknown-device")
            return None
        if not verify_hello(hello, nonce, self._names_of(request), bound.key):
            await socket.close(code=HELLO_REFUSED, message=b"bad-signature")
            return None

        async def send(text: str) -> None:
            try:
                async with asyncio.timeout(self._config.send_timeout_s):
                    await socket.send_str(text)
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionError("the device takes no messages") from None
            except RuntimeError as error:  # aiohttp's way to say that the socket is closed
                raise ConnectionError(str(error)) from None

        async def close(code: int, reason: str) -> None:
            await socket.close(code=code, message=reason.encode("ascii"))

        now = self._clock.now()
        address = caller_address(request)
        return LiveDevice(hello.device_id, bound.owner, bound.key.raw, address, now, send, close)

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

    async def _run(self, device: LiveDevice, socket: web.WebSocketResponse) -> None:
        older = await self._fleet.attach(device)
        try:
            if older is not None:
                await older.close(REPLACED, "a newer session took its place")
            # An unbinding that happened between the hello and now has seen no session to close.
            if await self._records.bound(device.device_id) is None:
                await device.close(HELLO_REFUSED, "unknown-device")
                return
            await device.send(self._policy())
            await self._read_all(device, socket)
        except ConnectionError:
            pass
        finally:
            self._note_seen(device)
            await self._fleet.detach(device)

    async def _read_all(self, device: LiveDevice, socket: web.WebSocketResponse) -> None:
        config = self._config
        bucket = Bucket(config.messages_burst, config.messages_per_s, self._clock.monotonic())
        while True:
            message = await socket.receive()
            if message.type is not WSMsgType.TEXT:
                if message.type is WSMsgType.BINARY:
                    await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"text frames only")
                return
            if not bucket.take(1, self._clock.monotonic()):
                await socket.close(code=TOO_MANY, message=b"too many messages")
                return
            device.last_seen = self._clock.now()
            said = _read(message)
            # The frame is not kept while waiting for the next one.
            del message
            if said is None or isinstance(said, Hello):
                continue
            if not await self._act(device, said):
                await socket.close(code=TOO_MANY, message=b"too many objects")
                return
            del said

    async def _act(self, device: LiveDevice, said: Upward) -> bool:
        """False when the device holds more objects than one may."""
        observers = self._fleet.observers
        if isinstance(said, Heartbeat):
            device.heartbeat = said
            self._note_seen(device)
            for observer in observers:
                await observer.reported(device.device_id)
        elif isinstance(said, Content):
            if said.snapshot:
                device.content.clear()
            # Interned: thousands of devices hold the same object, and its id is in memory once.
            device.content.update(map(intern, said.added))
            device.content.difference_update(said.dropped)
            if len(device.content) > self._config.content_objects_max:
                return False
            for observer in observers:
                await observer.content_changed(device.device_id)
        elif isinstance(said, TaskStatus):
            for observer in observers:
                await observer.task_status(device.device_id, said)
        return True

    def _note_seen(self, device: LiveDevice) -> None:
        if device.heartbeat is not None:
            version = device.heartbeat.environment.version
            if version.isprintable():
                self._seen[device.device_id] = Seen(device.last_seen, device.heartbeat.state, version)

    async def remember(self) -> None:
        """Write down what was seen since the last time."""
        seen, self._seen = self._seen, {}
        await self._records.remember(seen)

    async def run(self) -> None:
        """Write down what was seen, every minute, until cancelled."""
        while True:
            await asyncio.sleep(self._config.remember_s)
            await self.remember()

    async def announce_policy(self) -> None:
        """Send the policy anew to everyone: a key was rotated or the ledger moved."""
        policy = self._policy()
        for device in list(self._fleet.devices()):
            try:
                await device.send(policy)
            except ConnectionError:
                _log.info("%s left while the policy was sent", device.device_id)

    async def close(self) -> None:
        """End all sessions with 1012 (service restart): devices come back after a random while."""
        self._closing = True
        await asyncio.gather(
            *(socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"restart") for socket in set(self._open)),
            return_exceptions=True,
        )
        await self.remember()


def _read(message: WSMessage) -> Upward | None:
    """The message; None for one that cannot be read, which is passed over: a newer device may know more kinds."""
    try:
        return read_upward(message.data)
    except PeerError as error:
        _log.info("message passed over: %s: %s", error.slug, error.detail)
        return None
