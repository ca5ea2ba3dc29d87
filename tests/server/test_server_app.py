"""The whole server: roles, start, stop, what it refuses to start with."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import aiohttp
import pytest
from fallow_server.accounts.accounts import IssuedAccount, NewAccount
from fallow_server.app import ServerApp
from fallow_server.config import HttpConfig
from fallow_server.listening import bind
from fallow_server.own_urls import default_url, host_names
from fallow_server.state import StateDirectory
from fallow_wire.errors import LocalError
from server_world import configuration, initialise, running_server
from support import key


def test_first_page_health_and_keys(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            page = await world.call("GET", "/")
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert "Fallow 服务器" in page.body.decode()
            for ledger in (False, True):
                health = await world.call("GET", "/v1/health", ledger=ledger)
                assert health.status == 200
                assert health.json["status"] == "ok"
                keys = await world.call("GET", "/.well-known/jwks.json", ledger=ledger)
                assert len(keys.json["keys"]) == 1

    asyncio.run(run())


def test_scheduler_and_ledger_apart(tmp_path: Path) -> None:
    """Two state directories, two servers, one link token."""

    async def run() -> None:
        ledger_config = configuration(tmp_path / "ledger", own={"role": "ledger"})
        ledger_state = StateDirectory(ledger_config)
        ledger_state.create()
        assert not ledger_state.scheduler_keys.exists()
        ledger = ServerApp(ledger_config)
        await ledger.start()
        assert ledger.scheduler is None

        config = configuration(
            tmp_path / "scheduler", own={"role": "scheduler"}, http={"ledger_url": ledger.ledger_url}
        )
        (tmp_path / "scheduler").mkdir(mode=0o700)
        (tmp_path / "scheduler" / "link.token").write_text(ledger_state.link_token())
        operator_token = await initialise(config)
        scheduler = ServerApp(config)
        await scheduler.start()
        assert scheduler.ledger is None
        assert scheduler.scheduler is not None
        assert scheduler.scheduler.policy().ledger == ledger.ledger_url
        await scheduler.scheduler.link.deliver()
        async with aiohttp.ClientSession() as http:
            url = f"{ledger.ledger_url}/v1/reconciliation"
            response = await http.get(url, headers={"Authorization": f"Bearer {operator_token}"})
            assert response.status == 200

            await ledger.close()
            created = await http.post(
                f"{scheduler.scheduler_url}/v1/accounts",
                headers={"Authorization": f"Bearer {operator_token}"},
                json={"role": "owner", "name": "made while the ledger is away"},
            )
            assert created.status == 201
        await scheduler.close()

    asyncio.run(run())


def test_what_a_server_does_not_start_with(tmp_path: Path) -> None:
    def refused(path: Path, **sections: dict[str, object]) -> str:
        app = ServerApp(configuration(path, **sections))
        with pytest.raises(LocalError) as caught:
            asyncio.run(app.start())
        return caught.value.detail

    assert "fallow-server init" in refused(tmp_path / "none")
    asyncio.run(initialise(configuration(tmp_path / "a")))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in refused(tmp_path / "a", http={"scheduler_port": port})
    assert "192.0.2.1" in refused(tmp_path / "a", http={"host": "192.0.2.1"})
    assert "database" in refused(tmp_path / "a", database={"scheduler": "sqlite+aiosqlite:////nowhere/x"})
    assert "database" in refused(tmp_path / "a", database={"ledger": "nonsense"})
    (tmp_path / "a" / "scheduler.keys").write_text("{}")
    assert "scheduler.keys" in refused(tmp_path / "a")
    (tmp_path / "a" / "scheduler.keys").write_text('{"seed": "AAAA", "retired": []}')
    assert "scheduler.keys" in refused(tmp_path / "a")
    (tmp_path / "a" / "link.token").write_text("short")
    assert "link.token" in refused(tmp_path / "a")
    (tmp_path / "b").mkdir()
    asyncio.run(initialise(configuration(tmp_path / "b")))
    (tmp_path / "b" / "scheduler.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 50)
    assert "database" in refused(tmp_path / "b")


def test_nothing_is_left_open_when_the_start_fails(tmp_path: Path) -> None:
    config = configuration(tmp_path, database={"scheduler": "sqlite+aiosqlite:////nowhere/x"})
    StateDirectory(config).create()
    app = ServerApp(config)
    with pytest.raises(LocalError):
        asyncio.run(app.start())
    for port in (app.scheduler_port, app.ledger_port):
        assert port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_secrets_are_for_this_user_alone(tmp_path: Path) -> None:
    state = StateDirectory(configuration(tmp_path / "s"))
    made = state.create()
    assert {path.name for path in made} == {"scheduler.keys", "ledger.keys", "link.token"}
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    before = {path: path.read_bytes() for path in made}
    assert state.create() == []
    assert {path: path.read_bytes() for path in made} == before
    state.path.chmod(0o755)
    with pytest.raises(LocalError, match="chmod 700"):
        state.create()


def test_a_rotated_key_keeps_what_the_old_one_signed_valid(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            keys = world.scheduler.keys
            old = keys.current.public.thumbprint()
            device = await world.new_device(key(1), (await world.account("owner"))["token"])
            keys.rotate()
            await world.scheduler.link.note_scheduler()
            await world.scheduler.sessions.announce_policy()
            policy = await device.receive()
            assert [jwk.kid for jwk in policy.jwks.keys] == [keys.current.public.thumbprint(), old]  # type: ignore[union-attr]
            operator_token = world.operator_token
            await world.told()
        async with running_server(tmp_path, operator_token=operator_token) as world:
            assert set(world.scheduler.keys.public_keys()) == {keys.current.public.thumbprint(), old}

    asyncio.run(run())


def test_stopping_lets_a_request_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            entered, go_on = asyncio.Event(), asyncio.Event()
            create = world.scheduler.accounts.create

            async def slow(new: NewAccount) -> IssuedAccount:
                entered.set()
                await go_on.wait()
                return await create(new)

            monkeypatch.setattr(world.scheduler.accounts, "create", slow)
            request = asyncio.create_task(world.account("owner"), name="request")
            await entered.wait()
            closing = asyncio.create_task(world.app.close(), name="close")
            await asyncio.sleep(0)
            go_on.set()
            assert (await request)["token"].startswith("fo_")
            await closing
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", world.app.scheduler_port)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://fallow.example", ("fallow.example", "fallow.example:443")),
        ("http://fallow.example:32550", ("fallow.example:32550",)),
        ("http://[2001:db8::1]", ("[2001:db8::1]", "[2001:db8::1]:80")),
        ("http://192.0.2.1:8080", ("192.0.2.1:8080",)),
    ],
)
def test_names_of_an_address(url: str, names: tuple[str, ...]) -> None:
    assert host_names(url) == names


def test_all_addresses_share_one_port() -> None:
    sockets = bind("", 0)
    try:
        assert len({found.getsockname()[1] for found in sockets}) == 1
        assert default_url(HttpConfig(host="::1"), 5) == "http://[::1]:5"
        assert default_url(HttpConfig(host="h.example"), 5) == "http://h.example:5"
        assert default_url(HttpConfig(), 5).endswith(":5")
    finally:
        for found in sockets:
            found.close()
