"""The door: what arrives, however odd, is answered with a problem or cut off, and never with a traceback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from fallow_server.http import Api, Principal, Role, caller_address, json_response, read_body, record_body
from fallow_wire.fields import decode
from fallow_wire.session import Cancel
from server_world import Answer, running_server
from support import PATIENCE_S


class Tokens:
    """Knows two tokens; counts how often it is asked."""

    asked = 0

    async def principal_of(self, token: str) -> Principal | None:
        self.asked += 1
        return {"owner": Principal("own-1", Role.OWNER), "operator": Principal("opr-1", Role.OPERATOR)}.get(token)


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[int]:
    runner = web.AppRunner(api.application, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def exchange(port: int, request: bytes, until: bytes | None = None) -> bytes:
    """Send bytes; give what comes back until the other side closes or, with ``until``, that has come.

    Without ``until`` silence ends it too, for many odd requests leave the server waiting for the rest.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(request)
        await writer.drain()
        while until is None or until not in answer:
            piece = await asyncio.wait_for(reader.read(65536), 0.1 if until is None else PATIENCE_S)
            if not piece:
                break
            answer += piece
    except (ConnectionError, TimeoutError):
        pass
    writer.transport.abort()
    return answer


def test_no_answer_names_its_server() -> None:
    """A proxy adds its own, and two are one too many for some devices; the upgrade of a session is an answer, too."""

    async def plain(request: web.Request) -> web.Response:
        return web.Response()

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        return socket

    async def work() -> None:
        api = Api(Tokens())
        api.add("GET", "/plain", plain, Role.ANYONE)
        api.add("GET", "/session", session, Role.ANYONE)
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        async with served(api) as port:
            for path, more, status in (
                (b"/plain", b"", b"200"),
                (b"/session", upgrade + b"A" * 22 + b"==\r\n", b"101"),
            ):
                request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n"
                answer = await exchange(port, request, b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 " + status)
                assert b"\r\nserver:" not in answer.lower()

    asyncio.run(work())


def test_routes_must_say_who_may_call() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    api = Api(Tokens())
    with pytest.raises(AssertionError):
        api.add("GET", "/", handler)
    with pytest.raises(AssertionError):
        api.add("GET", "/", handler, Role.ANYONE, Role.OWNER)
    api.add("GET", "/", handler, Role.OWNER)
    with pytest.raises(AssertionError):
        api.add("GET", "/", handler, Role.OPERATOR)


def test_a_route_that_was_added_past_the_door_is_closed() -> None:
    async def handler(request: web.Request) -> web.Response:
        raise AssertionError("called")

    async def run() -> None:
        api = Api(Tokens())
        api.application.router.add_get("/back", handler)
        async with served(api) as port, aiohttp.ClientSession() as http:
            response = await http.get(f"http://127.0.0.1:{port}/back", headers={"Authorization": "Bearer operator"})
            assert response.status == 403

    asyncio.run(run())


def test_errors_are_problems_and_say_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: web.Request) -> web.Response:
        raise ValueError("secret detail")

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x" * 50)
        raise ValueError("secret detail")

    async def malformed(request: web.Request) -> web.Response:
        decode(Cancel, {"id": 5}, strict=True)
        raise AssertionError

    async def run() -> None:
        api = Api(Tokens())
        for path, handler in (("/broken", broken), ("/half", half), ("/malformed", malformed)):
            api.add("GET", path, handler, Role.ANYONE)
        async with served(api) as port, aiohttp.ClientSession() as http:
            for path, status, slug in (
                ("/broken", 500, "internal"),
                ("/malformed", 400, "malformed"),
                ("/nowhere", 404, "not-found"),
                ("/%00", 400, "malformed"),
                ("/%ff%fe", 404, "not-found"),
            ):
                async with http.get(f"http://127.0.0.1:{port}{path}") as response:
                    answer = Answer(response.status, response.headers, await response.read())
                assert (answer.status, answer.slug) == (status, slug)
                assert b"secret" not in answer.body
                assert answer.json["fault"] == ("here" if status == 500 else "caller")
            async with http.post(f"http://127.0.0.1:{port}/broken") as response:
                answer = Answer(response.status, response.headers, await response.read())
            assert (answer.status, answer.slug, answer.headers["Allow"]) == (405, "method-not-allowed", "GET")
            raw = await exchange(port, b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n", b"never")
            assert b"problem" not in raw, "a second answer must not follow half of the first"

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert sum("failed" in record.message for record in caplog.records) == 2


def test_bodies_are_bounded_however_they_come() -> None:
    async def echo(request: web.Request) -> web.Response:
        return json_response({"length": len(await read_body(request))})

    async def parse(request: web.Request) -> web.Response:
        return json_response(await record_body(request, Cancel))

    async def run() -> None:
        api = Api(Tokens())
        api.add("POST", "/echo", echo, Role.ANYONE, body_bytes_max=1000)
        api.add("POST", "/parse", parse, Role.ANYONE)
        async with served(api) as port, aiohttp.ClientSession() as http:

            async def pieces(count: int) -> AsyncIterator[bytes]:
                for _ in range(count):
                    yield b"x" * 100

            url = f"http://127.0.0.1:{port}/echo"
            assert (await http.post(url, data=b"x" * 1000)).status == 200
            assert (await http.post(url, data=pieces(10))).status == 200
            assert (await http.post(url, data=b"x" * 1001)).status == 413
            assert (await http.post(url, data=pieces(11))).status == 413
            head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
            assert b" 413 " in await exchange(port, head, b"}")
            # Compressed bodies are not unpacked: a small one can hold a very large one.
            packed = await http.post(
                f"http://127.0.0.1:{port}/parse",
                data=b"\x1f\x8b\x08\x00",
                headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
            )
            assert packed.status == 415

    asyncio.run(run())


def test_who_may_not_upload_hears_so_before_the_bytes() -> None:
    async def upload(request: web.Request) -> web.Response:
        return json_response({"length": len(await read_body(request))})

    async def run() -> None:
        api = Api(Tokens())
        api.add("POST", "/upload", upload, Role.OWNER)
        async with served(api) as port:
            head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n"
            refused = await exchange(port, head + b"Expect: 100-continue\r\n\r\n", b"}")
            assert refused.startswith(b"HTTP/1.1 401 ")
            odd = await exchange(port, head + b"Authorization: Bearer owner\r\nExpect: tea\r\n\r\n", b"}")
            assert odd.startswith(b"HTTP/1.1 417 ")
            good = head + b"Authorization: Bearer owner\r\nExpect: 100-continue\r\n\r\nabcd"
            assert (await exchange(port, good, b"}")).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")

    asyncio.run(run())


def test_open_routes_do_not_look_tokens_up() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async def run() -> None:
        tokens = Tokens()
        api = Api(tokens)
        api.add("GET", "/open", handler, Role.ANYONE)
        api.add("GET", "/closed", handler, Role.OWNER)
        async with served(api) as port, aiohttp.ClientSession() as http:
            for value in ("Bearer owner", "Bearer nobody", "Basic xyz"):
                assert (await http.get(f"http://127.0.0.1:{port}/open", headers={"Authorization": value})).status == 200
            assert tokens.asked == 0
            for value, status in (
                ("Bearer owner", 200),
                ("bearer  owner ", 200),
                ("Bearer operator", 403),
                ("Bearer nobody", 401),
                ("Bearer", 401),
                ("Bearer " + "x" * 129, 401),
                ("Basic owner", 401),
                ("", 401),
            ):
                response = await http.get(f"http://127.0.0.1:{port}/closed", headers={"Authorization": value})
                assert response.status == status, value
            assert tokens.asked == 4

    asyncio.run(run())


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ((), "203.0.113.7", "127.0.0.1"),
        (("127.0.0.1",), None, "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.7", "203.0.113.7"),
        (("127.0.0.1",), "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (("127.0.0.1", "203.0.113.7"), "198.51.100.1, 203.0.113.7", "198.51.100.1"),
        (("127.0.0.1",), "::ffff:203.0.113.7", "203.0.113.7"),
        (("127.0.0.1",), "2001:db8::1", "2001:db8::1"),
        (("127.0.0.1",), "203.0.113.7, rubbish", "127.0.0.1"),
        (("127.0.0.1",), "", "127.0.0.1"),
    ],
)
def test_only_trusted_proxies_name_the_caller(trusted: tuple[str, ...], forwarded: str | None, expected: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return json_response({"caller": caller_address(request)})

    async def run() -> None:
        api = Api(Tokens(), trusted_proxies=trusted)
        api.add("GET", "/", handler, Role.ANYONE)
        async with served(api) as port, aiohttp.ClientSession() as http:
            headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
            response = await http.get(f"http://127.0.0.1:{port}/", headers=headers)
            assert (await response.json())["caller"] == expected

    asyncio.run(run())


def test_metrics_are_for_this_machine_and_the_operator(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, http={"trusted_proxies": ["127.0.0.1"]}) as world:
            from_afar = {"X-Forwarded-For": "203.0.113.7"}
            for ledger in (False, True):
                assert (await world.call("GET", "/metrics", ledger=ledger, headers=from_afar)).status == 401
                await world.told()
                for more in ({}, {"token": world.operator_token, "headers": from_afar}):
                    answer = await world.call("GET", "/metrics", ledger=ledger, **more)
                    assert answer.status == 200
                    assert b'fallow_requests_total{method="GET",route="/metrics",status="401"} 1.0' in answer.body
            owner = await world.account("owner")
            await world.call("GET", "/v1/objects/secret-path-of-someone", owner["token"])
            figures = (await world.call("GET", "/metrics")).body
            assert b"fallow_devices_connected 0.0" in figures
            assert b"secret-path" not in figures, "anyone could make up paths without end"

    asyncio.run(run())


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "Forwarded", "X-Real-IP", "Via"])
def test_a_proxy_that_nobody_told_of_makes_nobody_local(tmp_path: Path, name: str) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            assert (await world.call("GET", "/metrics", headers={name: "127.0.0.1"})).status == 401
            assert (await world.call("GET", "/metrics")).status == 200

    asyncio.run(run())


GARBAGE = [
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS to a plain port
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: y\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nContent-Type: application/jwt\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nContent-Type: application/jwt\r\nContent-Length: 50\r\n\r\nabc",
    b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //evil.example/%2e%2e/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /v1/session HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Protocol: fallow.v1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
    b"GET /v1/session HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Protocol: fallow.v1\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
]


def test_garbage_on_the_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            for port in (world.app.scheduler_port, world.app.ledger_port):
                for request in GARBAGE:
                    answer = await exchange(port, request)
                    assert b"Traceback" not in answer, request[:80]
                    assert not answer.startswith(b"HTTP/1.1 5"), (request[:80], answer[:200])
            assert (await world.call("GET", "/v1/health")).status == 200
            assert (await world.call("GET", "/v1/health", ledger=True)).status == 200

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    loud = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert loud == [], [record.getMessage() for record in loud]
