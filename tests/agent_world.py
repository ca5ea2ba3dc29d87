"""A scheduler and a ledger that only know one device, for tests of the agent."""

from __future__ import annotations

import asyncio

from aiohttp import web
from fallow_wire.batches import Ack, AckItem, Batch, Head, batch_hash
from fallow_wire.enrolment import Enrolled, verify_enrolment
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, parse, sign, split
from fallow_wire.keys import JwkSet
from fallow_wire.session import Policy
from support import NOW, key

SCHEDULER_KEY, LEDGER_KEY = key(11), key(12)


class Network:
    """Scheduler and ledger on one port. ``gate`` holds back the answers to enrolments until it is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.claims: asyncio.Queue[str] = asyncio.Queue()
        self.devices: set[str] = set()
        self.sessions: asyncio.Queue[str] = asyncio.Queue()
        self.ledger_is_away = False
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()
        self.refuse = False
        self.url = ""

    async def start(self) -> None:
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        self.gate.set()
        await self._runner.cleanup()

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/v1/devices", self.enrol)
        application.router.add_get("/v1/session", self.session)
        application.router.add_post("/v1/proofs", self.proofs)
        application.router.add_get("/.well-known/jwks.json", self.jwks)
        return application

    async def enrol(self, request: web.Request) -> web.Response:
        enrolment = verify_enrolment(await request.read()).value
        if self.refuse:
            problem = {"type": "claim-used", "title": "Used", "status": 403, "detail": "by another", "remedy": "ask"}
            return web.json_response(problem, status=403, content_type="application/problem+json")
        self.devices.add(enrolment.did)
        self.claims.put_nowait(enrolment.claim_token)
        await self.gate.wait()
        keys = JwkSet((SCHEDULER_KEY.public.jwk(with_kid=True),))
        answer = Enrolled(enrolment.did, "owner-1", self.url, "ledger-token", keys, Policy(keys, self.url))
        return web.json_response(encode(answer), status=201)

    async def session(self, request: web.Request) -> web.Response:
        self.sessions.put_nowait(request.path)
        return web.Response(status=503)

    async def jwks(self, request: web.Request) -> web.Response:
        return web.json_response(encode(JwkSet((LEDGER_KEY.public.jwk(with_kid=True),))))

    async def proofs(self, request: web.Request) -> web.Response:
        token = (await request.read()).decode()
        batch = parse(split(token, Kind.BATCH), Batch)
        self.batches.put_nowait(batch)
        if self.ledger_is_away:
            return web.Response(status=502)
        items = tuple(AckItem("booked", 1) for _ in batch.items)
        ack = Ack(batch.did, batch.seq, batch_hash(token), items, Head(1, "0" * 64, NOW), NOW)
        return web.Response(text=sign(Kind.ACK, ack, LEDGER_KEY), content_type="application/jwt")
