"""The composed agent in this process: what it opens, how it stops, what it refuses to start with."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_agent.app import Agent, StateDirInUse
from fallow_agent.config import Config, LanConfig
from fallow_agent.identity import KEY_FILE, IdentityError
from fallow_agent.life import DORMANT, Life
from fallow_agent.lifecycle import PauseRequested, RequestRefused
from fallow_agent.store import DATABASE_FILE, Settings, StoreError, open_database
from fallow_wire.errors import LocalError
from fallow_wire.lan import Limits

CONFIG = Config(name="box", model="test", lan=LanConfig(bind=("127.0.0.1",), port=0, mdns=False, setup_code="AB01CD11"))


def config_in(state_dir: Path) -> Config:
    return dataclasses.replace(CONFIG, state_dir=state_dir)


def script(state_dir: Path, act: Callable[[Agent, aiohttp.ClientSession, str], Awaitable[None]]) -> int:
    """Run ``act`` against a running agent; gives the agent's exit status."""

    async def run() -> int:
        agent = Agent(config_in(state_dir))
        running = asyncio.ensure_future(agent.run())
        await agent.listening.wait()
        try:
            async with aiohttp.ClientSession() as http:
                await act(agent, http, f"http://127.0.0.1:{agent.lan_port}")
        finally:
            agent.stop()
        return await running

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_a_fresh_agent_is_dormant_and_has_no_client(tmp_path: Path) -> None:
    async def act(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(f"{url}/v1/device") as response:
            device = await response.json()
        assert device["state"] == DORMANT
        assert (device["name"], device["model"]) == ("box", "test")
        assert agent._membership._http is None
        assert agent._membership.online is None
        with pytest.raises(RequestRefused):
            agent.request(PauseRequested(agent.now()))

    assert script(tmp_path, act) == 0


def test_identity_limits_and_code_survive_a_restart(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []

    async def first(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        found.append(agent.description())
        agent.set_limits(Limits(upload_percent_max=7))

    async def second(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        found.append(agent.description())
        assert agent.limits.upload_percent_max == 7

    assert script(tmp_path, first) == 0
    assert script(tmp_path, second) == 0
    assert found[0] == found[1]
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_lost_database_costs_the_activation_not_the_identity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids: list[str] = []

    async def act(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        ids.append(agent.description()["device_id"])
        assert agent.life == Life()

    script(tmp_path, act)
    for file in tmp_path.glob(DATABASE_FILE + "*"):
        file.unlink()
    (tmp_path / DATABASE_FILE).write_bytes(b"not a database at all" * 500)
    script(tmp_path, act)
    assert ids[0] == ids[1]
    assert "corrupt" in caplog.text
    assert list(tmp_path.glob(DATABASE_FILE + ".corrupt-*"))


def test_a_damaged_life_is_dormant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    connection = open_database(tmp_path / DATABASE_FILE)
    Settings(connection).set("life", {"state": "active", "enrolled": 5})
    Settings(connection).set("limits", [1])
    connection.close()

    async def act(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        assert agent.life.state == DORMANT
        assert agent.limits == Limits()

    assert script(tmp_path, act) == 0
    assert "cannot be read" in caplog.text


def test_a_damaged_key_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("half a key")
    with pytest.raises(IdentityError, match="restore it"):
        Agent(config_in(tmp_path))
    assert (tmp_path / KEY_FILE).read_text() == "half a key"


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    connection = open_database(tmp_path / DATABASE_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer"):
        Agent(config_in(tmp_path))


def test_the_command_line_may_open_a_new_database_together_with_the_agent(tmp_path: Path) -> None:
    def open_it(path: Path, together: threading.Barrier) -> None:
        together.wait()
        open_database(path).close()

    for number in range(10):
        path, together = tmp_path / str(number) / DATABASE_FILE, threading.Barrier(4)
        path.parent.mkdir()
        with ThreadPoolExecutor(4) as pool:
            for opened in [pool.submit(open_it, path, together) for _ in range(4)]:
                opened.result()


def test_one_agent_a_state_directory(tmp_path: Path) -> None:
    async def act(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises(StateDirInUse):
            Agent(config_in(tmp_path))

    assert script(tmp_path, act) == 0
    assert script(tmp_path, act) == 0


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = dataclasses.replace(config_in(tmp_path), lan=dataclasses.replace(CONFIG.lan, port=port))
        with pytest.raises(LocalError, match="port M"):
            await Agent(config).run()
        server.close()

    asyncio.run(run())


def test_a_failing_loop_ends_the_agent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise RuntimeError("broken on purpose")

    async def act(agent: Agent, http: aiohttp.ClientSession, url: str) -> None:
        agent._tasks.start("broken", broken())
        await agent._tasks.failure()

    assert script(tmp_path, act) == 1
    assert "broken on purpose" in caplog.text


def test_a_full_disk_costs_what_is_learnt_anew_and_not_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = open_database(tmp_path / DATABASE_FILE)
    settings = Settings(connection)
    assert settings.keep("usage", 1)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = "x" * 100_000
    assert not settings.keep("forecast", large)
    assert not settings.keep("forecast", large)
    assert caplog.text.count("cannot be written down") == 1
    assert settings.get("usage") == 1
    connection.execute(f"PRAGMA max_page_count = {pages + 100}")
    assert settings.keep("forecast", large)
    assert settings.get("forecast") == large
