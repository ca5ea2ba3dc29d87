"""The listening socket and its connections: accepting, deadlines, numbers. It knows no address and no ticket."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fallow_wire.lan import SERVICE_PORT

from fallow_agent.line.marking import LowerEffort

from .arrivals import NEW_CONNECTIONS_BURST, NEW_CONNECTIONS_PER_S, Arrivals
from .connection import Connection, Disconnected, reset
from .http1 import BadRequest, Request

_log = logging.getLogger(__name__)

BACKLOG = 128
ACCEPT_PAUSE_S = 1.0
"""Out of descriptors: wait for some to be closed."""
SWEEP_INTERVAL_S = 1.0
"""One timer looks after all deadlines; a timer for each request would cost more than the request's reading."""
STOP_S_MAX = 1.0
"""Within this the line is the household's again."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """``host``: None listens on all addresses, IPv4 and IPv6.

    ``connections_total_max`` counts idle ones too: 20 KiB each, and descriptors. ``new_per_s``, ``new_burst``: new
    connections, for the router's sake. ``idle_s``: players ask again within
    seconds. ``head_s``: a request head is one or two packets. ``linger_s``: for a caller that was refused to read it.
    """

    host: str | None = None
    port: int = SERVICE_PORT
    connections_total_max: int = 512
    new_per_s: float = NEW_CONNECTIONS_PER_S
    new_burst: int = NEW_CONNECTIONS_BURST
    idle_s: float = 20.0
    head_s: float = 10.0
    linger_s: float = 1.0


class Server:
    """Owns the listening socket and every connection.

    :param answer: answers one request; False closes the connection after it.
    :param answer_bad: the last answer to a request that cannot be read.
    :param prepare: sets what else a new socket needs. :raises OSError: and the connection is refused.
    :param connections_max: open connections that the host allows now, idle ones included.
    """

    def __init__(
        self,
        config: EdgeConfig,
        answer: Callable[[Connection, Request], Awaitable[bool]],
        answer_bad: Callable[[BadRequest], bytes],
        prepare: Callable[[socket.socket], None],
        connections_max: Callable[[], int],
    ) -> None:
        self._config = config
        self._answer = answer
        self._answer_bad = answer_bad
        self._prepare = prepare
        self._connections_max = connections_max
        self.refused_total = 0
        """Connections that were closed at once, because there were too many or they came too fast."""
        self._connections: dict[Connection, None] = {}
        self._listener: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._connections)

    def start(self) -> int:
        """Listen; the port is given. :raises OSError: it is taken."""
        loop = asyncio.get_running_loop()
        self._listener = _listen(self._config.host, self._config.port)
        LowerEffort().mark(self._listener)  # from the answer to the first packet on; what is accepted inherits it
        self._tasks = [
            loop.create_task(self._accept(self._listener), name="edge-accept"),
            loop.create_task(self._sweep(), name="edge-sweep"),
        ]
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks = []
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self.end(tuple(self._connections))

    async def end(self, connections: tuple[Connection, ...]) -> None:
        """End these at once: what the kernel still holds for them is thrown away."""
        tasks = [connection.task for connection in connections if connection.task is not None]
        for connection in connections:
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S_MAX)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        arrivals = Arrivals(loop.time(), self._config.new_per_s, self._config.new_burst)
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    _log.error("no connection can be accepted: %s", error)
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if not arrivals.take(loop.time()) or not self._make_room():
                self.refused_total += 1
                reset(sock)
                continue
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._prepare(sock)
                connection = Connection(sock, loop)
            except OSError:
                sock.close()  # the peer is gone already
                continue
            self._connections[connection] = None
            connection.task = loop.create_task(self._converse(connection), name="edge-connection")

    def _make_room(self) -> bool:
        """For one more connection; an idle one goes for it. None goes where it would help nobody."""
        allowed = min(self._config.connections_total_max, self._connections_max())
        return len(self._connections) < allowed or (allowed > 0 and self._close_longest_idle())

    def _close_longest_idle(self) -> bool:
        idle = [connection for connection in self._connections if connection.waiting_for_request]
        if not idle:
            return False
        connection = min(idle, key=lambda one: one.deadline)
        connection.close()
        del self._connections[connection]
        return True

    async def _converse(self, connection: Connection) -> None:
        """Requests and answers of one connection, until one side ends it."""
        try:
            while True:
                try:
                    request = await connection.request(self._config.idle_s, self._config.head_s)
                    if request is None:
                        return
                    keep = await self._answer(connection, request)
                except BadRequest as bad:
                    await connection.write(self._answer_bad(bad))
                    keep = False
                if not keep:
                    await connection.finish(self._config.linger_s)
                    return
        except Disconnected:
            pass  # nobody is left to be told
        except Exception:  # noqa: BLE001 - outermost: one request's fault must not end the others
            _log.exception("a request could not be answered; its connection is closed")
        finally:
            connection.close()
            self._connections.pop(connection, None)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = loop.time()
            for connection in tuple(self._connections):
                if connection.deadline < now:
                    connection.abort()


def _listen(host: str | None, port: int) -> socket.socket:
    listener = _bound(host, port)
    listener.setblocking(False)
    return listener


def _bound(host: str | None, port: int) -> socket.socket:
    if host is None and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    family = socket.AF_INET6 if host is not None and ":" in host else socket.AF_INET
    return socket.create_server((host or "", port), family=family, backlog=BACKLOG)
