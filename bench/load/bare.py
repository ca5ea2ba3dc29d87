"""The peer: a WebSocket server of aiohttp that drops each message before it waits for the next, and knows nothing."""

from __future__ import annotations

import asyncio
import secrets
import time

from aiohttp import web
from fallow_server.app import BACKLOG
from fallow_server.garbage import collect_less
from fallow_wire.encoding import base64url
from fallow_wire.keys import JwkSet
from fallow_wire.session import SUBPROTOCOL, Challenge, Policy, write

from .parts import obey


async def bare(port: str) -> None:
    policy = write(Policy(JwkSet(()), "http://127.0.0.1", heartbeat_s=30))

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), heartbeat=30, compress=False)
        await socket.prepare(request)
        await socket.send_str(write(Challenge(base64url(secrets.token_bytes(24)), int(time.time()))))
        await socket.receive()
        await socket.send_str(policy)
        while True:
            message = await socket.receive()
            if message.type is not web.WSMsgType.TEXT:
                return socket
            del message

    application = web.Application()
    application.router.add_get("/v1/session", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port), backlog=BACKLOG).start()
    collect_less()
    await obey({"ready": _ready})
    await runner.cleanup()


async def _ready() -> bool:
    await asyncio.sleep(0)
    return True
