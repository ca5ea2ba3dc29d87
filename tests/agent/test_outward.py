"""A scheduler must not send the device into its owner's home, by whatever spelling of an address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fallow_agent.app import Agent
from fallow_agent.config import Config
from fallow_agent.lan.guard import InterfaceAddress
from fallow_agent.outward import AddressRefused, Outward, is_private
from fallow_wire.addresses import is_public
from yarl import URL

HOME = (
    InterfaceAddress("eth0", ipaddress.ip_address("192.168.1.2"), 24),
    InterfaceAddress("eth0", ipaddress.ip_address("2a02:8071:1:2::7"), 64),
    InterfaceAddress("wan", ipaddress.ip_address("93.184.216.34"), 20),
)
PRIVATE = (
    "127.0.0.1",
    "192.168.1.1",
    "10.0.0.1",
    "169.254.1.1",
    "100.64.0.1",
    "224.0.0.1",
    "0.0.0.0",
    "240.0.0.1",
    "::1",
    "fe80::1%eth0",
    "fd00::1",
    "fec0::1",
    "::ffff:192.168.1.1",
    "::192.168.1.1",
    "64:ff9b::192.168.1.1",
    "2002:c0a8:101::1",
    "nonsense",
)


def test_private_addresses_and_what_carries_them_are_not_public() -> None:
    for address in PRIVATE:
        assert not is_public(address), address
    for address in ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::93.184.216.34", "::ffff:93.184.216.34"):
        assert is_public(address), address


def test_the_devices_own_addresses_and_its_neighbours_on_ipv6_are_the_home() -> None:
    outward = Outward(lambda: HOME)
    for inside in ("2a02:8071:1:2::7", "2a02:8071:1:2::1", "93.184.216.34", "::ffff:93.184.216.34"):
        assert not outward.may_connect(inside), inside
    for outside in ("2a02:8071:1:3::1", "93.184.216.35", "1.1.1.1"):
        assert outward.may_connect(outside), outside


def test_private_hosts_are_known_by_what_is_written() -> None:
    for url in ("http://127.0.0.1:1", "http://[fd00::1]", "http://nas:1", "http://a.lan", "http://localhost."):
        assert is_private(url), url
    for url in ("https://fallow.example", "http://1.1.1.1", "http://lan.example.org"):
        assert not is_private(url), url


@asynccontextmanager
async def neighbour() -> AsyncIterator[tuple[int, list[str]]]:
    """A machine at home that should hear nothing."""
    heard: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response(text="admin")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], heard
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "127.1", "0177.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "１２７.1"]
)
def test_no_spelling_reaches_the_neighbour(host: str) -> None:
    async def run() -> None:
        async with neighbour() as (port, heard), Outward().session() as http:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await http.get(URL(f"http://{host}:{port}/reboot", encoded=True))
            assert not heard

    asyncio.run(run())


def test_literals_are_refused_before_aiohttp_looks_at_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its versions differ in what they take for a literal, and a literal passes by the resolver."""

    async def run() -> None:
        async with Outward().session() as http:
            for host in ("2130706433", "127.1", "0177.0.0.1"):
                with pytest.raises(AddressRefused):
                    await http.get(URL(f"http://{host}:1/", encoded=True))

    asyncio.run(run())


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: Any, *more: Any, **named: Any) -> list[Any]:
        if host != "rebinding.example":
            return real(host, port, *more, **named)
        asked.append(host)
        address = "192.0.2.1" if len(asked) > 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)

    async def run() -> None:
        async with neighbour() as (port, heard), Outward().session() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"http://rebinding.example:{port}/")
            assert not heard
            assert len(asked) == 1

    asyncio.run(run())


def test_the_ledger_is_called_past_no_guard_unless_the_scheduler_is_private(tmp_path: Path) -> None:
    """The ledger's address comes from the scheduler, whom a device obeys in nothing that concerns the home."""

    async def reached(scheduler: str) -> bool:
        async with neighbour() as (port, heard):
            app = Agent(replace(Config(), state_dir=tmp_path / str(port)))
            membership = app._membership
            membership._life = lambda: replace(app.life, scheduler=scheduler)
            try:
                await membership.ledger_http.post(f"http://127.0.0.1:{port}/v1/proofs")
            except aiohttp.ClientError:
                pass
            await app.close()
            return bool(heard)

    assert not asyncio.run(reached("https://fallow.example"))
    assert asyncio.run(reached("http://127.0.0.1:32550"))
