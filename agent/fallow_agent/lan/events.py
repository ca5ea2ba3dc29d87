"""Server-sent events: the status, twice a second, to a few phones. Nothing runs while nobody looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from fallow_wire.http import Problem

from .middleware import SECURITY_HEADERS, ApiProblem

PERIOD_S = 0.5
SUBSCRIBERS_MAX = 8
"""Open pages of one home; each costs a socket and two small writes a second."""
WRITE_S_MAX = 10.0
"""A phone that takes nothing for so long has gone to sleep; it connects again when it wakes."""


class Events:
    """The handler of ``GET /v1/events``. Each subscriber gets the newest status or nothing: there is no queue."""

    def __init__(self, status: Callable[[], dict[str, Any]], may_go_on: Callable[[str], bool]) -> None:
        """:param may_go_on: tells whether a subscriber's token still counts; a forgotten phone is cut off."""
        self._status = status
        self._may_go_on = may_go_on
        self._closing = asyncio.Event()
        self._subscribers = 0
        self._text = b""
        self._text_at = -1.0

    async def serve(self, request: web.Request, token: str) -> web.StreamResponse:
        """Stream until the phone goes, its token is forgotten, or the agent stops."""
        if self._subscribers >= SUBSCRIBERS_MAX:
            problem = Problem(
                503,
                "too-many-pages",
                "Too many open pages",
                f"{SUBSCRIBERS_MAX} pages are shown already.",
                remedy="Close one of them.",
            )
            raise ApiProblem(problem, {"Retry-After": "5"})
        self._subscribers += 1
        try:
            response = web.StreamResponse(headers={**SECURITY_HEADERS, "Content-Type": "text/event-stream"})
            await response.prepare(request)
            while not self._closing.is_set() and self._may_go_on(token):
                async with asyncio.timeout(WRITE_S_MAX):
                    await response.write(self._message())
                try:
                    async with asyncio.timeout(PERIOD_S):
                        await self._closing.wait()
                except TimeoutError:
                    continue
        except (TimeoutError, ConnectionError):
            return response
        finally:
            self._subscribers -= 1
        return response

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    def _message(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if now - self._text_at >= PERIOD_S / 2:
            data = json.dumps(self._status(), ensure_ascii=False, separators=(",", ":"))
            self._text = f"event: status\ndata: {data}\n\n".encode()
            self._text_at = now
        return self._text
