"""What browsers load of delivery: the module, its files, the page. No browser and no Node is needed here."""

from __future__ import annotations

import gzip
from pathlib import Path

from aiohttp import web
from delivery_harness import Harness, Tokens, run
from fallow_server.delivery.config import Config
from fallow_server.delivery.pages import BrowserRoutes
from fallow_server.http import Api

MODULE = "export const fallow = 1;\n" * 100
ID = "a" * 64


def build(directory: Path) -> Path:
    for folder in ("fallow", "watch"):
        (directory / folder).mkdir(parents=True)
    (directory / "fallow.js").write_text(MODULE)
    (directory / "fallow" / "pure-12345678.js").write_text("export const pure = 1;")
    (directory / "watch" / "index.html").write_text("<!doctype html><title>Watch</title>")
    return directory


async def served(server: Harness, built: Path) -> tuple[web.AppRunner, str]:
    api = Api(Tokens())
    BrowserRoutes(server.delivery.router, built).add_to(api)
    runner = web.AppRunner(api.application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def test_the_module_is_for_any_page_and_asked_again(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        runner, url = await served(server, build(tmp_path / "built"))
        page = {"Origin": "https://site.example", "Accept-Encoding": "identity"}
        answer = await server.call("GET", f"{url}/fallow.js", who=None, status=200, headers=page)
        assert answer.body.decode() == MODULE
        assert answer.headers["Content-Type"].startswith("text/javascript")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "no-cache"
        packed = await server.call("GET", f"{url}/fallow.js", who=None, headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(packed.body).decode() == MODULE
        known = {"If-None-Match": answer.headers["ETag"]}
        assert (await server.call("GET", f"{url}/fallow.js", who=None, headers=known)).status == 304
        part = await server.call("GET", f"{url}/fallow/pure-12345678.js", who=None, status=200, headers=page)
        assert part.headers["Access-Control-Allow-Origin"] == "*"
        assert "immutable" in part.headers["Cache-Control"]
        for path in ("/fallow/other.js", "/fallow/..%2ffallow.js", "/fallow/"):
            assert (await server.call("GET", url + path, who=None)).status == 404, path
        await runner.cleanup()

    run(tmp_path / "state", script)


def test_the_page_takes_no_foreign_script_and_counts_as_a_ticket(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        runner, url = await served(server, build(tmp_path / "built"))
        answer = await server.call("GET", f"{url}/watch/{ID}", who=None, status=200)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "Access-Control-Allow-Origin" not in answer.headers
        await server.call("GET", f"{url}/watch/stream?playlist=tv/film/index.m3u8", who=None, status=200)
        for path in ("/watch/film", f"/watch/{'g' * 64}", f"/watch/{ID}/x"):
            assert (await server.call("GET", url + path, who=None)).status == 404, path
        assert (await server.call("GET", f"{url}/watch/{ID}", who=None)).problem == "too-many-tickets"
        await runner.cleanup()

    run(tmp_path / "state", script, delivery=Config(consumer_tickets_burst=2, consumer_tickets_per_s=1))


def test_a_server_without_its_pages_says_so(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        runner, url = await served(server, tmp_path / "nothing")
        for path in ("/fallow.js", f"/watch/{ID}"):
            answer = await server.call("GET", url + path, who=None, status=503)
            assert answer.problem == "not-built"
            assert "make web" in answer.json()["remedy"]
        await runner.cleanup()

    run(tmp_path / "state", script)
