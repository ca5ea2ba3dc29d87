"""Sessions of browsers, and the fleet as a table."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from console_world import device_id, populate
from fallow_server.console.routes import ConsoleRoutes
from fallow_server.console.rows import DeviceRow, page_of, query_of, summary_of
from fallow_server.console.sessions import CSRF_HEADER
from fallow_server.http import Api
from fallow_wire.errors import Malformed
from server_world import Answer, MovableClock, ServerWorld, running_server
from yarl import URL


async def sign_in(world: ServerWorld, token: str, **headers: str) -> Answer:
    return await world.call("POST", "/console/session", json={"token": token}, headers=headers)


def cookie_of(answer: Answer) -> str:
    return answer.headers["Set-Cookie"].partition(";")[0]


async def session(world: ServerWorld, token: str) -> dict[str, str]:
    """Headers of a page that somebody signed in at."""
    answer = await sign_in(world, token)
    assert answer.status == 201, answer.body
    return {"Cookie": cookie_of(answer), CSRF_HEADER: answer.json["csrf"]}


def test_a_session_stands_for_the_token_and_no_longer_than_it(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            answer = await sign_in(world, world.operator_token)
            assert re.fullmatch(
                r"fallow=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=Strict", answer.headers["Set-Cookie"]
            )
            assert world.operator_token not in str(answer.headers) + answer.body.decode()
            headers = {"Cookie": cookie_of(answer), CSRF_HEADER: answer.json["csrf"]}
            assert (await world.call("GET", "/v1/accounts", headers=headers)).status == 200
            # Its rights are the role's: an operator publishes nothing.
            assert (await world.call("GET", "/v1/objects", headers=headers)).slug == "forbidden"
            publisher = await world.account("publisher", "files")
            theirs = await session(world, publisher["token"])
            told = await world.call("GET", "/console/session", headers={"Cookie": theirs["Cookie"]})
            assert told.json["role"] == "publisher"
            assert told.json["name"] == "files"
            assert told.json["csrf"] == theirs[CSRF_HEADER]
            assert (await world.call("GET", "/v1/objects", headers=theirs)).status == 200
            assert (await world.call("GET", "/console/fleet", headers=theirs)).status == 403
            await world.call("DELETE", f"/v1/accounts/{publisher['id']}/tokens", world.operator_token)
            assert (await world.call("GET", "/v1/objects", headers=theirs)).slug == "token-unknown"
            clock.moved_s += 12 * 3600 + 1
            assert (await world.call("GET", "/v1/accounts", headers=headers)).slug == "session-ended"
            assert (await world.call("GET", "/console/session", headers=headers)).json == {"signed_in": False}

    asyncio.run(run())


def test_a_cookie_alone_or_from_elsewhere_is_worth_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            good = await session(world, world.operator_token)
            other = await session(world, world.operator_token)
            bad: list[dict[str, str]] = [
                {"Cookie": good["Cookie"]},
                {**good, CSRF_HEADER: ""},
                {**good, CSRF_HEADER: other[CSRF_HEADER]},
                {**good, "Origin": "https://evil.example"},
                {**good, "Origin": "null"},
                {**good, "Origin": f"{world.url}.evil.example"},
                {**good, "Sec-Fetch-Site": "cross-site"},
                {**good, "Sec-Fetch-Site": "same-site"},
            ]
            for headers in bad:
                for method, path in (("GET", "/v1/accounts"), ("DELETE", "/console/session")):
                    answer = await world.call(method, path, headers=headers)
                    assert (answer.status, answer.slug) == (403, "not-our-page"), headers
            kind = {"Origin": world.url, "Sec-Fetch-Site": "same-origin"}
            assert (await world.call("GET", "/v1/accounts", headers={**good, **kind})).status == 200
            assert (await sign_in(world, world.operator_token, Origin="https://evil.example")).status == 403
            text = await world.call(
                "POST", "/console/session", data=b'{"token": "x"}', headers={"Content-Type": "text/plain"}
            )
            assert text.slug == "json-only"  # what a form of another page could send

    asyncio.run(run())


def test_sessions_outlive_a_restart_and_signing_out_ends_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            token = world.operator_token
            first, second = await session(world, token), await session(world, token)
            stored = await world.scheduler.database.ask(lambda rows: rows.all("SELECT * FROM console_sessions"))
            assert len(stored) == 2
            for secret in (token, first["Cookie"].partition("=")[2]):
                assert secret not in str([list(row) for row in stored])
        async with running_server(tmp_path, operator_token=token) as world:
            for headers in (first, second):
                assert (await world.call("GET", "/v1/accounts", headers=headers)).status == 200
            gone = await world.call("DELETE", "/console/session", headers=first)
            assert gone.status == 204
            assert "Max-Age=0" in gone.headers["Set-Cookie"]
            assert (await world.call("GET", "/v1/accounts", headers=first)).slug == "session-ended"
            assert (await world.call("GET", "/v1/accounts", headers=second)).status == 200

    asyncio.run(run())


def test_the_oldest_of_too_many_sessions_goes(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock, console={"sessions_per_account_max": 2}) as world:
            held = []
            for _ in range(3):
                held.append(await session(world, world.operator_token))
                clock.moved_s += 1
            found = [(await world.call("GET", "/v1/accounts", headers=headers)).status for headers in held]
            assert found == [401, 200, 200]

    asyncio.run(run())


def test_guessing_from_one_address_ends_and_others_go_on(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock, http={"trusted_proxies": ["127.0.0.1"]}) as world:
            guess = "fa_" + "A" * 43

            async def attempt(address: str, token: str) -> int:
                return (await sign_in(world, token, **{"X-Forwarded-For": address})).status

            assert [await attempt("2001:db8::1", guess) for _ in range(10)] == [401] * 10
            assert await attempt("2001:db8::2", world.operator_token) == 429  # of the same home
            assert await attempt("203.0.113.5", world.operator_token) == 201
            clock.moved_s += 61
            assert await attempt("2001:db8::2", world.operator_token) == 201

    asyncio.run(run())


def test_under_https_the_cookie_is_for_https_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, http={"scheduler_url": "https://fallow.example"}) as world:
            cookie = (await sign_in(world, world.operator_token)).headers["Set-Cookie"]
            assert cookie.startswith("__Host-fallow=")
            assert "; Secure" in cookie

    asyncio.run(run())


class _Build:
    """What ``make web`` would have made."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "app"
        (self.path / "assets").mkdir(parents=True)
        (self.path / "index.html").write_text('<!doctype html><script type="module" src="./assets/a-1.js"></script>')
        (self.path / "assets" / "a-1.js").write_text("export {};" * 1000)


async def pages(app: Path, script: Callable[[aiohttp.ClientSession, str], Awaitable[None]]) -> None:
    """The console's files alone, as they would be served out of ``app``."""
    api = Api(cast("Any", None))
    ConsoleRoutes(cast("Any", None), cast("Any", None), app).add_to(api)
    runner = web.AppRunner(api.application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            assert site._server is not None
            port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            await script(http, f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()


def test_the_pages_run_no_script_but_their_own(tmp_path: Path) -> None:
    async def script(http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(f"{url}/console", allow_redirects=False) as lead:
            assert (lead.status, lead.headers["Location"]) == (302, "console/")
        async with http.get(f"{url}/console/") as shown:
            assert shown.status == 200
            policy = shown.headers["Content-Security-Policy"]
            for part in ("default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'"):
                assert part in policy
            assert "unsafe" not in policy
            assert shown.headers["Cache-Control"] == "no-cache"
        for accepted in ("gzip", "identity"):
            async with http.get(f"{url}/console/assets/a-1.js", headers={"Accept-Encoding": accepted}) as asset:
                assert asset.content_type == "text/javascript"
                assert "immutable" in asset.headers["Cache-Control"]
                body = await asset.read()
                assert (gzip.decompress(body) if accepted == "gzip" else body) == b"export {};" * 1000
        for name in ("nothing.js", "..%2Findex.html", "%2e%2e%2findex.html", "..%2f..%2froutes.py"):
            async with http.get(URL(f"{url}/console/assets/{name}", encoded=True)) as missing:
                assert missing.status == 404, name

    asyncio.run(pages(_Build(tmp_path).path, script))


def test_where_the_pages_are_not_built_it_is_said_how(tmp_path: Path) -> None:
    async def script(http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(f"{url}/console/") as shown:
            text = await shown.text()
            assert shown.status == 503
            assert "make web" in text
            assert "尚未构建" in text

    asyncio.run(pages(tmp_path / "nothing", script))


def row(number: int, **changes: Any) -> DeviceRow:
    made = DeviceRow(
        f"d{number}",
        "own-1",
        "Ada",
        "Pi",
        "1",
        "active",
        True,
        "open",
        "DE",
        1,
        10 * number,
        number,
        0,
        5,
        100 - number,
    )
    return made._replace(**changes)


def test_rows_are_filtered_sorted_and_cut() -> None:
    rows = [
        row(1),
        row(2, country=None, owner_name="Grace"),
        row(3, state="paused"),
        row(4, country="FR", last_seen=None),
    ]

    def found(**given: str) -> list[str]:
        return [one.device_id for one in page_of(rows, query_of(given))[1]]

    assert found() == ["d1", "d2", "d3", "d4"]
    assert found(sort="-idle_up_bps") == ["d4", "d3", "d2", "d1"]
    assert found(sort="last_seen") == ["d3", "d2", "d1", "d4"]  # without a value: last, either way
    assert found(sort="-last_seen") == ["d1", "d2", "d3", "d4"]
    assert found(sort="-last_seen", limit="2", page="1") == ["d3", "d4"]
    assert found(q="GRACE") == ["d2"]
    assert found(state="paused") == ["d3"]
    assert found(country="-") == ["d2"]
    assert found(country="FR", q="ada") == ["d4"]
    assert page_of(rows, query_of({"limit": "1", "page": "9"})) == (4, [])
    for bad in ({"sort": "password"}, {"page": "-1"}, {"limit": "201"}, {"q": "x" * 129}, {"state": "a\0"}):
        with pytest.raises(Malformed):
            query_of(bad)


def test_the_summary_counts_who_is_connected() -> None:
    rows = [
        row(1),
        row(2, reach="blocked"),
        row(3, country="FR", reach="mapped"),
        row(4, connected=False, state="offline"),
    ]
    summary = summary_of(rows, frozenset({"open", "mapped"}))
    assert (summary.devices, summary.connected, summary.reachable, summary.idle_up_bps) == (4, 3, 2, 60)
    assert [(one.country, one.connected, one.reachable) for one in summary.by_country] == [("DE", 2, 1), ("FR", 1, 1)]
    assert summary.by_state == {"active": 3, "offline": 1}


def test_the_fleet_shows_live_state_and_answers_unchanged(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            await populate(world, 300, 10)
            first = await world.call("GET", "/console/fleet?sort=-idle_up_bps&limit=5", world.operator_token)
            assert first.json["total"] == 300
            assert [one["device_id"] for one in first.json["devices"]] == [device_id(9 - n) for n in range(5)]
            tagged = {"If-None-Match": first.headers["ETag"]}
            again = await world.call(
                "GET", "/console/fleet?sort=-idle_up_bps&limit=5", world.operator_token, headers=tagged
            )
            assert (again.status, again.body) == (304, b"")
            left = world.scheduler.fleet.get(device_id(9))
            assert left is not None
            await world.scheduler.fleet.detach(left)
            clock.moved_s += 600  # however long it took to make the table
            changed = await world.call(
                "GET", "/console/fleet?sort=-idle_up_bps&limit=5", world.operator_token, headers=tagged
            )
            assert changed.json["devices"][0]["device_id"] == device_id(8)
            offline = await world.call("GET", f"/console/devices/{device_id(9)}", world.operator_token)
            assert offline.json["state"] == "offline"
            assert (await world.call("GET", "/console/devices/x", world.operator_token)).slug == "unknown-device"

    asyncio.run(run())
