"""Bodies of a known length, read into memory with few wake-ups.

The kernel tells of a body when a good part of it is there (``SO_RCVLOWAT``). A crowd's transfers are slow ones, whose
packets come one by one, and to wake for each takes more processor time than all else that a download does.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import aiohttp

BATCH_BYTES_MIN, BATCH_BYTES_MAX = 2048, 64 * 1024
BATCH_S_MAX = 0.25
"""What comes so slowly that a batch takes longer is told of in smaller ones: slowness is no silence."""


class TooLong(Exception):
    """More bytes than asked for."""


class BrokenOff(Exception):
    """It ended early."""


async def read_body(response: aiohttp.ClientResponse, length: int, began: Callable[[], None]) -> memoryview:
    """:param began: called at the first byte.

    :raises TooLong, BrokenOff: it is not of ``length`` bytes.
    :raises aiohttp.ClientError, TimeoutError: as reading the response does.
    """
    data = memoryview(bytearray(length))
    filled = 0
    batches = Batches(response, length)
    try:
        async for piece in response.content.iter_any():
            if filled + len(piece) > length:
                raise TooLong(f"more than the {length} bytes that were asked for")
            if not filled:
                began()
            data[filled : filled + len(piece)] = piece
            filled += len(piece)
            batches.took(len(piece), time.monotonic())
    finally:
        batches.end()
    if filled < length:
        raise BrokenOff(f"broke off after {filled} bytes")
    return data


class Batches:
    """How much of a body has to be there before we are woken; ``end`` it, for the connection is used again.

    It does nothing where nobody knows what the socket has still to give: behind TLS, and for bodies in pieces.
    """

    def __init__(self, response: aiohttp.ClientResponse, length: int) -> None:
        self._left = length
        self._size = BATCH_BYTES_MIN
        self._told = 1
        self._took_at: float | None = None
        transport = None if response.connection is None else response.connection.transport
        plain = transport is not None and transport.get_extra_info("sslcontext") is None
        known = response.content_length == length and "Transfer-Encoding" not in response.headers
        self._socket = transport.get_extra_info("socket") if transport is not None and plain and known else None

    def took(self, count: int, now: float) -> None:
        """So many bytes of the body were read. :param now: monotonic seconds."""
        elapsed, self._took_at = 0.0 if self._took_at is None else now - self._took_at, now
        self._left -= count
        if elapsed < BATCH_S_MAX / 2:
            self._size = min(2 * self._size, BATCH_BYTES_MAX)
        elif elapsed > BATCH_S_MAX:
            self._size = max(self._size // 2, BATCH_BYTES_MIN)
        self._wake_at(max(1, min(self._size, self._left)))

    def end(self) -> None:
        self._wake_at(1)

    def _wake_at(self, count: int) -> None:
        if self._socket is None or self._told == count:
            return
        self._told = count
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
        except OSError:
            self._socket = None  # it is closed
