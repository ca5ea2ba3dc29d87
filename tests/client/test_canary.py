"""The canary: what a device brings is what the ledger hears."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from aiohttp import web
from fallow_client.canary import Found, fetch_one, manifest_of
from fallow_client.locations import Location
from fallow_client.scheduler import Scheduler
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet
from fallow_wire.manifest import ManifestBuilder
from support import key, make_ticket, signed_ticket

SCHEDULER, DEVICE = key(1), key(2)
CONTENT = random.Random(1).randbytes(2 * 2**20 + 5)
Answer = Callable[[web.Request, bytes], web.StreamResponse]


def chunk_of(request: web.Request) -> bytes:
    first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
    return CONTENT[int(first) : int(last) + 1]


def found_with(answer: Answer | None) -> Found | None:
    """The canary at a scheduler that sends it to a device which gives ``answer``; None: the origin serves."""
    builder = ManifestBuilder("text/plain")
    builder.feed(CONTENT)
    manifest = builder.finish()
    token = sign(Kind.MANIFEST, manifest, SCHEDULER)
    ticket = make_ticket(DEVICE)

    async def object_(request: web.Request) -> web.StreamResponse:
        if "ticket" in request.query:
            assert answer is not None
            return answer(request, chunk_of(request))
        if answer is None:
            return web.Response(body=CONTENT)
        target = f"{request.url.origin()}{request.url.path}?ticket={signed_ticket(ticket, SCHEDULER)}"
        return web.Response(status=302, headers={"Location": target})

    async def keys_(_: web.Request) -> web.StreamResponse:
        return web.json_response(encode(JwkSet((SCHEDULER.public.jwk(with_kid=True),))))

    async def manifest_(_: web.Request) -> web.StreamResponse:
        return web.Response(text=token, content_type="application/jwt")

    async def run() -> Found | None:
        application = web.Application()
        application.router.add_get("/.well-known/jwks.json", keys_)
        application.router.add_get("/v1/manifests/{id}", manifest_)
        application.router.add_get("/o/{id}/{name}", object_)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Scheduler(url) as scheduler:
                signed = await manifest_of(scheduler, manifest.object_id())
                return await fetch_one(scheduler, Location(url, manifest.object_id(), "f"), signed, random.Random(2))
        finally:
            await runner.cleanup()

    found = asyncio.run(run())
    if found is not None:
        assert (found.device, found.jti) == (ticket.aud, ticket.jti)
    return found


def test_a_right_chunk_agrees() -> None:
    found = found_with(lambda _, chunk: web.Response(status=206, body=chunk))
    assert found is not None
    assert found.agreed
    assert found.bytes in (2**20, 5)


def no_http(request: web.Request, _: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"no HTTP\r\n\r\n")
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _, chunk: web.Response(status=206, body=bytes(len(chunk))), ""),
        (lambda _, chunk: web.Response(status=206, body=chunk[:-1]), ""),
        (lambda _, chunk: web.Response(status=206, body=chunk + b"x"), "more bytes"),
        (lambda _, chunk: web.Response(status=404), "404"),
        (lambda _, chunk: web.Response(status=200, body=chunk), "200"),
        (no_http, "ClientResponseError"),
    ],
)
def test_anything_else_does_not(answer: Answer, reason: str) -> None:
    found = found_with(answer)
    assert found is not None
    assert (found.agreed, found.bytes) == (False, 0)
    assert found.reason
    assert reason in found.reason
    assert "127.0.0.1" not in found.reason, "the ledger keeps no address of a device"


@pytest.mark.parametrize("answer", [None, lambda *_: web.Response(status=503), lambda *_: web.Response(status=429)])
def test_the_origin_and_busy_devices_are_not_audited(answer: Answer | None) -> None:
    assert found_with(answer) is None
