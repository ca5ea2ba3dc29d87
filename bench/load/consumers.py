"""Consumers: requests over kept-alive connections, each for another address, as a proxy in front of the server says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

CONNECTIONS = 16
TIMERS_LATE_S = 0.002
"""A loop's timers come up to a millisecond late, which would count as the server's; so the last of it is not slept."""


@dataclass(slots=True)
class Seen:
    """``latencies_s``: from the moment when a request was due to the whole answer. ``origin``: answered with bytes."""

    latencies_s: list[float] = field(default_factory=list)
    redirected: int = 0
    origin: int = 0
    failed: int = 0


class Consumers:
    """:param objects: id and name, the most popular first; rank r is asked for with weight 1/r."""

    def __init__(self, server: tuple[str, int], objects: Sequence[tuple[str, str]], seed: int = 1) -> None:
        self._server = server
        self._objects = objects
        self._draw = random.Random(seed)

    def request(self) -> bytes:
        draw = self._draw
        object_id, name = self._objects[int(len(self._objects) ** draw.random()) - 1]
        address = f"{draw.randrange(50, 60)}.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(1, 255)}"
        return (
            f"GET /o/{object_id}/{name} HTTP/1.1\r\nHost: {self._server[0]}:{self._server[1]}\r\n"
            f"User-Agent: curl/8.5.0\r\nAccept: */*\r\nX-Forwarded-For: {address}\r\n\r\n"
        ).encode()

    async def at_rate(self, per_s: float, seconds: float) -> Seen:
        """Requests at a fixed rate, whatever becomes of them; a late answer delays no other but on its connection."""
        count, seen = int(per_s * seconds), Seen()
        begin = time.monotonic() + 0.05

        async def one(number: int) -> None:
            reader, writer = await asyncio.open_connection(*self._server)
            for turn in range(number, count, CONNECTIONS):
                due = begin + turn / per_s
                await asyncio.sleep(due - TIMERS_LATE_S - time.monotonic())
                while time.monotonic() < due:  # noqa: ASYNC110  # what is waited for is the time
                    await asyncio.sleep(0)
                await self._ask(reader, writer, seen)
                seen.latencies_s.append(time.monotonic() - due)
            writer.close()

        await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
        return seen

    async def flat_out(self, seconds: float) -> Seen:
        """Each connection asks again as soon as it has an answer."""
        seen, end = Seen(), time.monotonic() + seconds

        async def one() -> None:
            reader, writer = await asyncio.open_connection(*self._server)
            while (began := time.monotonic()) < end:
                await self._ask(reader, writer, seen)
                seen.latencies_s.append(time.monotonic() - began)
            writer.close()

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        return seen

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        writer.write(self.request())
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        if head.startswith(b"HTTP/1.1 302"):
            seen.redirected += 1
        elif head.startswith(b"HTTP/1.1 200"):
            seen.origin += 1
        else:
            seen.failed += 1
