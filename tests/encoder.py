"""An origin of video whose files a test changes."""

from __future__ import annotations

import asyncio

from aiohttp import web


class Encoder:
    """``gate`` holds its answers back; ``broken`` makes them 500."""

    def __init__(self) -> None:
        self.files: dict[str, str | bytes] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.broken = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            return web.Response(status=500)
        if request.raw_path == "/moved/index.m3u8":
            return web.Response(status=302, headers={"Location": "/media/there/index.m3u8"})
        body = self.files.get(request.raw_path)
        if body is None:
            return web.Response(status=404)
        return web.Response(body=body.encode() if isinstance(body, str) else body, headers=self.headers)
