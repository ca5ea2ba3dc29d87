"""The link: what the ledger is told, in which order, and what happens while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import databases
import pytest
from aiohttp import web
from fallow_server.accounts.accounts import Accounts, AccountsConfig, NewAccount
from fallow_server.clock import Clock
from fallow_server.database import Database
from fallow_server.link import LedgerUnreachable, Link, LinkConfig, LinkScheduler
from fallow_server.outbox import Outbox
from fallow_server.tokens import hash_token
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet
from fallow_wire.tariff import LegacyCaps, Tariff
from server_world import MovableClock, json_of, running_server
from support import PATIENCE_S, key

LEDGER_KEY = key(9)
TARIFF = Tariff(1, 0, {"object": 1000}, {"countersigned": 1000, "legacy": 100}, LegacyCaps(0, 0))


class FakeLedger:
    """Answers as told: ``statuses`` first, then as a ledger does."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Any, str | None]] = []
        self.statuses: list[int] = []
        self.granted: object = {"granted": 70}
        self.tariff = TARIFF
        self.signer = LEDGER_KEY
        self.port = 0
        self.acknowledged = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        assert request.headers["Authorization"] == "Bearer fl_token"
        self.heard.append((request.method, request.path, body, request.headers.get("Idempotency-Key")))
        if self.statuses and (status := self.statuses.pop(0)) >= 300:
            return web.Response(status=status, headers={"Location": "/elsewhere"})
        if request.path == "/.well-known/jwks.json":
            return web.Response(body=json_of(JwkSet((LEDGER_KEY.public.jwk(with_kid=True),))))
        if request.path == "/v1/tariffs/current":
            token = sign(Kind.TARIFF, self.tariff, self.signer)
            return web.Response(body=json_of({"id": self.tariff.tariff_id(), "tariff": token}))
        if request.path == "/v1/link/reservations":
            return web.json_response(self.granted)
        if "/accounts/" in request.path:
            self.acknowledged.set()
        return web.Response(status=204)


class Rig:
    def __init__(self, database: Database, ledger: FakeLedger, clock: Clock) -> None:
        self.ledger = ledger
        self.outbox = Outbox()
        self.accounts = Accounts(AccountsConfig(), database, clock, self.outbox)
        config = LinkConfig(timeout_s=5, backoff_s_max=0)
        introduction = LinkScheduler("http://scheduler.test", JwkSet((key(1).public.jwk(),)))
        address = f"http://127.0.0.1:{ledger.port}"
        self.link = Link(config, database, self.outbox, clock, address, "fl_token", lambda: introduction)


@asynccontextmanager
async def rig(path: Path, clock: Clock | None = None, ledger: FakeLedger | None = None) -> AsyncIterator[Rig]:
    ledger = ledger or FakeLedger()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", ledger.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ledger.port).start()
    ledger.port = runner.addresses[0][1]
    database = Database(await databases.place("scheduler", path / "x.sqlite"))
    found = Rig(database, ledger, clock or Clock())
    await found.link.start()
    try:
        yield found
    finally:
        await found.link.close()
        await database.close()
        await runner.cleanup()


def test_changes_arrive_in_order_and_once_acknowledged_not_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            one = await r.accounts.create(NewAccount("owner", "one"))
            two = await r.accounts.create(NewAccount("publisher", "two"))
            await r.accounts.revoke_tokens(one.id)
            await r.link.deliver()
            paths = [path for _, path, _, _ in r.ledger.heard]
            assert paths == ["/v1/link/scheduler", f"/v1/link/accounts/{one.id}", f"/v1/link/accounts/{two.id}"]
            assert r.ledger.heard[1][2] == {"role": "owner", "name": "one", "token_hashes": []}, "as it is by now"
            assert r.ledger.heard[2][2]["token_hashes"] == [hash_token(two.token)]
            assert await r.link.pending() == 0
            await r.link.deliver()
            assert len(r.ledger.heard) == 3

    asyncio.run(run())


def test_what_is_not_acknowledged_is_said_again_from_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            one = await r.accounts.create(NewAccount("owner", "one"))
            two = await r.accounts.create(NewAccount("owner", "two"))
            for status in (503, 401, 302, 400):
                r.ledger.statuses = [204, status] if status == 503 else [status]
                r.ledger.heard.clear()
                with pytest.raises(LedgerUnreachable):
                    await r.link.deliver()
                assert r.ledger.heard[-1][1] == f"/v1/link/accounts/{one.id}"
                assert await r.link.pending() == 2
            r.ledger.heard.clear()
            await r.link.deliver()
            assert [path for _, path, _, _ in r.ledger.heard] == [
                f"/v1/link/accounts/{one.id}",
                f"/v1/link/accounts/{two.id}",
            ]

    asyncio.run(run())


def test_the_outbox_outlives_a_crash_before_it_was_read(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            one = await r.accounts.create(NewAccount("owner", "one"))
        async with rig(tmp_path) as r:
            await r.link.deliver()
            assert f"/v1/link/accounts/{one.id}" in [path for _, path, _, _ in r.ledger.heard]

    asyncio.run(run())


def test_the_loop_gets_over_an_absent_ledger(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            r.ledger.statuses = [500] * 5
            loop = asyncio.create_task(r.link.run(), name="link")
            one = await r.accounts.create(NewAccount("owner", "one"))
            async with asyncio.timeout(PATIENCE_S):
                await r.ledger.acknowledged.wait()
            assert r.ledger.heard[-1][1] == f"/v1/link/accounts/{one.id}"
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    asyncio.run(run())


def test_a_reservation_is_one_however_often_it_is_sent(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            r.ledger.statuses = [500, 502]
            assert await r.link.reserve("pub-1", 472222, 100) == 70
            bodies = [(body, idempotency) for _, path, body, idempotency in r.ledger.heard]
            assert bodies[0] == bodies[1] == bodies[2]
            assert bodies[0][0] == {"publisher": "pub-1", "hour": 472222, "micro_points": 100}
            await r.link.reserve("pub-1", 472222, 100)
            assert r.ledger.heard[-1][3] != bodies[0][1], "another reservation is another one"
            r.ledger.granted = {"granted": 1000}
            assert await r.link.reserve("pub-1", 1, 100) == 100, "never more than was asked"
            for answer in ({"granted": -1}, {}, []):
                r.ledger.granted = answer
                with pytest.raises(LedgerUnreachable):
                    await r.link.reserve("pub-1", 1, 100)
            r.ledger.statuses = [500] * 3
            with pytest.raises(LedgerUnreachable):
                await r.link.reserve("pub-1", 1, 100)

    asyncio.run(run())


def test_the_tariff_is_verified_kept_and_survives_a_short_absence(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with rig(tmp_path, clock) as r:
            found = await asyncio.gather(*(r.link.current_tariff() for _ in range(5)))
            assert {signed.value.tariff_id() for signed in found} == {TARIFF.tariff_id()}
            assert len(r.ledger.heard) == 2, "keys and tariff, once"
            clock.moved_s += 61
            r.ledger.statuses = [503] * 1000
            assert (await r.link.current_tariff()).value == TARIFF
            asked = len(r.ledger.heard)
            assert (await r.link.current_tariff()).value == TARIFF
            assert len(r.ledger.heard) == asked, "an absent ledger is not asked for every consumer"
            clock.moved_s += 3600
            with pytest.raises(LedgerUnreachable):
                await r.link.current_tariff()
            r.ledger.statuses = []
            r.ledger.signer = key(8)
            with pytest.raises(LedgerUnreachable):
                await r.link.current_tariff()
            r.ledger.signer = LEDGER_KEY
            r.ledger.tariff = Tariff(**{**{f: getattr(TARIFF, f) for f in encode(TARIFF)}, "version": 2})
            assert (await r.link.current_tariff()).value.version == 2

    asyncio.run(run())


def test_against_the_true_ledger(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            publisher = await world.account("publisher")
            await world.told()
            link = world.scheduler.link
            assert (await link.current_tariff()).value.version >= 1
            hour = Clock().now() // 3600
            assert await link.reserve(publisher["id"], hour, 1000) == 0, "nothing was deposited"
            deposit = {"publisher": publisher["id"], "micro_points": 700}
            answer = await world.call(
                "POST",
                "/v1/deposits",
                world.operator_token,
                ledger=True,
                json=deposit,
                headers={"Idempotency-Key": "deposit-1"},
            )
            assert answer.status in (200, 201), answer.body
            assert await link.reserve(publisher["id"], hour, 1000) == 700
            assert (await world.call("PUT", "/v1/link/scheduler", world.operator_token, ledger=True)).status == 403
            health = (await world.call("GET", "/v1/health")).json
            assert (health["status"], health["role"]) == ("ok", "all")

    asyncio.run(run())
