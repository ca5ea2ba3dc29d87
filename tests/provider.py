"""A rewards provider on a real socket: checks signatures, keeps a register by key, and fails as it is told."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from fallow_server.ledger.webhook import signature

Behaviour = Callable[[dict[str, Any]], Awaitable[web.StreamResponse | None]]


class Provider:
    """Honest: under one key it gives one code, whoever often it is asked. ``behaviour`` may answer in its place."""

    def __init__(self) -> None:
        self.secret = ""
        self.url = ""
        self.given: dict[str, str] = {}
        """Codes by redemption."""
        self.fulfilments: Counter[str] = Counter()
        self.asked: list[dict[str, Any]] = []
        self.unsigned = 0
        self.behaviour: Behaviour | None = None
        self.heard = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        timestamp = int(request.headers["Fallow-Timestamp"])
        if request.headers["Fallow-Signature"] != signature(self.secret, timestamp, body):
            self.unsigned += 1
            return web.json_response({}, status=401)
        order: dict[str, Any] = json.loads(body)
        assert request.headers["Idempotency-Key"] == order["redemption"]
        self.asked.append(order)
        self.heard.set()
        if self.behaviour is not None:
            answered = await self.behaviour(order)
            if answered is not None:
                return answered
        return self.fulfil(order)

    def fulfil(self, order: dict[str, Any]) -> web.Response:
        key = order["redemption"]
        if order["kind"] == "ask" and key not in self.given:
            return web.json_response({"outcome": "voided", "reason": "never heard of it"})
        if key not in self.given:
            self.fulfilments[key] += 1
            self.given[key] = f"CODE-{len(self.given)}"
        return web.json_response({"outcome": "fulfilled", "code": self.given[key]})


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    application = web.Application()
    application.router.add_post("/orders", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/orders"
    try:
        yield made
    finally:
        await runner.cleanup()
