"""The scheduler hears of both of a device's addresses, whichever its session uses."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from fallow_agent.uplink import other_family as module
from fallow_agent.uplink.other_family import OtherFamily, is_literal, other_family
from fallow_wire.session import Reachability
from support import PATIENCE_S

BOTH = {"ipv4": "192.168.1.5", "ipv6": "2a0e::5"}


def seen(*addresses: str) -> Reachability:
    return Reachability(addresses, "blocked", "unknown")


def test_the_other_family_is_the_one_that_the_session_does_not_use() -> None:
    assert other_family(None, BOTH) is None
    assert other_family(seen("11.22.33.44"), BOTH) == "ipv6"
    assert other_family(seen("2a0e::5"), BOTH) == "ipv4"
    assert other_family(seen("2a0e::5", "11.22.33.44"), BOTH) == "ipv4", "again, before it is forgotten"
    assert other_family(seen("11.22.33.44"), {"ipv4": "192.168.1.5"}) is None


@pytest.mark.parametrize(
    ("url", "literal"),
    [("http://11.22.33.1:32550", True), ("http://[2a0e::1]/", True), ("https://fallow.example.net", False)],
)
def test_an_address_has_no_other_family(url: str, literal: bool) -> None:
    assert is_literal(url) is literal


def test_the_scheduler_is_called_once_by_ipv4_and_again_in_a_new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOON_S", 0.0)

    async def run() -> None:
        calls: asyncio.Queue[tuple[str | None, str | None]] = asyncio.Queue()

        async def address(request: web.Request) -> web.Response:
            calls.put_nowait((request.remote, request.headers.get("Authorization")))
            return web.Response(status=409)  # what it answers changes nothing

        application = web.Application()
        application.router.add_post("/v1/session/address", address)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://localhost:{runner.addresses[0][1]}/"
        other = OtherFamily(url, "ledger-token", lambda: BOTH, {"User-Agent": "x"})
        running = asyncio.create_task(other.run())
        try:
            other.take(seen("2a0e::5"))
            assert await calls.get() == ("127.0.0.1", "Bearer ledger-token")
            other.take(seen("2a0e::5", "11.22.33.44"))
            other.take(seen("11.22.33.44"))  # by IPv6 nobody answers here, which ends nothing
            other.take(seen("2a0e::5"))
            assert await calls.get() == ("127.0.0.1", "Bearer ledger-token")
            assert calls.empty()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
