"""The composed agent while active: the owner's word reaches the service port at once, and survives restarts."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from agent_world import SCHEDULER_KEY, Network
from edge_world import manifest_of, put, some_bytes
from fallow_agent.allowance import Used
from fallow_agent.app import Agent
from fallow_agent.config import Config, LanConfig, ProcessConfig
from fallow_agent.edge.content import ContentConfig, ContentStore
from fallow_agent.host.environment import ServiceConfig
from fallow_agent.life import ACTIVE, DORMANT, PAUSED
from fallow_agent.lifecycle import ActivationRequested, LeaveRequested, PauseRequested, ResumeRequested
from fallow_agent.line import HOUSEHOLD_SETTINGS
from fallow_agent.line.capacity import LineConfig
from fallow_agent.line.meter import Rates
from fallow_agent.online import WRITTEN_ENOUGH, Online
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet
from fallow_wire.lan import Hours, Limits
from fallow_wire.session import AgentAdvice, Policy, Source, Task
from support import PATIENCE_S, key, make_ticket, signed_ticket, stopwatch

MIB = 2**20
CONFIG = Config(
    name="box",
    model="test",
    lan=LanConfig(bind=("127.0.0.1",), port=0, mdns=False),
    # An interface without traffic: the household is silent.
    line=LineConfig(up_mbps=1000, interface="no-such-interface", position="router"),
    service=ServiceConfig(bind=("127.0.0.1",), port=0),
    # Other tests and a warm machine must not make it step back.
    process=ProcessConfig(spare_percent_min=0, temperature_c_max=0),
)
SMALL, LARGE = some_bytes(1000), some_bytes(8 * MIB, 1)


class World:
    def __init__(self, agent: Agent, network: Network, http: aiohttp.ClientSession, ids: dict[str, str]) -> None:
        self.agent = agent
        self.network = network
        self.http = http
        self.ids = ids

    @property
    def online(self) -> Online:
        online = self.agent._membership.online
        assert online is not None
        return online

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - the agent's own loops move it on
                await asyncio.sleep(0.01)

    async def activate(self) -> None:
        self.agent.request(ActivationRequested(self.network.url, "claim-token-1", "1", self.agent.now()))
        await self.until(lambda: self.agent.life.state == ACTIVE)

    async def serving(self) -> None:
        await self.until(lambda: self.agent._membership.online is not None)
        await self.until(lambda: self.online._service_port is not None)

    def url(self, name: str, scheduler_key: Any = SCHEDULER_KEY, **changes: Any) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + 600}
        ticket = make_ticket(self.agent._key, obj=self.ids[name], **{**times, **changes})
        token = signed_ticket(ticket, scheduler_key)
        return f"http://127.0.0.1:{self.online._service_port}/o/{ticket.obj}/{name}?ticket={token}"

    async def get(self, name: str, **changes: Any) -> tuple[int, str, str | None]:
        """Status, problem type and Retry-After."""
        async with self.http.get(self.url(name, **changes)) as response:
            if response.status != 200:
                return (
                    response.status,
                    (await response.json(content_type=None))["type"],
                    response.headers.get("Retry-After"),
                )
            await response.read()
            return 200, "", None


def script(tmp_path: Path, *acts: Callable[[World], Awaitable[None]], **changes: Any) -> None:
    """Run each act in an agent of its own on the same state: the next is the device after a restart."""
    config = dataclasses.replace(CONFIG, state_dir=tmp_path / "state", **changes)
    directory = tmp_path / "state" / "content"
    directory.mkdir(parents=True)
    store = ContentStore(directory, ContentConfig(), lambda: 10**12)
    ids = {"small": put(store, SMALL), "large": put(store, LARGE)}
    store.close()

    async def run() -> None:
        network = Network()
        await network.start()
        try:
            for act in acts:
                agent = Agent(config)
                running = asyncio.ensure_future(agent.run())
                await agent.listening.wait()
                try:
                    async with aiohttp.ClientSession() as http:
                        await act(World(agent, network, http, ids))
                finally:
                    agent.stop()
                    assert await running == 0
        finally:
            await network.close()

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE_S))


def test_a_pause_ends_a_transfer_within_a_second_and_resume_serves_again(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        world.agent.set_limits(Limits(upload_bps_max=8_000_000))
        async with world.http.get(world.url("large")) as response:
            await response.content.readexactly(100_000)
            async with stopwatch() as watch:
                assert world.agent.request(PauseRequested(world.agent.now(), 600)).state == PAUSED
                assert await world.get("small") == (503, "paused", "600")
                try:
                    await response.content.read()
                except aiohttp.ClientError:
                    pass  # cut short, which is what is wanted
            assert watch.seconds < 1
        assert world.online._service.sessions() == []
        world.agent.request(ResumeRequested())
        assert (await world.get("small"))[0] == 200

    script(tmp_path, act)


def test_limits_count_at_once(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        assert world.online._pacer.rate_bps == 800_000_000
        world.agent.set_limits(Limits(upload_percent_max=10))
        assert world.online._pacer.rate_bps == 100_000_000
        world.agent.set_limits(Limits(services={"object": False}))
        assert (await world.get("small"))[:2] == (503, "paused")
        assert world.online._report().services == ("fill", "live", "probe")
        world.agent.set_limits(Limits(connections_max=0))
        assert (await world.get("small"))[:2] == (429, "too-many")
        world.agent.set_limits(Limits(upload_bps_max=0))
        assert (await world.get("small"))[:2] == (503, "line-busy")
        world.agent.set_limits(Limits())
        assert (await world.get("small"))[0] == 200
        world.agent.set_limits(Limits(content_bytes_max=10_000))
        assert set(world.online.held()[0]) == {world.ids["small"]}

    script(tmp_path, act)


def test_outside_of_the_owners_hours_nobody_is_served(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        at = world.agent._controls.local_time()
        tomorrow = Hours(((at.weekday + 1) % 7,), 0, 1440)
        world.agent.set_limits(Limits(hours=(tomorrow,)))
        status, slug, retry_after = await world.get("small")
        assert (status, slug) == (503, "paused")
        assert retry_after is not None
        assert 0 < int(retry_after) <= 3600
        assert world.online._report().services == ()
        assert world.agent.life.state == ACTIVE

    script(tmp_path, act)


def test_the_months_bytes_are_counted_through_a_restart(tmp_path: Path) -> None:
    async def first(world: World) -> None:
        await world.activate()
        await world.serving()
        assert (await world.get("large"))[0] == 200
        world.agent.set_limits(Limits(monthly_bytes_max=len(LARGE)))
        await world.until(lambda: world.agent._controls.usage.month_bytes >= len(LARGE))
        assert (await world.get("small"))[:2] == (503, "line-busy")

    async def second(world: World) -> None:
        await world.serving()
        assert (await world.get("small"))[:2] == (503, "line-busy")
        assert len(LARGE) <= world.agent.status()["today"]["bytes_up"] < world.agent._controls.usage.month_bytes
        world.online._holdings.filler._wire_bytes += 5 * MIB  # what fills receive counts too
        before = world.agent._controls.usage.month_bytes
        await world.until(lambda: world.agent._controls.usage.month_bytes >= before + 5 * MIB)
        world.agent.set_limits(Limits(monthly_bytes_max=10 * len(LARGE)))
        assert (await world.get("small"))[0] == 200

    script(tmp_path, first, second)


def test_over_a_metered_line_nothing_is_shared(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        survey = world.online._survey
        survey.interface = "eth0"
        assert (await world.get("small"))[0] == 200
        world.agent.set_limits(Limits(upload_bps_max=8_000_000))
        async with world.http.get(world.url("large")) as response:
            await response.content.readexactly(100_000)
            survey.interface = "wwan0"
            await world.until(lambda: world.online._service.sessions() == [])
            assert await world.get("small") == (503, "paused", "300")
            assert world.online._report().services == ()
            assert world.online._sharing.download_bps() == 0
            assert world.agent.status()["refusal"]["type"] == "paused"
        survey.interface = None
        await world.until(lambda: world.agent._controls.refusal() is None)
        assert (await world.get("small"))[0] == 200
        assert world.agent.status()["refusal"] is None

    script(tmp_path, act)


def test_an_owner_may_share_a_mobile_line(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        world.online._survey.interface = "wwan0"
        assert (await world.get("small"))[0] == 200

    script(tmp_path, act, line=dataclasses.replace(CONFIG.line, metered=()))


def test_what_the_host_lacks_is_taken_off_the_budgets_and_the_owners_limit_wins(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        online, hot = world.online, ProcessConfig().temperature_c_max
        headroom = online._host._headroom
        headroom._temperature_c_max = hot
        online._host.read = lambda *_, **__: None  # type: ignore[method-assign]
        online._sharing.set_budget()
        up_bps, down_bps = online._sharing.budget_bps, online._sharing.download_bps()
        headroom.take(None, hot - 5)
        online._sharing.set_budget()
        assert (online._sharing.budget_bps, online._sharing.download_bps()) == (up_bps // 2, down_bps // 2)
        assert online._pacer.rate_bps == up_bps // 2
        world.agent.set_limits(Limits(upload_bps_max=1_000_000))
        assert online._sharing.budget_bps <= 1_000_000
        headroom.take(None, hot)
        online._sharing.set_budget()
        assert (online._sharing.budget_bps, online._sharing.download_bps()) == (0, 0)
        assert await world.get("small") == (503, "line-busy", "60")
        assert world.agent.status()["headroom_permille"] == 0

    script(tmp_path, act)


def test_the_scheduler_is_told_the_lesser_of_the_owners_and_the_tables_connections(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        world.online._host.read = lambda *_, **__: None  # type: ignore[method-assign]
        world.online._host.connections_max = 50
        assert world.online._report().connections_max == 50
        assert world.agent.status()["connections"] == {"open": 0, "max": 50, "refused_today": 0}
        world.agent.set_limits(Limits(connections_max=3))
        assert world.online._report().connections_max == 3
        world.online._host.connections_max = 0
        assert world.online._report().connections_max == 0
        assert world.agent.status()["connections"]["max"] == 0

    script(tmp_path, act)


def test_fills_wait_until_tomorrow_when_the_day_is_written_full_through_a_restart(tmp_path: Path) -> None:
    wanted = manifest_of(some_bytes(10))
    manifest = sign(Kind.MANIFEST, wanted.manifest, SCHEDULER_KEY)
    task = Task("t-1", "fill", wanted.object_id, manifest, (Source("http://127.0.0.1:9/o"),))

    def reasons(world: World) -> set[str | None]:
        return {status.reason for status in world.online.task_statuses()}

    async def first(world: World) -> None:
        await world.activate()
        await world.serving()
        assert world.agent.status()["flash"] == {"written_bytes_today": 0, "bytes_max": 5 * MIB}
        world.agent._controls.count(Used(written_bytes=6 * MIB))
        world.online.take_task(task)
        await world.until(lambda: reasons(world) == {WRITTEN_ENOUGH})
        assert (await world.get("small"))[0] == 200, "what is held is served"

    async def second(world: World) -> None:
        await world.serving()
        assert world.agent.status()["flash"]["written_bytes_today"] >= 6 * MIB
        world.online.take_task(task)
        await world.until(lambda: reasons(world) == {WRITTEN_ENOUGH})
        world.agent._clock.set_server_time(0)  # a clock that was lost gives no new day
        world.agent._controls.count(Used())
        assert world.agent.status()["flash"]["written_bytes_today"] >= 6 * MIB
        world.agent._clock.set_server_time(int(time.time()) + 2 * 86400)
        world.agent._controls.count(Used())
        await world.until(lambda: WRITTEN_ENOUGH not in reasons(world))
        assert world.online._runner._lanes["fill"]._allowed

    content = dataclasses.replace(CONFIG.content, write_bytes_per_day_max=5 * MIB)
    script(tmp_path, first, second, content=content)


def test_after_a_restart_tickets_are_good_without_the_scheduler(tmp_path: Path) -> None:
    rotated = key(21)
    keys = JwkSet((rotated.public.jwk(with_kid=True), SCHEDULER_KEY.public.jwk(with_kid=True)))

    async def first(world: World) -> None:
        await world.activate()
        await world.serving()
        assert (await world.get("small", scheduler_key=rotated))[:2] == (403, "bad-ticket")
        assert "update" not in world.agent.status()
        world.online.take_policy(Policy(keys, world.network.url, ticket_idle_s=7, agent=AgentAdvice("999.0")))
        assert (await world.get("small", scheduler_key=rotated))[0] == 200

    async def second(world: World) -> None:
        await world.network.close()
        await world.serving()
        for signer in (rotated, SCHEDULER_KEY):
            assert (await world.get("small", scheduler_key=signer))[0] == 200
        assert world.online._policy.policy.ticket_idle_s == 7
        status = world.agent.status()
        assert status["uplink"]["connected"] is False
        assert status["update"] == {"version": "999.0"}

    script(tmp_path, first, second)


def test_the_status_has_every_member_that_the_protocol_names(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        dormant = world.agent.status()
        assert dormant["state"] == DORMANT
        await world.activate()
        await world.serving()
        status = world.agent.status()
        for name in (
            *("state", "line", "budget_up_bps", "forecast_idle_up_bps", "disk", "processor", "environment"),
            *("sessions", "tasks", "content", "today", "uplink", "proofs", "headroom_permille", "flash", "connections"),
        ):
            assert name in status, name
        assert status["content"] == {"objects": 2, "bytes": len(SMALL) + len(LARGE)}
        assert len(status["forecast_idle_up_bps"]) == 24

    script(tmp_path, act)


def test_leaving_closes_the_port_forgets_content_and_keeps_the_chain(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        assert (await world.get("small"))[0] == 200
        url = world.url("small")
        world.agent.request(LeaveRequested(world.agent.now()))
        await world.until(lambda: world.agent.life.state == DORMANT)
        batch = await world.network.batches.get()
        assert (batch.seq, len(batch.items), batch.items[0].bytes) == (1, 1, len(SMALL))
        try:
            async with world.http.get(url):
                raise AssertionError("the service port is still open")
        except aiohttp.ClientConnectorError:
            pass  # closed, which is what is wanted
        assert not (tmp_path / "state" / "content").exists()
        assert world.agent._membership._http is None
        assert [world.agent._settings.get(name) for name in HOUSEHOLD_SETTINGS] == [None] * 3
        # Another owner, the same device: its chain of batches goes on.
        await world.activate()
        await world.serving()
        assert world.online.held()[0] == []

    script(tmp_path, act)


def test_a_taken_service_port_costs_the_service_not_the_agent(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.until(lambda: world.agent._membership.online is not None)
        await asyncio.sleep(0)
        assert world.online._service_port is None
        assert world.online._report().environment.service_ports == ()
        assert world.agent.request(PauseRequested(world.agent.now())).state == PAUSED

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        script(tmp_path, act, service=ServiceConfig(bind=("127.0.0.1",), port=port))


def test_the_line_is_followed_closely_while_somebody_is_served_and_yields_are_counted(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.activate()
        await world.serving()
        online = world.online
        household = [0]
        online._sharing._reader.household.meter.read = lambda now: Rates(household[0], 0)  # type: ignore[method-assign]
        world.agent.set_limits(Limits(upload_bps_max=8_000_000))
        async with world.http.get(world.url("large")) as response:
            await response.content.readexactly(100_000)
            steps = online._sharing._reader.up.stepped_at
            await world.until(lambda: online._sharing._reader.up.stepped_at > steps)
            household[0] = 10**9
            async with stopwatch() as watch:
                await world.until(lambda: online._pacer.rate_bps == 0)
            assert watch.seconds < 0.5
            assert world.agent.status()["today"]["yields"] == 1
            await world.until(lambda: world.agent.status()["last_yield_ms"] is not None)
            assert world.agent.status()["last_yield_ms"] > 0
            assert (await world.get("small"))[:2] == (503, "line-busy")

    script(tmp_path, act)
