"""Connections that only hold: they say nothing, or take nothing of what they asked for."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web
from fallow_server import app, listening
from server_world import running_server
from support import PATIENCE_S


def test_who_says_nothing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "IDLE_S_MAX", 0.5)

    async def run() -> None:
        async with running_server(tmp_path) as world:
            for port in (world.app.scheduler_port, world.app.ledger_port):
                for start in (b"", b"GET /v1/heal", b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(start)
                    await asyncio.wait_for(reader.read(), PATIENCE_S)
                    writer.close()

    asyncio.run(run())


def test_who_takes_nothing_of_a_large_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "UNTAKEN_MS_MAX", 500)
    ended = asyncio.Event()

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(b"x" * 2**25)
        finally:
            ended.set()
        return response

    async def run() -> None:
        application = web.Application()
        application.router.add_get("/", large)
        runner = web.AppRunner(application)
        await runner.setup()
        [listener] = listening.bind("127.0.0.1", 0)
        await web.SockSite(runner, listener).start()
        with socket.create_connection(listener.getsockname()) as mute:
            mute.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        await runner.cleanup()

    asyncio.run(run())
