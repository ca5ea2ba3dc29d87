"""The mDNS announcement, heard by a second responder on the loopback interface."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable

import pytest
from fallow_agent.lan.announce import SERVICE, Announcer, announcement
from fallow_agent.lan.guard import InterfaceAddress, Lan
from support import PATIENCE_S
from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

DEVICE_ID = "fd-aaaaaaaaaaaaaaaaaaaaq7zk"


def lan(*addresses: str) -> Lan:
    return Lan(tuple(InterfaceAddress("eth0", ipaddress.ip_address(a), 24) for a in addresses))


def test_what_is_announced() -> None:
    found = announcement(lan("192.168.1.2", "fe80::1", "fd00::1"), "active")
    assert found.addresses == ("192.168.1.2", "fd00::1")
    assert found == announcement(lan("fd00::1", "192.168.1.2"), "active")


class Listener:
    """Another device's responder: collects what it hears of the service."""

    def __init__(self) -> None:
        self.zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        self.changes: asyncio.Queue[ServiceStateChange] = asyncio.Queue()
        self.browser = AsyncServiceBrowser(self.zeroconf.zeroconf, SERVICE, handlers=[self.changed])

    def changed(self, zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name.startswith("fallow-q7zk"):
            self.changes.put_nowait(state_change)

    async def heard(self, wanted: ServiceStateChange) -> None:
        while await self.changes.get() is not wanted:
            pass

    async def info(self) -> tuple[dict[bytes, bytes | None], str | None, int | None]:
        found = await self.zeroconf.async_get_service_info(SERVICE, f"fallow-q7zk.{SERVICE}", 3000)
        assert found is not None
        return dict(found.properties), found.server, found.port

    async def close(self) -> None:
        await self.browser.async_cancel()
        await self.zeroconf.async_close()


def test_it_is_found_follows_the_state_and_says_goodbye() -> None:
    async def act() -> None:
        listener = Listener()
        announcer = Announcer(DEVICE_ID, 1234, lambda: lan("127.0.0.1"), "dormant")
        task = asyncio.ensure_future(announcer.run())
        try:
            await listener.heard(ServiceStateChange.Added)
            properties, server, port = await listener.info()
            assert properties == {b"v": b"1", b"id": DEVICE_ID.encode(), b"st": b"dormant"}
            assert (server, port) == ("fallow-q7zk.local.", 1234)
            announcer.set_state("active")
            await listener.heard(ServiceStateChange.Updated)
            assert (await listener.info())[0][b"st"] == b"active"
            task.cancel()
            await listener.heard(ServiceStateChange.Removed)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await listener.close()

    try:
        asyncio.run(asyncio.wait_for(act(), PATIENCE_S))
    except OSError as error:
        pytest.skip(f"no multicast here: {error}")


def test_a_network_without_multicast_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []
    enough = asyncio.Event()

    def refuse(**_: object) -> None:
        tries.append(1)
        if len(tries) == 3:
            enough.set()
        raise OSError("no multicast")

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", refuse)

    async def act() -> None:
        announcer = Announcer(DEVICE_ID, 1234, lambda: lan("192.0.2.1"), "dormant")
        task = asyncio.ensure_future(announcer.run())
        nudge: Callable[[str], None] = announcer.set_state
        while not enough.is_set():
            nudge("dormant")
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(act(), PATIENCE_S))
    assert len([record for record in caplog.records if "mDNS" in record.message]) == 1
