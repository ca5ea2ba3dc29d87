"""The SDK's calls against servers that answer as the wire says, and as it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from fallow_client.errors import ApiError, BadAnswer, Unreachable
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fallow_client.transport import Config
from fallow_wire.batches import Head
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet, PrivateKey
from fallow_wire.tariff import LegacyCaps, Tariff
from support import NOW, key

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TARIFF = Tariff(1, NOW, {"object": 10**6}, {"countersigned": 1000}, LegacyCaps(1, 1))


@asynccontextmanager
async def serving(routes: dict[str, Handler]) -> AsyncIterator[str]:
    application = web.Application()
    for path, handler in routes.items():
        application.router.add_route("*", path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answers(value: object) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(text=value) if isinstance(value, str) else web.json_response(value)

    return handle


def jwks(signer: PrivateKey) -> Handler:
    return answers(encode(JwkSet((signer.public.jwk(with_kid=True),))))


def ledger_routes(signer: PrivateKey, published: PrivateKey) -> dict[str, Handler]:
    tariff = {"id": TARIFF.tariff_id(), "tariff": sign(Kind.TARIFF, TARIFF, signer)}
    return {
        "/.well-known/jwks.json": jwks(published),
        "/v1/tariffs/{id}": answers(tariff),
        "/v1/head": answers(sign(Kind.HEAD, Head(3, "a" * 64, NOW), signer)),
    }


def test_signed_documents_are_verified() -> None:
    async def scenario() -> None:
        async with serving(ledger_routes(key(1), key(1))) as url, Ledger(url) as ledger:
            assert await ledger.tariff() == (TARIFF.tariff_id(), TARIFF)
            assert (await ledger.head()).entries == 3

    asyncio.run(scenario())


def test_documents_of_another_key_are_refused() -> None:
    async def scenario() -> None:
        async with serving(ledger_routes(key(2), key(1))) as url, Ledger(url) as ledger:
            with pytest.raises(BadAnswer):
                await ledger.tariff()
            with pytest.raises(BadAnswer):
                await ledger.head()

    asyncio.run(scenario())


def test_another_tariff_than_asked_for_is_refused() -> None:
    async def scenario() -> None:
        async with serving(ledger_routes(key(1), key(1))) as url, Ledger(url) as ledger:
            with pytest.raises(BadAnswer):
                await ledger.tariff("f" * 64)

    asyncio.run(scenario())


def test_events_come_as_they_are_sent_and_end_with_the_device() -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer lan"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(
            b': hello\n\ndata: {"state":\ndata: "active"}\n\nevent: x\r\ndata: {"state": "paused"}\r\n\r\n'
        )
        return response

    async def scenario() -> None:
        async with serving({"/v1/events": events}) as url, LanDevice(url, "lan") as device:
            assert [event["state"] async for event in device.events()] == ["active", "paused"]

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"data: {\n\n", b"data: " + b"[" * 2_000_000 + b"\n\n"])
def test_odd_events_are_refused(body: bytes) -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="text/event-stream")

    async def scenario() -> None:
        async with serving({"/v1/events": events}) as url, LanDevice(url) as device:
            with pytest.raises(BadAnswer):
                async for _ in device.events():
                    pass

    asyncio.run(scenario())


def test_events_without_permission() -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        return web.json_response({"type": "unauthorised", "title": "No"}, status=401)

    async def scenario() -> None:
        async with serving({"/v1/events": events}) as url, LanDevice(url) as device:
            with pytest.raises(ApiError) as refused:
                async for _ in device.events():
                    pass
            assert refused.value.problem.type == "unauthorised"

    asyncio.run(scenario())


def test_a_silent_server_is_given_up() -> None:
    released = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async def scenario() -> None:
        async with serving({"/v1/health": silent}) as url:
            async with Scheduler(url, config=Config(answer_s=0.05)) as scheduler:
                with pytest.raises(Unreachable, match="too long"):
                    await scheduler.health()
            released.set()

    asyncio.run(scenario())


def test_an_endless_answer_is_cut() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 4096)

    async def scenario() -> None:
        async with (
            serving({"/v1/health": endless}) as url,
            Scheduler(url, config=Config(answer_bytes_max=100_000)) as scheduler,
        ):
            with pytest.raises(BadAnswer, match="more than 100000"):
                await scheduler.health()

    asyncio.run(scenario())


def test_names_with_slashes_stay_one_part_of_the_path() -> None:
    asked = []

    async def remember(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.raw_path))
        return web.Response(status=204)

    async def scenario() -> None:
        async with serving({"/{any:.*}": remember}) as url, Scheduler(url) as scheduler:
            await scheduler.delete_site("../objects/a?b")

    asyncio.run(scenario())
    assert asked == [("DELETE", "/v1/sites/..%2Fobjects%2Fa%3Fb")]
