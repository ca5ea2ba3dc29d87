"""A ledger on a real socket with a real database, and everybody who talks to it.

With ``FALLOW_TEST_DATABASE_URL`` (``postgresql+asyncpg://user@host/database``) each world gets a new PostgreSQL
database on that server instead of a SQLite file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import databases
from aiohttp import web
from fallow_server.clock import Clock
from fallow_server.database import Database
from fallow_server.ledger.app import LedgerService
from fallow_server.ledger.config import LedgerConfig, RewardsConfig
from fallow_server.signing import SigningKeys
from fallow_server.tokens import hash_token
from fallow_wire.batches import FIRST_PREV, Ack, Batch, BatchItem, batch_hash
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign, verify
from fallow_wire.keys import JwkSet, PrivateKey
from fallow_wire.tickets import Ticket
from support import NOW, key, make_receipt, make_ticket, signed_ticket

SCHEDULER = key(1)
CONSUMER = key(3)
LINK, OPERATOR, OWNER, OTHER, PUBLISHER, DEVICE = "link", "operator", "owner", "other", "publisher", "device"
MIB = 2**20


class FakeClock(Clock):
    def __init__(self, now: int = NOW) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def now_ms(self) -> int:
        return self.time * 1000


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Any

    def json(self) -> Any:
        import json

        return json.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.json()["type"])


class Chain:
    """A device that keeps its batch chain."""

    def __init__(self, number: int = 2) -> None:
        self.key = key(number)
        self.id = self.key.public.device_id()
        self.seq, self.prev = 0, FIRST_PREV

    def batch(self, *items: BatchItem, **changes: Any) -> str:
        """The next batch; nothing is remembered unless :meth:`sent` is called."""
        fields = {"did": self.id, "seq": self.seq + 1, "prev": self.prev, "items": items, **changes}
        return sign(Kind.BATCH, Batch(**fields), self.key, kid=self.id)

    def sent(self, token: str) -> None:
        self.seq, self.prev = self.seq + 1, batch_hash(token)


class World:
    """Use by :func:`world`. ``hold_s`` and the clock are the test's."""

    def __init__(self, directory: Path, clock: FakeClock | None = None, hold_s: int = 0, early_hold_s: int = 0) -> None:
        self.directory = directory
        self.clock = clock or FakeClock()
        self.path = directory / "ledger.sqlite"
        self.url = databases.url_of(self.path)
        self.config = LedgerConfig("http://ledger.test", hold_s, early_hold_s, sweep_interval_s=3600)
        self.rewards = RewardsConfig(allow_private_addresses=True)
        self.device = Chain()
        self.tariff = ""

    async def open(self) -> None:
        path = self.directory / "ledger.keys"
        self.keys = SigningKeys.load(path) if path.exists() else SigningKeys.create(path)
        if self.url == databases.url_of(self.path):
            await databases.place("ledger", self.path)
        self.database = Database(self.url)
        self.service = LedgerService(self.config, self.database, self.keys, self.clock, hash_token(LINK), self.rewards)
        await self.service.start()
        self._runner = web.AppRunner(self.service.api.application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        await self.reopen_client()

    async def reopen_client(self) -> None:
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        await self.http.close()
        await self._runner.cleanup()
        await self.service.close()
        await self.database.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def call(self, method: str, path: str, token: str | None = None, body: Any = None, **options: Any) -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers.update(options.pop("headers", {}))
        if "once" in options:
            headers["Idempotency-Key"] = options.pop("once")
        if body is not None:
            options["json"] = body
        async with self.http.request(method, self.address + path, headers=headers, **options) as response:
            return Answer(response.status, await response.read(), response.headers)

    async def good(self, method: str, path: str, token: str | None = None, body: Any = None, **options: Any) -> Any:
        answer = await self.call(method, path, token, body, **options)
        assert 200 <= answer.status < 300, (answer.status, answer.body)
        return answer.json() if answer.headers.get("Content-Type", "").startswith("application/json") else answer.body

    async def populate(self, deposit: int = 10**9, reserved: int = 10**8) -> None:
        """The scheduler's keys, one account of each kind, a device of the owner, points in this hour's escrow."""
        jwks = encode(JwkSet((SCHEDULER.public.jwk(with_kid=True),)))
        await self.good("PUT", "/v1/link/scheduler", LINK, {"url": "http://scheduler.test", "jwks": jwks})
        accounts = ((OWNER, OWNER), (OTHER, OWNER), ("publisher-1", PUBLISHER), (OPERATOR, OPERATOR))
        for account, role in accounts:
            token = PUBLISHER if role == PUBLISHER else account
            body = {"role": role, "name": account, "token_hashes": [hash_token(token)]}
            await self.good("PUT", f"/v1/link/accounts/{account}", LINK, body)
        await self.bind(self.device, OWNER, DEVICE)
        self.tariff = (await self.good("GET", "/v1/tariffs/current"))["id"]
        if deposit:
            await self.good(
                "POST", "/v1/deposits", OPERATOR, {"publisher": "publisher-1", "micro_points": deposit}, once="first"
            )
        if reserved:
            assert await self.reserve(reserved) == reserved

    async def bind(self, chain: Chain, owner: str | None, token: str | None = None) -> None:
        body: dict[str, Any] = {"jwk": encode(chain.key.public.jwk())}
        if owner is not None:
            body["owner"] = owner
        if token is not None:
            body["token_hash"] = hash_token(token)
        await self.good("PUT", f"/v1/link/devices/{chain.id}", LINK, body)

    async def reserve(self, micro_points: int, hour: int | None = None, once: str | None = None) -> int:
        hour = self.clock.now() // 3600 if hour is None else hour
        body = {"publisher": "publisher-1", "hour": hour, "micro_points": micro_points}
        key = once or os.urandom(8).hex()
        return int((await self.good("POST", "/v1/link/reservations", LINK, body, once=key))["granted"])

    def ticket(self, consumer: PrivateKey | None = CONSUMER, chain: Chain | None = None, **changes: Any) -> Ticket:
        now = self.clock.now()
        fields = {"iat": now, "nbf": now, "exp": now + 600, "tariff": self.tariff, **changes}
        return make_ticket((chain or self.device).key, consumer, **fields)

    def item(
        self, ticket: Ticket | None = None, /, confirmed: int = MIB, claimed: int = MIB, **changes: Any
    ) -> BatchItem:
        ticket = ticket or self.ticket()
        receipt = None
        if ticket.cnf is not None:
            receipt = sign(Kind.RECEIPT, make_receipt(ticket, size=confirmed), CONSUMER)
        fields: dict[str, Any] = {
            "ticket": signed_ticket(ticket, SCHEDULER),
            "bytes": claimed,
            "ms": 1000,
            "started_at": NOW,
            "ended_at": NOW + 1,
            "receipt": receipt,
            **changes,
        }
        return BatchItem(**fields)

    async def post(self, token: str | bytes, **options: Any) -> Answer:
        return await self.call("POST", "/v1/proofs", data=token, **options)

    async def prove(self, *items: BatchItem, chain: Chain | None = None) -> Ack:
        """Send ``items`` as the device's next batch and read the ack."""
        chain = chain or self.device
        token = chain.batch(*items)
        answer = await self.post(token)
        assert answer.status == 200, answer.body
        chain.sent(token)
        return self.ack(answer)

    def ack(self, answer: Answer) -> Ack:
        return verify(answer.body, Kind.ACK, Ack, self.keys.public_keys().get).value

    async def account(self, account: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.good("GET", f"/v1/accounts/{account}", OPERATOR)
        return found

    async def reconciled(self) -> dict[str, Any]:
        """The reconciliation, which must find nothing."""
        report: dict[str, Any] = await self.good("GET", "/v1/reconciliation", OPERATOR)
        assert report["sum"] == 0
        assert report["differences"] == []
        assert report["booked"] == report["recomputed"]
        return report


@contextlib.asynccontextmanager
async def world(
    directory: Path, *, hold_s: int = 0, early_hold_s: int = 0, populate: bool = True, **amounts: int
) -> AsyncIterator[World]:
    made = World(directory, None, hold_s, early_hold_s)
    async with databases.of_server() as url:
        made.url = url or made.url
        await made.open()
        try:
            if populate:
                await made.populate(**amounts)
            yield made
        finally:
            await made.close()


def in_world(directory: Path, script: Callable[[World], Awaitable[None]], *, hold_s: int = 0, **options: Any) -> None:
    """Run ``script`` in a new world."""

    async def run() -> None:
        async with world(directory, hold_s=hold_s, **options) as made:
            await script(made)

    asyncio.run(run())
