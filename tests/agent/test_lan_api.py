"""Port M over real sockets, with a device that is only its lifecycle, and a small ledger."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fallow_agent.clock import Clock
from fallow_agent.lan import events
from fallow_agent.lan.api import LanApi, page_policy
from fallow_agent.lan.guard import InterfaceAddress
from fallow_agent.lan.interfaces import Interfaces
from fallow_agent.lan.middleware import serve
from fallow_agent.lan.neighbours import Neighbour
from fallow_agent.lan.pairing import Pairing
from fallow_agent.lan.points import LedgerAccess, Points
from fallow_agent.life import Life
from fallow_agent.lifecycle import EnrolmentRefused, Event, Request, RequestRefused, step
from fallow_agent.store import Settings, open_database
from fallow_wire.http import Problem
from fallow_wire.lan import Limits
from support import PATIENCE_S

CODE = "AB01-CD11"
JTI = "01890000-0000-7000-8000-000000000001"
CLAIM = {
    "scheduler": "http://scheduler.example:32550",
    "claim_token": "claim-token-1",
    "setup_code": CODE,
    "consent": {"terms_version": "1", "accepted": True},
}


class Device:
    """The real machine without anything that performs its commands."""

    def __init__(self) -> None:
        self.life = Life()
        self.limits = Limits()
        self.clock = Clock()
        self.tests = 0

    def description(self) -> dict[str, Any]:
        return {"device_id": "fd-x", "name": "box", "model": "test", "version": "0"}

    def now(self) -> int:
        return self.clock.now()

    def request(self, event: Request, limits: Limits | None = None) -> Life:
        self.feed(event)
        self.limits = limits or self.limits
        return self.life

    def feed(self, event: Event) -> None:
        self.life = step(self.life, event)[0]

    def set_limits(self, limits: Limits) -> None:
        self.limits = limits

    def start_speedtest(self, *, insist: bool) -> None:
        if not insist:
            raise RequestRefused(Problem(409, "speedtest-costs", "A speed test moves much data", "why"))
        self.tests += 1

    def status(self) -> dict[str, Any]:
        return {"state": self.life.state}

    async def neighbours(self) -> list[Neighbour]:
        return [Neighbour("fd-y", "fallow-y.local", "http://192.168.1.3:32556/", "active")]


class Ledger:
    """Counts what it is asked; ``away`` makes it fail like a broken proxy."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.keys: list[str] = []
        self.away = False
        self.entries = [{"seq": n, "at": 1, "kind": "service", "account": "o", "micro_points": n} for n in range(1, 6)]

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/v1/accounts/owner-1", self.account)
        application.router.add_get("/v1/accounts/owner-1/entries", self.listing)
        application.router.add_get("/v1/accounts/owner-1/days", self.days)
        application.router.add_get("/v1/accounts/owner-1/days/2026-11-28", self.days)
        application.router.add_get(f"/v1/settlements/{JTI}", self.settlement)
        application.router.add_get("/v1/rewards", self.rewards)
        application.router.add_get("/v1/redemptions", self.redemptions)
        application.router.add_post("/v1/redemptions", self.redeem)
        return application

    def seen(self, request: web.Request) -> None:
        self.calls.append(request.path_qs)
        assert request.headers["Authorization"] == "Bearer ledger-token"
        if self.away:
            raise web.HTTPBadGateway(text="no")

    async def account(self, request: web.Request) -> web.Response:
        self.seen(request)
        return web.json_response({"id": "owner-1", "held": 5, "vested": 10, "redeeming": 0, "redeemed": 1})

    async def listing(self, request: web.Request) -> web.Response:
        self.seen(request)
        after = int(request.query["after"])
        return web.json_response({"entries": [e for e in self.entries if e["seq"] > after]})

    async def days(self, request: web.Request) -> web.Response:
        self.seen(request)
        return web.json_response([{"day": "2026-11-28", "micro_points": 9, "asked": request.query["offset_min"]}])

    async def settlement(self, request: web.Request) -> web.Response:
        self.seen(request)
        return web.json_response({"jti": JTI, "micro_points": 9})

    async def redemptions(self, request: web.Request) -> web.Response:
        self.seen(request)
        assert request.query["order"] == "newest"
        return web.json_response([{"id": "x", "state": "fulfilled", "code": "COFFEE"}])

    async def rewards(self, request: web.Request) -> web.Response:
        self.seen(request)
        return web.json_response([{"id": "r1", "title": "A month", "micro_points": 7}])

    async def redeem(self, request: web.Request) -> web.Response:
        self.seen(request)
        self.keys.append(request.headers["Idempotency-Key"])
        body = await request.json()
        if body["reward"] != "r1":
            problem = {"type": "unknown-reward", "title": "no", "status": 404, "fault": "caller"}
            return web.json_response(problem, status=404, content_type="application/problem+json")
        return web.json_response({"id": "x1", "reward": "r1", "micro_points": 7, "state": "reserved"}, status=201)


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.settings = Settings(open_database(tmp_path / "agent.sqlite"))
        self.device = Device()
        self.pairing = Pairing(self.settings, CODE)
        self.ledger = Ledger()
        self.access: LedgerAccess | None = None
        self.url = ""
        self.http: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
        """Status, JSON and headers of the answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        async with self.http.request(method, self.url + path, json=body, headers=sent) as response:
            return response.status, json.loads(await response.text() or "null"), response.headers


async def listen(application: web.Application) -> tuple[web.AppRunner, int]:
    runner = await serve(application, ["127.0.0.1"], 0, 1)
    return runner, runner.addresses[0][1]


@asynccontextmanager
async def running(tmp_path: Path, app: Path | None = None) -> AsyncIterator[World]:
    world = World(tmp_path)
    addresses = (InterfaceAddress("lo", ipaddress.ip_address("127.0.0.1"), 8),)
    interfaces = Interfaces((), ("box.local",), world.device.clock.monotonic, lambda: addresses)
    points = Points(lambda: world.access, lambda: world.http, world.settings, world.device.clock)
    api = LanApi(world.device, world.pairing, points, interfaces, app or tmp_path / "no-app")
    ledger, ledger_port = await listen(world.ledger.application())
    lan, port = await listen(api.application())
    world.url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as world.http:
        world.access = LedgerAccess(f"http://127.0.0.1:{ledger_port}", "owner-1", "ledger-token")
        try:
            yield world
        finally:
            await lan.cleanup()
            await ledger.cleanup()


def script(tmp_path: Path, act: Callable[[World], Awaitable[None]], app: Path | None = None) -> None:
    async def run() -> None:
        async with running(tmp_path, app) as world:
            await act(world)

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE_S))


def test_activation_from_the_first_look_to_leaving(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        status, body, headers = await world.call("GET", "/v1/device")
        assert (status, body["state"], body["setup_code_required"]) == (200, "dormant", True)
        assert headers["X-Content-Type-Options"] == "nosniff"

        limits = {"upload_percent_max": 40}
        status, body, _ = await world.call("POST", "/v1/activation", {**CLAIM, "limits": limits})
        assert (status, body["state"]) == (202, "activating")
        token = body["lan_token"]
        assert world.device.limits.upload_percent_max == 40

        status, body, _ = await world.call("POST", "/v1/activation", CLAIM)
        assert (status, body["type"]) == (409, "already-activated")

        refusal = Problem(403, "claim-used", "The claim token was used", fault="upstream")
        world.device.feed(EnrolmentRefused("claim-token-1", refusal))
        status, body, _ = await world.call("GET", "/v1/activation")
        assert body == {"state": "dormant", "error": refusal.as_json()}

        status, body, _ = await world.call("DELETE", "/v1/activation", token=token)
        assert (status, body["type"]) == (409, "not-active")

    script(tmp_path, act)


def test_the_code_comes_first_and_five_wrong_ones_lock(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        for left in (4, 3, 2, 1, 0):
            status, body, _ = await world.call("POST", "/v1/activation", {**CLAIM, "setup_code": "wrong"})
            assert (status, body["type"], body["attempts_left"]) == (403, "wrong-setup-code", left)
        for path, body in (("/v1/activation", CLAIM), ("/v1/lan-tokens", {"setup_code": CODE})):
            status, answer, _ = await world.call("POST", path, body)
            assert (status, answer["type"]) == (423, "setup-code-locked")
        assert world.device.life == Life()

    script(tmp_path, act)


@pytest.mark.parametrize(
    "change",
    [
        {"consent": {"terms_version": "1", "accepted": False}},
        {"consent": {"terms_version": "0", "accepted": True}},
        {"scheduler": "ftp://x"},
        {"claim_token": 7},
        {"limits": {"upload_percent_max": 101}},
    ],
)
def test_an_activation_without_consent_or_form_changes_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    async def act(world: World) -> None:
        status, body, _ = await world.call("POST", "/v1/activation", {**CLAIM, **change})
        assert (status, body["fault"]) == (400, "caller")
        assert world.device.life == Life()
        assert world.device.limits == Limits()

    script(tmp_path, act)


def test_phones_only(tmp_path: Path) -> None:
    calls = [
        ("DELETE", "/v1/activation"),
        ("GET", "/v1/limits"),
        ("PATCH", "/v1/limits"),
        ("POST", "/v1/pause"),
        ("POST", "/v1/resume"),
        ("POST", "/v1/speedtest"),
        ("GET", "/v1/status"),
        ("GET", "/v1/events"),
        ("GET", "/v1/events?token=guess"),
        ("GET", "/v1/points"),
        ("GET", "/v1/rewards"),
        ("GET", "/v1/redemptions"),
        ("POST", "/v1/redemptions"),
    ]

    async def act(world: World) -> None:
        for method, path in calls:
            for token in (None, "guess", ""):
                status, body, headers = await world.call(method, path, token=token)
                assert (status, body["type"]) == (401, "unknown-phone"), (method, path)
                assert headers["WWW-Authenticate"] == "Bearer"
        assert world.ledger.calls == []

    script(tmp_path, act)


def test_several_phones(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        status, body, _ = await world.call("POST", "/v1/lan-tokens", {"setup_code": "ab01 cd11"})
        assert status == 201
        assert (await world.call("GET", "/v1/status", token=body["lan_token"]))[0] == 200
        status, body, _ = await world.call("POST", "/v1/lan-tokens", {"setup_code": 1})
        assert (status, body["type"]) == (400, "malformed")

    script(tmp_path, act)


def test_a_speed_test_is_started_as_the_owner_says(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = (await world.call("POST", "/v1/lan-tokens", {"setup_code": CODE}))[1]["lan_token"]
        for wanted in (None, {}, {"insist": False}):
            status, body, _ = await world.call("POST", "/v1/speedtest", wanted, token=token)
            assert (status, body["type"], body["detail"]) == (409, "speedtest-costs", "why")
        status, body, _ = await world.call("POST", "/v1/speedtest", {"insist": 1}, token=token)
        assert (status, body["type"]) == (400, "malformed")
        assert world.device.tests == 0
        status, body, _ = await world.call("POST", "/v1/speedtest", {"insist": True}, token=token)
        assert (status, body, world.device.tests) == (202, {"state": "running"}, 1)

    script(tmp_path, act)


def test_limits_are_merged_and_null_clears(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = world.pairing.add_phone()
        hours = [{"days": [0, 6], "start_min": 1320, "end_min": 360}]
        patch = {"upload_bps_max": 5, "hours": hours, "services": {"fill": False}}
        status, body, _ = await world.call("PATCH", "/v1/limits", patch, token)
        assert status == 200
        assert (body["upload_bps_max"], body["hours"], body["upload_percent_max"]) == (5, hours, 80)
        status, body, _ = await world.call("PATCH", "/v1/limits", {"upload_bps_max": None, "connections_max": 3}, token)
        assert "upload_bps_max" not in body
        assert (body["connections_max"], body["services"]) == (3, {"fill": False})
        for bad in ({"upload_percent_max": 101}, {"nonsense": 1}, {"nonsense": None}, {"hours": [{}]}):
            status, answer, _ = await world.call("PATCH", "/v1/limits", bad, token)
            assert (status, answer["type"]) == (400, "malformed")
            assert answer["detail"].startswith(next(iter(bad)))
        assert (await world.call("GET", "/v1/limits", token=token))[1] == body

    script(tmp_path, act)


def test_points_outlive_the_ledgers_absence_and_a_restart(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = world.pairing.add_phone()
        status, body, _ = await world.call("GET", "/v1/points", token=token)
        assert (status, body["held"], body["vested"], len(body["entries"])) == (200, 5, 10, 5)
        world.ledger.entries.append({"seq": 6, "at": 2, "kind": "redemption", "account": "o", "micro_points": -3})
        status, body, _ = await world.call("GET", "/v1/points", token=token)
        assert [e["seq"] for e in body["entries"]] == [1, 2, 3, 4, 5, 6]
        assert "after=5" in world.ledger.calls[-2]
        world.ledger.away = True
        world.device.clock.set_server_time(world.device.now() + 90)
        status, body, _ = await world.call("GET", "/v1/points", token=token)
        assert (status, body["vested"]) == (200, 10)
        assert 89 <= body["age_s"] <= 92
        assert body["days"] == [{"day": "2026-11-28", "micro_points": 9, "asked": "0"}]
        world.access = LedgerAccess(world.access.url, "owner-2", "ledger-token") if world.access else None
        status, body, _ = await world.call("GET", "/v1/points", token=token)
        assert (status, body["type"], body["fault"]) == (503, "ledger-away", "upstream")
        world.access = None
        status, body, _ = await world.call("GET", "/v1/points", token=token)
        assert (status, body["type"]) == (409, "not-active")

    script(tmp_path, act)


def test_days_open_to_deliveries_and_their_settlements(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = world.pairing.add_phone()
        status, body, _ = await world.call("GET", "/v1/points?offset_min=-480", token=token)
        assert (status, body["days"][0]["asked"]) == (200, "-480")
        status, body, _ = await world.call("GET", "/v1/points/2026-11-28?offset_min=60&after=7", token=token)
        assert (status, body[0]["asked"]) == (200, "60")
        assert world.ledger.calls[-1].endswith("after=7")
        assert (await world.call("GET", f"/v1/settlements/{JTI}", token=token))[1]["micro_points"] == 9
        status, body, _ = await world.call("GET", "/v1/points?offset_min=1&offset_min=x", token=token)
        assert status == 200, "the first counts"
        for path in ("/v1/points?offset_min=x", "/v1/points/2026-11-28?after=1e3"):
            assert (await world.call("GET", path, token=token))[0] == 400
        # Nothing else of the ledger can be reached by a path.
        for path in ("/v1/points/..%2F..", "/v1/settlements/..%2Fexport", "/v1/settlements/x", "/v1/points/today"):
            assert (await world.call("GET", path, token=token))[0] == 404, path
        for path in ("/v1/points/2026-11-28", f"/v1/settlements/{JTI}"):
            assert (await world.call("GET", path))[0] == 401

    script(tmp_path, act)


def test_neighbours_are_told_to_the_home(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        status, body, _ = await world.call("GET", "/v1/neighbours")
        assert (status, body[0]["url"]) == (200, "http://192.168.1.3:32556/")
        assert (await world.call("GET", "/v1/neighbours", Origin="http://evil.example"))[0] == 403

    script(tmp_path, act)


def test_redemptions_are_passed_on_with_their_key(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = world.pairing.add_phone()
        assert (await world.call("GET", "/v1/rewards", token=token))[1][0]["id"] == "r1"
        status, body, _ = await world.call("POST", "/v1/redemptions", {"reward": "r1"}, token)
        assert (status, body["type"]) == (400, "idempotency-key-needed")
        for _ in range(2):
            status, body, _ = await world.call("POST", "/v1/redemptions", {"reward": "r1"}, token, Idempotency_Key="k")
            assert (status, body["state"]) == (201, "reserved")
        assert world.ledger.keys == ["k", "k"]
        assert (await world.call("GET", "/v1/redemptions", token=token))[1][0]["code"] == "COFFEE"
        status, body, headers = await world.call(
            "POST", "/v1/redemptions", {"reward": "r2"}, token, Idempotency_Key="l"
        )
        assert (status, body["type"], headers["Content-Type"]) == (
            404,
            "unknown-reward",
            "application/problem+json; charset=utf-8",
        )
        world.ledger.away = True
        status, body, _ = await world.call("POST", "/v1/redemptions", {"reward": "r1"}, token, Idempotency_Key="m")
        assert (status, body["type"], body["fault"]) == (503, "ledger-away", "upstream")

    script(tmp_path, act)


def test_the_guard_stands_before_every_handler(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        status, body, headers = await world.call("GET", "/v1/device", Host="evil.example")
        assert (status, body["type"]) == (421, "wrong-host")
        assert headers["Content-Type"].startswith("application/problem+json")
        assert (await world.call("GET", "/nowhere", Origin="http://evil.example"))[0] == 403
        async with world.http.post(world.url + "/v1/activation", data=b"{}") as response:
            assert response.status == 415
        assert (await world.call("POST", "/v1/activation", {"x": "y" * 20_000}))[0] == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 1024

        json_type = {"Content-Type": "application/json"}
        async with world.http.post(world.url + "/v1/activation", data=chunks(), headers=json_type) as response:
            assert response.status == 413
        for body in (b"[]", b"{", b'{"a":1,"a":2}', b"\xff", b'{"a":1.5}'):
            async with world.http.post(world.url + "/v1/activation", data=body, headers=json_type) as response:
                assert response.status == 400
                assert (await response.json(content_type=None))["type"] == "malformed"
        status, body, _ = await world.call("GET", "/v1/nothing")
        assert (status, body["type"]) == (404, "not-found")
        status, body, headers = await world.call("PUT", "/v1/limits", {})
        assert (status, body["type"]) == (405, "method-not-allowed")
        assert "PATCH" in headers["Allow"]

    script(tmp_path, act)


def test_events_flow_and_end_with_the_token(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = world.pairing.add_phone()
        async with world.http.get(f"{world.url}/v1/events?token={token}") as response:
            assert response.content_type == "text/event-stream"
            found = [await response.content.readuntil(b"\n\n") for _ in range(2)]
            assert found[0] == b'event: status\ndata: {"state":"dormant"}\n\n'
            world.pairing.forget_phones()
            rest = await response.content.read()
            assert rest.count(b"event:") <= 2

    script(tmp_path, act)


def test_event_streams_are_few(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        token = world.pairing.add_phone()
        open_streams = [
            await world.http.get(f"{world.url}/v1/events?token={token}") for _ in range(events.SUBSCRIBERS_MAX)
        ]
        status, body, headers = await world.call("GET", f"/v1/events?token={token}")
        assert (status, body["type"], headers["Retry-After"]) == (503, "too-many-pages", "5")
        for response in open_streams:
            await response.content.readuntil(b"\n\n")
            response.close()

    script(tmp_path, act)


def test_the_small_page_is_self_contained_and_locked_down(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        async with world.http.get(world.url + "/") as response:
            text = await response.text()
            policy = response.headers["Content-Security-Policy"]
        assert "未激活" in text
        assert "http" not in text.replace("http-equiv", "")
        assert policy == page_policy(text)
        for part in ("default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"):
            assert part in policy
        assert response.headers["Referrer-Policy"] == "no-referrer"

    script(tmp_path, act)


def test_the_built_app_is_served_and_nothing_beside_it(tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "assets").mkdir(parents=True)
    (app / "index.html").write_text("<p>app")
    (app / "assets" / "main-1a2b.js").write_text("1")
    (tmp_path / "secret").write_text("no")

    async def act(world: World) -> None:
        async with world.http.get(world.url + "/") as response:
            assert await response.text() == "<p>app"
            assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        async with world.http.get(world.url + "/assets/main-1a2b.js") as response:
            assert response.status == 200
            assert "immutable" in response.headers["Cache-Control"]
        import yarl

        for path in ("/%2e%2e/secret", "/assets/%2e%2e/%2e%2e/secret", "/%2Fetc/passwd", "/assets"):
            async with world.http.get(yarl.URL(world.url + path, encoded=True)) as response:
                assert response.status == 404, path
        assert (await world.call("GET", "/v1/nothing"))[1]["type"] == "not-found"

    script(tmp_path, act, app)


@pytest.mark.parametrize(
    ("headers", "body", "status", "slug"),
    [
        ("Content-Encoding: gzip\r\nContent-Length: 3", "abc", 415, "encoding-not-taken"),
        ("Content-Encoding: deflate\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", 415, "encoding-not-taken"),
        ("Origin: http://{host}\r\nOrigin: http://evil.test\r\nContent-Length: 2", "{}", 403, "bad-origin"),
        ("Transfer-Encoding: chunked", "2\r\n{}\r\nnot a chunk\r\n", 400, ""),
    ],
)
def test_odd_bodies_are_the_callers_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, headers: str, body: str, status: int, slug: str
) -> None:
    async def run() -> None:
        async with running(tmp_path) as world:
            host = world.url.removeprefix("http://")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(host.partition(":")[2]))
            head = f"POST /v1/lan-tokens HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write((head + headers.replace("{host}", host) + "\r\n\r\n" + body).encode())
            answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode()
            assert answer.split()[1] == str(status)
            if slug:
                assert f'"{slug}"' in (await asyncio.wait_for(reader.read(300), PATIENCE_S)).decode()
            writer.close()

    asyncio.run(run())
    assert not [record for record in caplog.records if record.exc_info]


def test_a_wrong_code_adds_no_phone_whatever_aiohttp_takes_a_response_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until aiohttp 3.8, which Debian 12 has, a response counts as false."""
    monkeypatch.setattr(web.StreamResponse, "__bool__", lambda self: False, raising=False)

    async def act(world: World) -> None:
        status, answer, _ = await world.call("POST", "/v1/lan-tokens", {"setup_code": "wrong"})
        assert (status, answer["type"]) == (403, "wrong-setup-code")

    script(tmp_path, act)
