"""Other devices of a home: which announcements count, and finding a real one on the loopback interface."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import Any

import pytest
from fallow_agent.lan.announce import SERVICE, Announcer
from fallow_agent.lan.guard import InterfaceAddress, Lan
from fallow_agent.lan.neighbours import Neighbours, neighbour_of
from support import PATIENCE_S
from zeroconf.asyncio import AsyncServiceInfo

OWN = "fd-aaaaaaaaaaaaaaaaaaaaown7"
OTHER = "fd-aaaaaaaaaaaaaaaaaaaaq7zk"


def lan(address: str, prefix: int = 24) -> Lan:
    return Lan((InterfaceAddress("eth0", ipaddress.ip_address(address), prefix),))


def announced(address: str = "192.168.1.3", port: int = 32556, **properties: Any) -> AsyncServiceInfo:
    told = {"v": "1", "id": OTHER, "st": "active", **properties}
    packed = [ipaddress.ip_address(address).packed]
    return AsyncServiceInfo(
        SERVICE, f"x.{SERVICE}", port=port, addresses=packed, properties=told, server="fallow-q7zk.local."
    )


def test_a_device_of_the_same_subnet_counts() -> None:
    found = neighbour_of(announced(), OWN, lan("192.168.1.2"))
    assert found is not None
    assert (found.url, found.name, found.state) == ("http://192.168.1.3:32556/", "fallow-q7zk.local", "active")


@pytest.mark.parametrize(
    "info",
    [
        announced(id=OWN),
        announced("203.0.113.5"),
        announced("192.168.2.3"),
        announced(port=0),
        announced(v="2"),
        announced(st="<b>"),
        announced(id="x" * 65),
        announced(id=""),
    ],
)
def test_what_is_no_neighbour_is_left_out(info: AsyncServiceInfo) -> None:
    assert neighbour_of(info, OWN, lan("192.168.1.2")) is None


def test_a_real_announcement_is_found_once_and_kept_for_a_while() -> None:
    async def act() -> None:
        announcer = Announcer(OTHER, 1234, lambda: lan("127.0.0.1", 8), "dormant")
        task = asyncio.ensure_future(announcer.run())
        now = time.monotonic()
        neighbours = Neighbours(OWN, lambda: lan("127.0.0.1", 8), lambda: now)
        try:
            first, second = await asyncio.gather(neighbours.find(), neighbours.find())
            assert first is second
            assert [(one.device_id, one.url) for one in first if one.device_id == OTHER] == [
                (OTHER, "http://127.0.0.1:1234/")
            ]
            assert await neighbours.find() is first
            now += 60
            assert await neighbours.find() is not first
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(act(), PATIENCE_S))
