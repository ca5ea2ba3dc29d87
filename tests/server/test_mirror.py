"""Sites, pulling from origins and the mirror, against a real origin."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from delivery_harness import BOB, Harness, origin_server, run
from fallow_server.catalogue.addresses import AddressRefused, GuardedResolver, refused_literal
from fallow_server.catalogue.config import Config
from fallow_server.catalogue.names import clean_origin, clean_path, path_below
from fallow_wire.addresses import is_public

OPEN = Config(disk_free_bytes_min=0, allow_private_addresses=True, object_bytes_max=2**21)


class Files:
    """An origin with files that a test changes; it keeps what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[], web.Response]] = {}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        self.asked.append((path, {k: v for k, v in request.headers.items() if k.startswith("If-")}))
        if path in self.answers:
            return self.answers[path]()
        if path not in self.files:
            return web.Response(status=404)
        etag = f'"{hash(self.files[path])}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag, **self.headers})
        return web.Response(body=self.files[path], headers={"ETag": etag, "Content-Type": "text/x-deb", **self.headers})


def with_origin(tmp_path: Path, script: Callable[[Harness, Files, str], Any], config: Config = OPEN) -> None:
    async def inner(server: Harness) -> None:
        files = Files()
        async with origin_server(files) as url:
            await server.call("POST", "/v1/sites", json={"name": "apt", "origin": url + "/debian/"}, status=201)
            await script(server, files, url)

    run(tmp_path / "state", inner, catalogue=config)


async def ask(server: Harness, path: str) -> str:
    """Where the mirror sends a consumer, after what that set off has ended."""
    answer = await server.call("GET", path, who=None, status=302)
    assert answer.headers["Cache-Control"] == "no-store"
    await server.catalogue.mirror.idle()
    return str(answer.headers["Location"])


def test_the_first_request_goes_to_the_origin_and_the_next_to_the_object(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/pool/a%20b.deb"] = b"package"
        assert await ask(server, "/s/apt/pool/a%20b.deb") == f"{url}/debian/pool/a%20b.deb"
        location = await ask(server, "/s/apt/pool/a%20b.deb")
        assert location.startswith(f"{server.url}/o/")
        assert location.endswith("/a%20b.deb")
        assert (await server.call("GET", location, who=None, status=200)).body == b"package"
        assert len(files.asked) == 1
        assert (await server.call("GET", "/v1/objects")).json()[0]["type"] == "text/x-deb"

    with_origin(tmp_path, script)


def test_many_at_once_pull_once(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/f"] = os.urandom(1000)
        await asyncio.gather(*(ask(server, "/s/apt/f") for _ in range(30)))
        assert len(files.asked) == 1

    with_origin(tmp_path, script)


def test_what_is_stale_is_asked_again_and_replaced_when_it_changed(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/Release"] = b"one"
        await ask(server, "/s/apt/Release")
        first = await ask(server, "/s/apt/Release")
        server.clock.seconds += 301
        assert (await ask(server, "/s/apt/Release")).startswith(url)
        assert "If-None-Match" in files.asked[-1][1]
        assert await ask(server, "/s/apt/Release") == first
        files.files["/debian/Release"] = b"two"
        server.clock.seconds += 301
        await ask(server, "/s/apt/Release")
        second = await ask(server, "/s/apt/Release")
        assert second != first
        assert (await server.call("GET", second, who=None)).body == b"two"
        # The old version is published by nobody any longer.
        assert (await server.call("GET", first, who=None)).status == 404
        assert len((await server.call("GET", "/v1/objects")).json()) == 1
        del files.files["/debian/Release"]
        server.clock.seconds += 301
        await ask(server, "/s/apt/Release")
        assert (await server.call("GET", "/v1/objects")).json() == []

    with_origin(tmp_path, script)


def test_the_origin_says_how_long_it_is_fresh(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/f"] = b"x"
        files.headers = {"Cache-Control": "public, max-age=60"}
        await ask(server, "/s/apt/f")
        server.clock.seconds += 59
        assert (await ask(server, "/s/apt/f")).startswith(server.url)
        server.clock.seconds += 1
        assert (await ask(server, "/s/apt/f")).startswith(url)

    with_origin(tmp_path, script)


def test_what_the_origin_keeps_private_is_not_mirrored(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/f"] = b"x"
        for header in ({"Cache-Control": "private"}, {"Cache-Control": "no-store"}, {"Vary": "*"}):
            files.headers = header
            server.clock.seconds += 61
            await ask(server, "/s/apt/f")
            assert (await ask(server, "/s/apt/f")).startswith(url)
        assert (await server.call("GET", "/v1/objects")).json() == []

    with_origin(tmp_path, script)


def test_what_is_missing_is_not_asked_by_every_consumer(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        for _ in range(5):
            assert await ask(server, "/s/apt/missing") == f"{url}/debian/missing"
        assert len(files.asked) == 1
        files.files["/debian/missing"] = b"now it is here"
        server.clock.seconds += 61
        await ask(server, "/s/apt/missing")
        assert (await ask(server, "/s/apt/missing")).startswith(server.url)

    with_origin(tmp_path, script)


def test_queries_and_folders_pass_to_the_origin_and_are_not_pulled(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        assert await ask(server, "/s/apt/f?a=1&b=%20") == f"{url}/debian/f?a=1&b=%20"
        assert await ask(server, "/s/apt/pool/") == f"{url}/debian/pool/"
        assert await ask(server, "/s/apt/") == f"{url}/debian/"
        assert files.asked == []
        assert (await server.call("GET", "/s/nobody/f", who=None)).status == 404

    with_origin(tmp_path, script)


def test_dot_segments_do_not_pass(tmp_path: Path) -> None:
    async def raw(server: Harness, path: str) -> str:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer

    async def script(server: Harness, files: Files, url: str) -> None:
        for path in (
            "/s/apt/../secret",
            "/s/apt/%2e%2e/secret",
            "/s/apt/a/..%2fsecret",
            "/s/apt/a%5c..",
            "/s/apt//x/y",
        ):
            answer = await raw(server, path)
            assert answer.startswith("HTTP/1.1 4"), (path, answer[:200])
        assert files.asked == []

    with_origin(tmp_path, script)


def test_cut_oversized_and_encoded_answers_are_not_mirrored(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        big = b"x" * (2**21 + 1)
        files.answers["/debian/big"] = lambda: web.Response(body=big)
        files.answers["/debian/gz"] = lambda: web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
        files.answers["/debian/away"] = lambda: web.Response(status=302, headers={"Location": url + "/other/f"})
        files.answers["/debian/loop"] = lambda: web.Response(status=302, headers={"Location": "loop"})
        for name in ("big", "gz", "away", "loop"):
            await ask(server, f"/s/apt/{name}")
            assert (await ask(server, f"/s/apt/{name}")).startswith(url)
        assert not any(path.startswith("/other") for path, _ in files.asked)
        files.files["/debian/there"] = b"moved"
        files.answers["/debian/here"] = lambda: web.Response(status=301, headers={"Location": "/debian/there"})
        await ask(server, "/s/apt/here")
        assert (await ask(server, "/s/apt/here")).startswith(server.url)

    with_origin(tmp_path, script)


def test_a_connection_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
            writer.close()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nnobody knows where this ends")
            writer.close()

        for number, behaviour in enumerate((half, endless)):
            listener = await asyncio.start_server(behaviour, "127.0.0.1", 0)
            origin = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
            await server.call("POST", "/v1/sites", json={"name": f"s{number}", "origin": origin}, status=201)
            answer = await server.call("POST", "/v1/objects", json={"origin_url": origin + "f"})
            assert (answer.status, answer.problem, answer.json()["fault"]) == (502, "origin-failed", "upstream")
            listener.close()
        assert (await server.call("GET", "/v1/objects")).json() == []
        assert not any((server.directory / "blobs" / "incoming").iterdir())

    run(tmp_path / "state", script, catalogue=OPEN)


def test_pulling_one_object(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/pool/f.deb"] = b"package"
        answer = await server.call("POST", "/v1/objects", json={"origin_url": url + "/debian/pool/f.deb"}, status=201)
        assert (answer.json()["name"], answer.json()["size"]) == ("f.deb", 7)
        body = {"origin_url": url + "/debian/pool/f.deb", "name": "other"}
        assert (await server.call("POST", "/v1/objects", json=body, status=200)).json()["name"] == "other"
        for bad in ("/secret", "/debian/../secret", "/debian/%2e%2e/secret", "/debian/f?q=1", "/debian@x/f"):
            refused = await server.call("POST", "/v1/objects", json={"origin_url": url + bad}, status=400)
            assert refused.problem == "not-below-site"
        assert (await server.call("POST", "/v1/objects", json={"origin_url": url + "/debian/no"}, status=502)).problem
        files.answers["/debian/odd"] = lambda: web.Response(status=302, headers={"Location": "http://[odd"})
        odd = await server.call("POST", "/v1/objects", json={"origin_url": url + "/debian/odd"}, status=502)
        assert odd.problem == "origin-failed"
        not_his = await server.call("POST", "/v1/objects", who=BOB, json={"origin_url": url + "/debian/pool/f.deb"})
        assert not_his.problem == "not-below-site"

    with_origin(tmp_path, script)


def test_sites(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        again = {"name": "apt", "origin": url + "/debian"}
        await server.call("POST", "/v1/sites", json=again, status=200)
        taken = await server.call("POST", "/v1/sites", json=again, who=BOB, status=409)
        assert taken.problem == "site-exists"
        for bad in ({"name": "A b", "origin": url}, {"name": "x", "origin": "ftp://a/"}, {"name": "x"}, {}):
            await server.call("POST", "/v1/sites", json=bad, status=400)
        own = await server.call("POST", "/v1/sites", json={"name": "x", "origin": server.url + "/s/apt/"}, status=400)
        assert own.problem == "own-origin"
        files.files["/debian/f"] = b"x"
        await ask(server, "/s/apt/f")
        assert len((await server.call("GET", "/v1/objects")).json()) == 1
        await server.call("DELETE", "/v1/sites/apt", who=BOB, status=404)
        await server.call("DELETE", "/v1/sites/apt", status=204)
        assert (await server.call("GET", "/v1/sites")).json() == []
        assert (await server.call("GET", "/v1/objects")).json() == []
        assert (await server.call("GET", "/s/apt/f", who=None)).status == 404

    with_origin(tmp_path, script)


def test_an_upload_is_not_taken_over_by_a_mirror(tmp_path: Path) -> None:
    async def script(server: Harness, files: Files, url: str) -> None:
        files.files["/debian/f"] = b"same bytes"
        object_id = (
            await server.call(
                "POST", "/v1/objects?name=mine", data=b"same bytes", headers={"Content-Type": "text/x-deb"}
            )
        ).json()["id"]
        await ask(server, "/s/apt/f")
        assert object_id in await ask(server, "/s/apt/f")
        await server.call("DELETE", "/v1/sites/apt", status=204)
        kept = (await server.call("GET", f"/v1/objects/{object_id}", status=200)).json()
        assert kept["name"] == "mine"

    with_origin(tmp_path, script)


def test_private_origins_are_refused(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        hits: list[str] = []

        async def secret(request: web.BaseRequest) -> web.StreamResponse:
            hits.append(request.path)
            return web.Response(body=b"internal")

        async with origin_server(secret) as url:
            port = url.rpartition(":")[2]
            hosts = ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0")
            for number, host in enumerate(hosts):
                origin = f"http://{host}:{port}/"
                await server.call("POST", "/v1/sites", json={"name": f"s{number}", "origin": origin}, status=201)
                answer = await server.call("POST", "/v1/objects", json={"origin_url": origin + "f"})
                assert (answer.status, answer.problem) == (400, "address-refused"), host
        assert hits == []

    run(tmp_path / "state", script)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255"),
        *("224.0.0.1", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"),
        *("2002:a00:1::", "2001:0:1::", "x", "fe80::1%eth0"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_that_are() -> None:
    assert all(is_public(a) for a in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"))
    assert not refused_literal("8.8.8.8")
    assert not refused_literal("example.com")
    assert refused_literal("0177.0.0.1")
    assert refused_literal("134744072")


def test_one_private_answer_among_public_ones_refuses_the_name() -> None:
    class Rebinding(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            made = [("8.8.8.8", port), ("10.0.0.1", port)]
            return [ResolveResult(hostname=host, host=ip, port=at, family=family, proto=0, flags=0) for ip, at in made]

        async def close(self) -> None:
            return

    with pytest.raises(AddressRefused):
        asyncio.run(GuardedResolver(Rebinding()).resolve("evil.example", 80))


def test_paths_and_origins() -> None:
    for raw in (
        "",
        "a/",
        "/a",
        "a//b",
        ".",
        "a/../b",
        "%2e%2e/b",
        "a%2Fb",
        "a%00",
        "a\\b",
        "a b",
        "é",
        "x" * 1025,
        "%zz",
    ):
        assert clean_path(raw) is None, raw
    for raw in ("a", "a/b.deb", "a%20b", "%E5%90%8D", "~u/+/@a:b"):
        assert clean_path(raw) == raw
    assert clean_origin("HTTP://Deb.Example:80/debian") == "http://deb.example/debian/"
    assert clean_origin("https://h:8443") == "https://h:8443/"
    for bad in (
        "http://u:p@h/",
        "http://h/?q",
        "http://h/#f",
        "http:///x",
        "http://h/a/../b",
        "//h/",
        "http://h:x/",
        "http://h h/",
    ):
        assert clean_origin(bad) is None, bad
    origin = "http://h/d/"
    assert path_below(origin, "http://H:80/d/x") == "x"
    for url in (
        "http://h/dx",
        "http://h/d/../x",
        "https://h/d/x",
        "http://h:81/d/x",
        "http://u@h/d/x",
        "http://h/d/x?q",
    ):
        assert path_below(origin, url) is None, url
