"""A scheduler and a ledger that are away for a day: the device stays quiet, keeps its proofs and comes back.

The day passes in virtual time: where the loop would wait, its clock is moved on instead. Sockets are real.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fallow_agent.proofs.outbox import Outbox, ServedTicket
from fallow_agent.proofs.submission import Submission
from fallow_agent.store import open_database
from fallow_agent.uplink.session import Session
from fallow_wire.batches import Ack, AckItem, Batch, Head, batch_hash
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign, verify
from fallow_wire.keys import JwkSet
from fallow_wire.session import Challenge, Policy, write
from heartbeats import HEARTBEAT
from support import NOW, key, make_ticket, signed_ticket

DAY_S = 86_400
DEVICE, SERVER = key(2), key(4)
DID = DEVICE.public.device_id()


class _PatientSelector(selectors.DefaultSelector):
    """Looks for I/O first; only where there is none does time pass, all at once."""

    IO_S = 0.003
    """Real time in which a loopback answer must have come before the clock is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        found = super().select(self.IO_S if timeout is None else min(timeout, self.IO_S))
        if not found and timeout is not None:
            self.passed_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs on while nothing happens."""

    def __init__(self) -> None:
        self._patient = _PatientSelector()
        super().__init__(self._patient)

    def time(self) -> float:
        return super().time() + self._patient.passed_s


def run_virtual(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


class Receiver:
    """The rest of the agent, which has nothing to say."""

    def __init__(self) -> None:
        self.back = asyncio.Event()

    def take_policy(self, policy: Policy) -> None:
        self.back.set()

    def take_task(self, task: Any) -> None: ...

    def take_cancel(self, cancel: Any) -> None: ...

    def take_dial_back(self, dial_back: Any) -> None: ...

    def take_reachability(self, found: Any) -> None: ...

    def task_statuses(self) -> list[Any]:
        return []

    def held(self) -> list[str]:
        return []


class Server:
    """Scheduler and ledger in one. While it is away every call is answered as a proxy without a server behind does."""

    def __init__(self) -> None:
        self.away = True
        self.calls = 0
        self.batches: list[str] = []

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/v1/session", self._session)
        application.router.add_post("/v1/proofs", self._proofs)
        application.router.add_get("/.well-known/jwks.json", self._keys)
        return application

    def _count(self) -> None:
        self.calls += 1
        if self.away:
            raise web.HTTPBadGateway

    async def _session(self, request: web.Request) -> web.StreamResponse:
        self._count()
        socket = web.WebSocketResponse(protocols=("fallow.v1",))
        await socket.prepare(request)
        await socket.send_str(write(Challenge("n" * 20, NOW)))
        await socket.receive()
        await socket.send_str(write(Policy(JwkSet(()), "http://ledger.test")))
        async for _ in socket:
            pass
        return socket

    async def _proofs(self, request: web.Request) -> web.StreamResponse:
        token = (await request.read()).decode()
        self.batches.append(token)
        self._count()
        batch = verify(token, Kind.BATCH, Batch, {DID: DEVICE.public}.get).value
        booked = tuple(AckItem("booked", 1) for _ in batch.items)
        ack = Ack(DID, batch.seq, batch_hash(token), booked, Head(1, "0" * 64, NOW), NOW)
        return web.Response(text=sign(Kind.ACK, ack, SERVER))

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(encode(JwkSet((SERVER.public.jwk(),))))


def test_a_day_without_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fallow_agent")

    async def main() -> None:
        server = Server()
        runner = web.AppRunner(server.application(), shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        outbox = Outbox(open_database(tmp_path / "agent.sqlite"))
        ticket = make_ticket(DEVICE)
        outbox.save(
            ServedTicket(ticket.jti, signed_ticket(ticket, SERVER), False, ticket.max_bytes, ticket.exp, bytes=9)
        )
        outbox.seal(ticket.jti)
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with aiohttp.ClientSession() as http:
            receiver = Receiver()
            session = Session(http, url, DEVICE, "0.1.0", receiver, lambda: HEARTBEAT, lambda: NOW, lambda unix_s: None)
            submission = Submission(outbox, http, lambda: url, DEVICE)
            running = [asyncio.create_task(session.run()), asyncio.create_task(submission.run())]

            await asyncio.sleep(DAY_S)
            assert loop.time() - started >= DAY_S
            assert not session.status.connected
            assert outbox.waiting() == 1
            # Two programs, one attempt each in 165 s on average once the delays are at their ceiling.
            assert 100 <= server.calls <= 2 * DAY_S / 100
            assert len(set(server.batches)) == 1
            warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert len(warnings) <= 4, [record.getMessage() for record in warnings]

            server.away = False
            await receiver.back.wait()
            await submission.all_acknowledged()
            assert outbox.waiting() == 0
            assert loop.time() - started <= DAY_S + 2 * 300
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await runner.cleanup()

    run_virtual(main())
