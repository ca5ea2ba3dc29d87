"""A whole server on loopback with real sockets and files, and devices that are no more than a key and a WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import databases
from fallow_server.accounts.accounts import Accounts, NewAccount
from fallow_server.app import ServerApp
from fallow_server.clock import Clock
from fallow_server.config import DatabaseConfig, ServerConfig, load
from fallow_server.database import Database
from fallow_server.outbox import Outbox
from fallow_server.state import StateDirectory
from fallow_wire import strict
from fallow_wire.enrolment import Enrolment
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.session import (
    SUBPROTOCOL,
    Challenge,
    Disk,
    Downward,
    Environment,
    Heartbeat,
    Line,
    Policy,
    Processor,
    ServicePort,
    Upward,
    read_downward,
    sign_hello,
    write,
)
from support import PATIENCE_S


class MovableClock(Clock):
    """The system's clock, moved."""

    def __init__(self) -> None:
        self.moved_s = 0

    def now(self) -> int:
        return super().now() + self.moved_s

    def now_ms(self) -> int:
        return super().now_ms() + self.moved_s * 1000

    def monotonic(self) -> float:
        return super().monotonic() + self.moved_s


def configuration(state_dir: Path, **sections: Mapping[str, Any]) -> ServerConfig:
    """One server on loopback, at ports of its own."""
    http = {"host": "127.0.0.1", "scheduler_port": 0, "ledger_port": 0, "stop_s": 1, **sections.pop("http", {})}
    return load({"": {"state_dir": state_dir, **sections.pop("own", {})}, "http": http, **sections}, {})


def heartbeat(*ports: ServicePort, state: str = "active", version: str = "0.1.0") -> Heartbeat:
    line = Line(40_000_000, 100_000_000, "configured", 0, 0, 0, 0, 30_000_000, 90_000_000)
    return Heartbeat(
        state,
        line,
        (30_000_000,) * 24,
        Disk(10**10, 0, 10**10, "ssd"),
        Processor(4, "x86_64", 90, 10**9),
        Environment(ports, "none", "linux", "test", version),
        ("object", "fill"),
        0,
        100,
    )


def enrolment_token(key: PrivateKey, claim_token: str, **changes: Any) -> str:
    device_id = key.public.device_id()
    fields = {
        "did": device_id,
        "jwk": key.public.jwk(),
        "claim_token": claim_token,
        "model": "test",
        "version": "0.1.0",
        "iat": 0,
        "nonce": "n" * 16,
    }
    return sign(Kind.ENROLMENT, Enrolment(**{**fields, **changes}), key, kid=device_id)


class FakeDevice:
    """A session as a device has it."""

    def __init__(self, key: PrivateKey, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.key = key
        self.device_id = key.public.device_id()
        self.socket = socket

    async def send(self, message: Upward) -> None:
        await self.socket.send_str(write(message))

    async def receive(self) -> Downward:
        message = await self.socket.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.TEXT, f"{message.type!r} {message.data!r} {message.extra!r}"
        return read_downward(message.data)

    async def closed(self) -> int | None:
        """Read on until the session is closed; gives the code."""
        while True:
            message = await self.socket.receive(timeout=PATIENCE_S)
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                return self.socket.close_code

    async def close(self) -> None:
        await self.socket.close()


class Answer:
    """Status, headers and, where there is one, the JSON body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return strict.loads(self.body, len(self.body))

    @property
    def slug(self) -> str:
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.body
        problem = self.json
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["fault"] in ("caller", "here", "upstream")
        return str(problem["type"])


class ServerWorld:
    def __init__(self, app: ServerApp, http: aiohttp.ClientSession, operator_token: str) -> None:
        self.app = app
        self.http = http
        self.operator_token = operator_token
        assert app.scheduler is not None
        self.scheduler = app.scheduler
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.app.scheduler_port}"

    @property
    def ledger_url(self) -> str:
        return f"http://127.0.0.1:{self.app.ledger_port}"

    async def call(
        self, method: str, path: str, token: str | None = None, *, ledger: bool = False, **more: Any
    ) -> Answer:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        url = (self.ledger_url if ledger else self.url) + path
        async with self.http.request(method, url, headers=headers, allow_redirects=False, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def account(self, role: str, name: str = "someone") -> dict[str, str]:
        answer = await self.call("POST", "/v1/accounts", self.operator_token, json={"role": role, "name": name})
        assert answer.status == 201, answer.body
        found: dict[str, str] = answer.json
        return found

    async def claim(self, owner_token: str) -> str:
        answer = await self.call("POST", "/v1/claims", owner_token)
        assert answer.status == 201, answer.body
        return str(answer.json["claim_token"])

    async def enrol(self, key: PrivateKey, claim_token: str, **changes: Any) -> Answer:
        body = enrolment_token(key, claim_token, **changes)
        return await self.call("POST", "/v1/devices", data=body, headers={"Content-Type": "application/jwt"})

    async def dial(self, key: PrivateKey, host: str | None = None) -> FakeDevice:
        """Say hello, for ``host`` when it is not the true one; nothing that answers it is read."""
        socket = await self.http.ws_connect(f"{self.url}/v1/session", protocols=(SUBPROTOCOL,))
        self._sockets.append(socket)
        device = FakeDevice(key, socket)
        challenge = await device.receive()
        assert isinstance(challenge, Challenge)
        await device.send(sign_hello(challenge, host or f"127.0.0.1:{self.app.scheduler_port}", key, "0.1.0"))
        return device

    async def connect(self, key: PrivateKey) -> FakeDevice:
        device = await self.dial(key)
        assert isinstance(await device.receive(), Policy)
        return device

    async def new_device(self, key: PrivateKey, owner_token: str) -> FakeDevice:
        answer = await self.enrol(key, await self.claim(owner_token))
        assert answer.status == 201, answer.body
        return await self.connect(key)

    async def hang_up(self) -> None:
        """A server that stops waits for devices to answer its close frame, and these ones are not listening."""
        for socket in self._sockets:
            await socket.close()

    async def told(self) -> None:
        """Until the ledger has acknowledged all that the scheduler noted."""
        await self.scheduler.link.deliver()


async def initialise(config: ServerConfig) -> str:
    """What ``fallow-server init`` does; gives the operator's token."""
    state = StateDirectory(config)
    state.create()
    if config.database == DatabaseConfig():
        await databases.place("ledger", state.path / "ledger.sqlite")
        await databases.place("scheduler", state.path / "scheduler.sqlite")
    database = Database(state.database_urls().scheduler)
    await database.migrate("scheduler")
    issued = await Accounts(config.accounts, database, Clock(), Outbox()).create(NewAccount("operator", "operator"))
    await database.close()
    return issued.token


@asynccontextmanager
async def running_server(
    state_dir: Path, clock: Clock | None = None, operator_token: str | None = None, **sections: Mapping[str, Any]
) -> AsyncIterator[ServerWorld]:
    """A server in role ``all``, initialised unless ``operator_token`` is given (then it was before)."""
    async with databases.of_server() as scheduler, databases.of_server() as ledger:
        if scheduler is not None:
            sections["database"] = {"scheduler": scheduler, "ledger": ledger}
        config = configuration(state_dir, **sections)
        token = operator_token or await initialise(config)
        app = ServerApp(config, clock)
        await app.start()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            world = ServerWorld(app, http, token)
            try:
                yield world
            finally:
                await world.hang_up()
                await app.close()


def json_of(value: Any) -> bytes:
    return strict.dumps(encode(value))
