"""A scheduler's catalogue, delivery and tasks behind a real HTTP server, with devices and a ledger made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import databases
from aiohttp import web
from fallow_server.catalogue.config import Config as CatalogueConfig
from fallow_server.catalogue.service import CatalogueService
from fallow_server.clock import Clock
from fallow_server.database import Database
from fallow_server.delivery.config import Config as DeliveryConfig
from fallow_server.delivery.service import DeliveryService
from fallow_server.fleet.live import Fleet, LiveDevice
from fallow_server.http import Api, Principal, Role
from fallow_server.link import LedgerUnreachable
from fallow_server.signing import SigningKeys
from fallow_server.streaming.config import Config as StreamingConfig
from fallow_server.streaming.service import StreamingService
from fallow_server.tasks.config import Config as TaskConfig
from fallow_server.tasks.service import TaskService
from fallow_wire.jws import Kind, Signed, sign
from fallow_wire.probes import ProbeResult
from fallow_wire.session import (
    Disk,
    Downward,
    Environment,
    Heartbeat,
    Line,
    Processor,
    ServicePort,
    TaskStatus,
    read_downward,
)
from fallow_wire.tariff import LegacyCaps, Tariff
from support import NOW, PATIENCE_S, key

ALICE, BOB = "publisher-a", "publisher-b"
LEDGER_URL = "http://ledger.test"


class HandClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = float(NOW)

    def now(self) -> int:
        return int(self.seconds)

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Tokens:
    """Everybody's token is their name."""

    async def principal_of(self, token: str) -> Principal | None:
        role = token.partition("-")[0]
        return Principal(token, Role(role)) if role in set(Role) else None


class HandLink:
    """A ledger that lends what it is told to have."""

    def __init__(self) -> None:
        self.escrow = {ALICE: 10**9, BOB: 10**9}
        self.reservations: list[tuple[str, int, int]] = []
        self.away = False
        self.gate: asyncio.Event | None = None
        rates = {"object": 1_000_000, "fill": 250_000}
        tariff = Tariff(1, NOW - 100, rates, {"countersigned": 1000, "legacy": 500}, LegacyCaps(10**12, 10**12))
        self.tariff = Signed(tariff, "kid", sign(Kind.TARIFF, tariff, key(99)))

    async def reserve(self, publisher: str, hour: int, micro_points: int) -> int:
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise LedgerUnreachable("away")
        granted = min(micro_points, self.escrow.get(publisher, 0))
        self.escrow[publisher] = self.escrow.get(publisher, 0) - granted
        self.reservations.append((publisher, hour, granted))
        return granted

    async def current_tariff(self) -> Signed[Tariff]:
        if self.away:
            raise LedgerUnreachable("away")
        return self.tariff


def heartbeat(**changes: Any) -> Heartbeat:
    line = Line(40_000_000, 100_000_000, "configured", 0, 0, 0, 0, 40_000_000, 100_000_000)
    good = Heartbeat(
        state="active",
        line=line,
        forecast_idle_up_bps=(30_000_000,) * 24,
        disk=Disk(10 * 2**30, 0, 20 * 2**30, "ssd"),
        processor=Processor(4, "x86_64", 90, 2**30),
        environment=Environment((ServicePort("tcp", 32557, "ipv4", "203.0.113.5", "none"),), "none", "os", "m", "1"),
        services=("object", "fill", "probe"),
        connections_max=100,
    )
    return replace(good, **changes)


class HandDevice:
    """A device at the end of a session: it keeps what it was sent, and says what a test makes it say."""

    def __init__(self, harness: Harness, number: int, **changes: Any) -> None:
        self.harness = harness
        self.key = key(number)
        self.id = self.key.public.device_id()
        self.number = number
        self.changes = changes
        self.received: list[Downward] = []
        self.live: LiveDevice | None = None
        self.deaf = False
        self.heard = asyncio.Event()

    async def connect(self, *held: str) -> HandDevice:
        fleet, owner = self.harness.fleet, self.changes.pop("owner", f"owner-{self.number}")
        remote = self.changes.pop("remote", "203.0.113.9")
        self.live = LiveDevice(
            self.id, owner, self.key.public.raw, remote, self.harness.clock.now(), self._send, self._close
        )
        await fleet.attach(self.live)
        self.live.service_urls = (f"http://203.0.113.{self.number}:32557",)
        await self.beat()
        await self.holds(*held)
        return self

    async def beat(self, **changes: Any) -> None:
        assert self.live is not None
        self.live.heartbeat = heartbeat(**{**self.changes, **changes})
        self.live.last_seen = self.harness.clock.now()
        await self._tell("reported", self.id)

    async def holds(self, *object_ids: str) -> None:
        assert self.live is not None
        self.live.content = set(object_ids)
        await self._tell("content_changed", self.id)

    async def holds_in_part(self, *object_ids: str) -> None:
        assert self.live is not None
        self.live.partial = frozenset(object_ids)
        await self._tell("content_changed", self.id)

    async def says(
        self,
        task_id: str,
        status: str,
        bytes_done: int = 0,
        reason: str | None = None,
        result: ProbeResult | None = None,
    ) -> None:
        await self._tell("task_status", self.id, TaskStatus(task_id, status, bytes_done, reason, result))

    async def leave(self) -> None:
        assert self.live is not None
        await self.harness.fleet.detach(self.live)

    async def _tell(self, event: str, *values: Any) -> None:
        for observer in self.harness.fleet.observers:
            await getattr(observer, event)(*values)

    async def _send(self, text: str) -> None:
        if self.deaf:
            raise ConnectionResetError("deaf")
        self.received.append(read_downward(text))
        self.heard.set()

    async def _close(self, code: int, reason: str) -> None:
        await self.leave()


class Harness:
    """Attributes are the parts; :meth:`call` asks the server."""

    def __init__(
        self,
        directory: Path,
        catalogue: CatalogueConfig | None = None,
        delivery: DeliveryConfig | None = None,
        tasks: TaskConfig | None = None,
        streaming: StreamingConfig | None = None,
        clock: Clock | None = None,
        link: HandLink | None = None,
    ) -> None:
        self.directory = directory
        self.catalogue_config = catalogue or CatalogueConfig(disk_free_bytes_min=0)
        self.delivery_config = delivery or DeliveryConfig()
        self.task_config = tasks or TaskConfig()
        self.streaming_config = streaming or StreamingConfig()
        self.clock = clock or HandClock()
        self.link = link or HandLink()
        self.fleet = Fleet()
        self.url = ""
        self.names: dict[str, list[str]] = {}
        """What name servers say of targets of probes."""

    async def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        key_file = self.directory / "scheduler.keys"
        self.keys = SigningKeys.load(key_file) if key_file.exists() else SigningKeys.create(key_file)
        self.database = Database(await databases.place("scheduler", self.directory / "scheduler.sqlite"))
        # The port is needed before the parts are built: they are told the public URL.
        server = web.Server(self._dispatch)
        self.runner = web.ServerRunner(server)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        port = self.runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        self.catalogue = CatalogueService(
            self.catalogue_config, self.database, self.keys, self.clock, self.directory, self.url
        )
        config = replace(self.delivery_config, public_url=self.url, ledger_url=LEDGER_URL)
        parts = (self.catalogue.catalogue, self.fleet, self.link, self.keys, self.clock)
        self.delivery = DeliveryService(config, *parts)
        self.catalogue.insight = self.delivery
        self.tasks = TaskService(
            self.task_config, self.database, self.catalogue.catalogue, self.delivery.devices, self.delivery.issuer,
            self.clock, self.url, self.resolve,
        )  # fmt: skip
        self.streaming = StreamingService(
            self.streaming_config,
            self.catalogue_config,
            self.catalogue,
            self.delivery.devices,
            self.tasks,
            self.clock,
            self.url,
        )
        await self.runner.cleanup()
        api = Api(Tokens())
        for part in (self.catalogue, self.delivery, self.tasks):
            part.add_routes(api)
        self.api = api
        self.app_runner = web.AppRunner(api.application)
        await self.app_runner.setup()
        await web.TCPSite(self.app_runner, "127.0.0.1", port).start()
        self.http = aiohttp.ClientSession(auto_decompress=False)
        await self.catalogue.start()
        await self.streaming.start()
        await self.tasks.start()

    async def resolve(self, host: str) -> list[str]:
        return self.names.get(host, [])

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=503)

    async def close(self) -> None:
        await self.http.close()
        await self.app_runner.cleanup()
        await self.tasks.close()
        await self.streaming.close()
        await self.delivery.close()
        await self.catalogue.close()
        await self.database.close()

    async def call(
        self, method: str, path: str, *, who: str | None = ALICE, status: int | None = None, **more: Any
    ) -> Answer:
        headers = {**({"Authorization": f"Bearer {who}"} if who else {}), **more.pop("headers", {})}
        url = path if path.startswith("http") else self.url + path
        async with self.http.request(method, url, headers=headers, allow_redirects=False, **more) as response:
            answer = Answer(response.status, response.headers, await response.read())
        if status is not None:
            assert answer.status == status, (answer.status, answer.body[:500])
        return answer

    async def publish(self, data: bytes, name: str = "file.bin", who: str = ALICE, more: str = "") -> str:
        answer = await self.call("POST", f"/v1/objects?name={name}{more}", who=who, data=data)
        assert answer.status in (200, 201), answer.body
        return str(answer.json()["id"])

    async def device(self, number: int, *held: str, **changes: Any) -> HandDevice:
        return await HandDevice(self, number, **changes).connect(*held)

    async def round(self) -> None:
        await self.tasks.driver.round()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task brings about, at most 10 s."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        import json

        return json.loads(self.body)

    @property
    def problem(self) -> str:
        return str(self.json()["type"])


@asynccontextmanager
async def running(directory: Path, **parts: Any) -> AsyncIterator[Harness]:
    harness = Harness(directory, **parts)
    await harness.start()
    try:
        yield harness
    finally:
        await harness.close()


def run(directory: Path, script: Callable[[Harness], Awaitable[None]], **parts: Any) -> None:
    """Run a test's script against a fresh server."""

    async def whole() -> None:
        async with running(directory, **parts) as harness:
            await script(harness)

    asyncio.run(whole())


@asynccontextmanager
async def origin_server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A publisher's origin; gives its URL."""
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
