"""One WebSocket of a device."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import WSMessage, WSMsgType, web

from ..clock import Clock

CLOSE_S = 5
"""For a device to answer a close frame; then the connection is cut."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    hello_timeout_s: int = 10
    strangers_max: int = 2000
    """Connections that have not said a good hello yet: 30 KiB each."""
    strangers_per_caller_max: int = 200
    """Of those, from one IPv4 address or IPv6 /64: one caller leaves room for others. A hello takes milliseconds."""
    ping_s: int = 30
    """A device that answers no ping within half of it is gone; also keeps NAT mappings open."""
    send_timeout_s: int = 30
    """A device that takes no message for so long is gone."""
    messages_burst: int = 300
    """At once after connecting: a content snapshot of 100,000 objects has 100 messages."""
    messages_per_s: int = 4
    content_objects_max: int = 100_000
    """Per device; each costs about 200 bytes of memory, with the index that delivery keeps."""
    remember_s: int = 60
    """How often what is new of devices goes to the database: state, version, and that one left."""
    remember_connected_s: int = 600
    """So often it is told that a device is still there. After a crash its last_seen is as old."""


class Connection:
    """A WebSocket with what aiohttp leaves out: a send that ends, and a close that any task may ask for.

    aiohttp's own close, called from another task, cuts the connection right behind the close frame, and the device
    may lose its code. Here only the frame is sent, and the handler reads on until the device has answered it.

    Its own pings are two timers for each session, more work for each message, and a cycle of objects that a session
    leaves. Here one loop asks all connections in turn to :meth:`feel` whether anybody is there.
    """

    __slots__ = ("_clock", "_config", "_goodbye", "_heard_s", "_ping", "_socket", "_transport")

    def __init__(
        self, config: SessionConfig, socket: web.WebSocketResponse, request: web.Request, clock: Clock
    ) -> None:
        self._config = config
        self._clock = clock
        self._socket = socket
        self._transport = request.transport
        self._goodbye: asyncio.Task[None] | None = None
        self._heard_s = clock.monotonic()
        self._ping: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        return self._goodbye is not None

    async def send(self, text: str) -> None:
        """:raises ConnectionError: when the session is closed, or takes nothing for too long; it is cut then."""
        if self.closing:
            raise ConnectionError("the session is closed")
        try:
            async with asyncio.timeout(self._config.send_timeout_s):
                await self._socket.send_str(text)
        except TimeoutError:
            self._cut()
            raise ConnectionError("the device takes no messages") from None
        except RuntimeError as error:  # aiohttp's way to say that the socket is closed
            raise ConnectionError(str(error)) from None

    async def receive(self) -> WSMessage:
        """The next message that is not about the connection itself."""
        while True:
            message = await self._socket.receive()
            self._heard_s = self._clock.monotonic()
            self._ping = None
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return message
            del message  # nothing is kept while waiting

    def feel(self) -> None:
        """Ping a device that was not heard for ``ping_s``, and cut it when it was not heard half as long after that."""
        silent_s = self._clock.monotonic() - self._heard_s
        if silent_s < self._config.ping_s:
            return
        if self._ping is None:
            self._ping = asyncio.create_task(self._send_ping(), name="ping")
        elif silent_s >= self._config.ping_s * 1.5:
            self._cut()

    async def _send_ping(self) -> None:
        try:
            await self._socket.ping()
        except (ConnectionError, RuntimeError):
            pass  # it is gone; the handler learns so by itself

    def close(self, code: int, reason: str) -> None:
        """Begin to close; :meth:`ended` completes it in the handler."""
        if self._goodbye is None:
            goodbye = self._say_goodbye(code, reason)
            self._goodbye = asyncio.create_task(goodbye, name="close a session")

    async def _say_goodbye(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.send_frame(code.to_bytes(2, "big") + reason.encode("ascii"), WSMsgType.CLOSE)
            await asyncio.sleep(CLOSE_S)
        except (TimeoutError, ConnectionError, RuntimeError):
            pass
        self._cut()  # no answer

    async def ended(self) -> None:
        """The last thing that the handler does: where a close was asked for, until it is done."""
        if self._goodbye is not None:
            try:
                while (await self.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    pass
            except (ConnectionError, RuntimeError):
                pass
            self._goodbye.cancel()
            await asyncio.wait((self._goodbye,))
        # aiohttp's socket keeps the error that ended it, whose frames know the socket: a cycle for each lost device.
        error: BaseException | None = self._socket.exception()
        while error is not None:
            error.__traceback__ = None
            error = error.__context__

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
