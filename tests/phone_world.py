"""A home with a dormant device, a whole server, and people who fetch files: what the phone app is tested with."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fallow_agent.app import Agent
from fallow_agent.config import Config, LanConfig, ProcessConfig
from fallow_agent.host.environment import ServiceConfig
from fallow_agent.lan.api import APP
from fallow_agent.life import ACTIVE
from fallow_agent.line.capacity import LineConfig
from fallow_agent.line.delay_probe import DelayProbe
from fallow_client.fetch import fetch
from fallow_client.locations import location_of
from fallow_client.part_file import PartFile
from server_world import ServerWorld, running_server

INDEX = APP / "index.html"
CODE = "AB01CD23"
PASSWORD = "a garden of bees"
POINT = 1_000_000
DEADLINE_S = 40.0
SETTLED_S = 120.0
"""A batch that was sent too early is sent again, after a minute at most."""
SERVER: dict[str, dict[str, Any]] = {
    "accounts": {"open_registration": True, "registrations_per_address_burst": 1000},
    "ledger": {"hold_s": 0},
    "policy": {"ticket_idle_s": 1},
    "dial_back": {"allow_private_addresses": True},
    "catalogue": {"allow_private_addresses": True},
    # All are one computer here: that it is busy must not look as if the device were.
    "tasks": {"filters": {"spare_percent_min": 0}},
    "delivery": {"filters": {"spare_percent_min": 0}},
}
DEVICE = Config(
    name="Attic router",
    model="Test box",
    lan=LanConfig(bind=("127.0.0.1",), port=0, setup_code=CODE, mdns=False),
    # An interface without traffic: the household is silent.
    line=LineConfig(up_mbps=100, down_mbps=400, interface="no-such-interface", position="router", ask_router=False),
    service=ServiceConfig(bind=("127.0.0.1",), port=0),
    process=ProcessConfig(spare_percent_min=0, temperature_c_max=0),
)


async def until(what: str, condition: Callable[[], Any]) -> None:
    """Wait for ``condition``, which something else brings about."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


class Home:
    """One device of a home, and the server that it may join."""

    def __init__(self, server: ServerWorld, agent: Agent, directory: Path) -> None:
        self.server = server
        self.agent = agent
        self._directory = directory
        self._files = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.agent.lan_port}/"

    async def reachable(self) -> None:
        """Until the scheduler sends people to the device."""
        fleet = self.server.scheduler.fleet
        await until("the device is active", lambda: self.agent.life.state == ACTIVE)
        await until("the device is reachable", lambda: any(one.service_urls for one in fleet.devices()))

    async def publish(self, size: int = 3_000_000) -> str:
        """A file of a publisher's who can pay for it, held by the device; gives its address."""
        call = self.server.call
        publisher = await self.server.account("publisher")
        await self.server.told()
        deposit = {"publisher": publisher["id"], "micro_points": 10_000 * POINT}
        key = {"Idempotency-Key": publisher["id"]}
        answer = await call("POST", "/v1/deposits", self.server.operator_token, ledger=True, json=deposit, headers=key)
        assert answer.status == 201, answer.body
        self._files += 1
        answer = await call(
            "POST",
            f"/v1/objects?name=file-{self._files}.bin&replicas=1",
            publisher["token"],
            data=os.urandom(size),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert answer.status == 201, answer.body
        object_id = answer.json["id"]
        fleet = self.server.scheduler.fleet
        await until("the device holds the file", lambda: any(object_id in one.content for one in fleet.devices()))
        return str(answer.json["url"])

    async def consume(self, url: str) -> int:
        """Somebody fetches the file and confirms every piece. Gives how many bytes came from the device."""
        target = self._directory / f"fetched-{os.urandom(4).hex()}"
        result = await fetch(location_of(url), lambda name: PartFile(target))
        return result.device_bytes

    async def settled(self) -> None:
        """Until the ledger has booked something for the owner."""
        access = self.agent._membership.ledger_access()
        assert access is not None
        path = f"/v1/accounts/{access.owner}/days"
        async with asyncio.timeout(SETTLED_S):
            while not (await self.server.call("GET", path, self.server.operator_token, ledger=True)).json:  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def offer(self, title: str, micro_points: int, **more: Any) -> str:
        body = {"title": title, "micro_points": micro_points, **more}
        answer = await self.server.call("POST", "/v1/rewards", self.server.operator_token, ledger=True, json=body)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])


async def _no_echoes(self: DelayProbe, *_: object) -> None:
    """A machine that is busy with a browser answers late, and that must not look like a full line."""
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def running_agent(directory: Path, **changes: Any) -> AsyncIterator[Agent]:
    with patch.object(DelayProbe, "run", _no_echoes):
        async with _running_agent(directory, **changes) as agent:
            yield agent


@contextlib.asynccontextmanager
async def _running_agent(directory: Path, **changes: Any) -> AsyncIterator[Agent]:
    agent = Agent(dataclasses.replace(DEVICE, state_dir=directory, **changes))
    running = asyncio.ensure_future(agent.run())
    await agent.listening.wait()
    try:
        yield agent
    finally:
        agent.stop()
        assert await running == 0


@contextlib.asynccontextmanager
async def home(directory: Path, **changes: Any) -> AsyncIterator[Home]:
    """:param changes: of the device's configuration."""
    (directory / "server").mkdir()
    async with running_server(directory / "server", **SERVER) as server:
        lan = changes.pop("lan", dataclasses.replace(DEVICE.lan, scheduler=server.url))
        async with running_agent(directory / "device", lan=lan, **changes) as agent:
            yield Home(server, agent, directory)
