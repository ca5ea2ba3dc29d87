"""One accepted connection: the only owner of its socket.

Nothing else holds the descriptor, so that it cannot be closed (and its number given to another connection) while a
transfer waits for it: everything here and in :mod:`.sending` runs on the loop's thread, and :meth:`Connection.close`
takes the descriptor off the loop before it closes it.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from . import http1

READ_BYTES = 16 * 1024
PENDING_BYTES_MAX = 2 * http1.HEAD_BYTES_MAX
"""Read ahead while an answer is under way, for pipelined requests; then the client waits."""
_MSG_MORE = getattr(socket, "MSG_MORE", 0)
_RESET = struct.pack("ii", 1, 0)


class Disconnected(Exception):
    """The peer went away, or the connection was closed from our side."""


class Connection:
    """A socket with a read-ahead buffer. ``deadline`` is the loop time at which the service closes it."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.socket = sock
        self.deadline = float("inf")
        self.waiting_for_request = False
        self.task: asyncio.Task[None] | None = None
        self._loop = loop
        self._buffer = bytearray()
        self._reading = False
        self._ended = False
        self._closed = False
        self._read_waiter: asyncio.Future[None] | None = None
        self._other_waiter: asyncio.Future[None] | None = None
        sock.setblocking(False)
        self._resume_reading()

    # ------------------------------------------------------------------ reading

    async def request(self, idle_s: float, head_s: float) -> http1.Request | None:
        """The next request, or None when the peer has ended. Sets the deadlines of waiting and of reading.

        :raises http1.BadRequest: and the caller answers it, then closes.
        """
        self.waiting_for_request = True
        self.deadline = self._loop.time() + (head_s if self._buffer else idle_s)
        while not (length := http1.head_length(self._buffer)):
            was_empty = not self._buffer
            if not await self._more():
                return None
            if was_empty:
                self.deadline = self._loop.time() + head_s
        self.waiting_for_request = False
        head = bytes(self._buffer[:length])
        del self._buffer[:length]
        return http1.read_head(head)

    async def body(self, length: int) -> bytes:
        """:raises Disconnected: when the peer ends before ``length`` bytes."""
        while len(self._buffer) < length:
            if not await self._more():
                raise Disconnected
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    async def _more(self) -> bool:
        if self._ended or self._closed:
            return False
        self._resume_reading()
        self._read_waiter = self._loop.create_future()
        try:
            await self._read_waiter
        finally:
            self._read_waiter = None
        return not (self._ended or self._closed)

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self.socket, self._on_readable)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.socket)

    def _on_readable(self) -> None:
        try:
            data = self.socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            # A transfer under way is for nobody any more; a client that only ends its own side does not exist here.
            self._ended = True
            self._pause_reading()
            self._wake(self._other_waiter)
        else:
            self._buffer += data
            if len(self._buffer) >= PENDING_BYTES_MAX:
                self._pause_reading()
        self._wake(self._read_waiter)

    # ------------------------------------------------------------------ writing

    async def write(self, data: bytes, *, more: bool = False) -> None:
        """Send all of ``data``. ``more``: a body follows at once, so that head and body share packets.

        :raises Disconnected: when the peer is gone.
        """
        view = memoryview(data)
        while view:
            self.check_open()
            try:
                view = view[self.socket.send(view, _MSG_MORE if more else 0) :]
            except (BlockingIOError, InterruptedError):
                await self.writable()
            except OSError:
                raise Disconnected from None

    async def writable(self) -> None:
        """Wait until the socket takes bytes. :raises Disconnected: when the peer goes away meanwhile."""
        self.check_open()
        waiter = self._other_waiter = self._loop.create_future()
        self._loop.add_writer(self.socket, self._wake, waiter)
        try:
            await waiter
        finally:
            self._other_waiter = None
            if not self._closed:
                self._loop.remove_writer(self.socket)
        self.check_open()

    async def woken(self, timeout_s: float) -> bool:
        """Wait for :meth:`wake`; False when it did not come in time. :raises Disconnected: the peer went away."""
        self.check_open()
        waiter = self._other_waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, waiter.cancel)
        try:
            await asyncio.wait((waiter,))
        finally:
            timer.cancel()
            self._other_waiter = None
        self.check_open()
        return not waiter.cancelled()

    def wake(self) -> None:
        """End a :meth:`woken` under way."""
        self._wake(self._other_waiter)

    def _wake(self, waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ------------------------------------------------------------------ ending

    def check_open(self) -> None:
        """:raises Disconnected: unless both sides still hold the connection."""
        if self._closed or self._ended:
            raise Disconnected

    async def finish(self, linger_s: float) -> None:
        """End our side and wait for the peer to end its own, reading away what it still sends.

        Closing with unread bytes would reset the connection, and the peer might never see the last answer.
        """
        if self._closed:
            return
        self.deadline = self._loop.time() + linger_s
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        while await self._more():
            self._buffer.clear()

    def close(self) -> None:
        """Close; bytes already handed to the kernel are still delivered. Idempotent."""
        if self._closed:
            return
        self._pause_reading()
        self._loop.remove_writer(self.socket)
        self._closed = True
        self.socket.close()
        self._wake(self._read_waiter)
        self._wake(self._other_waiter)

    def abort(self) -> None:
        """Close and throw away what the kernel still holds: the line is wanted back now."""
        if not self._closed:
            _reset_at_close(self.socket)
            self.close()


def reset(sock: socket.socket) -> None:
    """Close a connection that is not wanted, so that no table remembers it: routers keep one that ended in peace for
    two minutes, one that was reset for ten seconds (Linux ``nf_conntrack_tcp_timeout_close``)."""
    _reset_at_close(sock)
    sock.close()


def _reset_at_close(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # the peer reset it already, which is what is wanted
