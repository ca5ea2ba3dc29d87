"""Bodies in few wake-ups: no byte is left in the socket, whatever its pace, and the connection is used again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import pairwise

import aiohttp
import pytest
from fallow_client import bodies
from fallow_client.bodies import BrokenOff, TooLong, read_body
from support import PATIENCE_S

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


async def with_server(serve: Serve, use: Callable[[aiohttp.ClientSession, str], Awaitable[None]]) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, aiohttp.ClientSession() as session:
        await use(session, f"http://{host}:{port}/")


async def ask(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")


def test_a_body_that_trickles_and_then_rushes_is_whole_and_its_connection_is_used_again() -> None:
    data = bytes(range(256)) * 4096
    cuts = [0, 1, 2, 1500, 60_000, 60_001, 500_000, len(data) - 1, len(data)]
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await ask(reader)
            writer.write(head(len(data)))
            for start, end in pairwise(cuts):
                await writer.drain()
                writer.write(data[start:end])
                await asyncio.sleep(0)
        await reader.read()

    async def use(session: aiohttp.ClientSession, url: str) -> None:
        for _ in range(2):
            began: list[None] = []
            async with asyncio.timeout(PATIENCE_S), session.get(url) as response:
                assert await read_body(response, len(data), lambda: began.append(None)) == data  # noqa: B023
            assert len(began) == 1
        assert connections == 1

    asyncio.run(with_server(serve, use))


def test_the_kernel_is_told_to_wake_for_batches_and_for_single_bytes_afterwards() -> None:
    data, now = bytes(1_000_000), [0.0]
    told: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(reader)
        writer.write(head(len(data)) + data)
        await reader.read()

    async def use(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(url) as response:
            connection = response.connection
            assert connection is not None
            assert connection.transport is not None
            sock = connection.transport.get_extra_info("socket")
            batches = bodies.Batches(response, len(data))

            def step(count: int, seconds: float) -> None:
                now[0] += seconds
                batches.took(count, now[0])
                told.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))

            for _ in range(7):
                step(10_000, 0.01)
            assert told[-1] == bodies.BATCH_BYTES_MAX
            step(10_000, 2.0)
            assert told[-1] == bodies.BATCH_BYTES_MAX // 2  # who is slow is heard of sooner
            step(900_000, 0.01)
            assert told[-1] == 20_000  # no more than will come
            batches.end()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            await response.read()

    asyncio.run(with_server(serve, use))


@pytest.mark.parametrize(("sent", "error"), [(900, BrokenOff), (1001, TooLong)])
def test_a_body_of_another_length_is_refused(sent: int, error: type[Exception]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(reader)
        writer.write(head(sent) + bytes(sent))
        await reader.read()

    async def use(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(url) as response:
            with pytest.raises(error):
                await read_body(response, 1000, lambda: None)

    asyncio.run(with_server(serve, use))
