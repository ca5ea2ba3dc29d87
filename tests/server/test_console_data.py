"""What the console's pages show: history, capacity, lists, tasks of all, and the ledger's calls passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from console_world import populate
from fallow_server.console.history import PERIOD_S
from fallow_server.console.ledger import CALLS
from fallow_server.delivery.router import Routing
from fallow_server.scheduling.places import Place
from server_world import MovableClock, ServerWorld, running_server


async def get(world: ServerWorld, path: str, token: str | None = None) -> Any:
    answer = await world.call("GET", path, token or world.operator_token)
    assert answer.status == 200, (answer.status, answer.body)
    return answer.json


async def publish(world: ServerWorld, token: str, name: str, data: bytes) -> str:
    answer = await world.call("POST", f"/v1/objects?name={name}&replicas=0", token, data=data)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


@pytest.mark.both_databases
def test_history_tells_what_was_asked_for_and_who_sent_it(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            token = (await world.account("publisher"))["token"]
            data = b"x" * 300_000
            path = f"/o/{await publish(world, token, 'a.bin', data)}/a.bin"
            history = world.scheduler.console.history
            assert (await get(world, "/console/history"))["at"] == []
            start = clock.now() // PERIOD_S * PERIOD_S
            # Nobody holds it, so it is asked for and sent from here; a device that fills is no consumer.
            assert (await world.call("GET", path)).body == data
            assert (await world.call("GET", f"{path}?source=origin&fill=1")).body == data
            history.routed(Routing("0" * 64, 1, 1000, Place(1, "DE"), [("device", 1)], None))
            await history.write(start)
            # Asked for at the origin after a device failed: sent, and not asked for again.
            assert (await world.call("GET", f"{path}?source=origin")).body == data
            await populate(world, 3, 3)
            await history.write(start)
            told = await get(world, "/console/history")
            row = {name: values for name, values in told.items() if name != "step_s"}
            assert row == {
                "at": [start],
                "requests": [2],
                "asked_bytes": [301_000],
                "routed_bytes": [1000],
                "origin_bytes": [600_000],
                "filled_bytes": [300_000],
                "connected": [3],
                "reachable": [2],
                "idle_up_bps": [3_003_000],
            }
            history.routed(Routing("0" * 64, 1, 500, Place(1, "DE"), [("device", 1)], None))
            await history.write(start + PERIOD_S)
            assert (await get(world, "/console/history?span=day"))["asked_bytes"] == [301_000, 500]
            month = await get(world, "/console/history?span=month")
            assert sum(month["asked_bytes"]) == 301_500
            assert month["step_s"] == 7200
            assert (await world.call("GET", "/console/history?span=year", world.operator_token)).slug == "malformed"
            # It is bounded: what is older than it is kept for goes.
            clock.moved_s += 32 * 86_400
            await history.write(clock.now())
            kept = await world.scheduler.database.ask(lambda rows: rows.all("SELECT at FROM history"))
            assert len(kept) == 1

    asyncio.run(run())


def test_history_outlives_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            await world.scheduler.console.history.write(clock.now())
        async with running_server(tmp_path, clock, operator_token=world.operator_token) as world:
            assert len((await get(world, "/console/history"))["at"]) >= 1

    asyncio.run(run())


def test_capacity_is_what_active_devices_foresee_and_demand_what_was_asked(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            await populate(world, 5, 5)  # two of them can be reached
            paused = world.scheduler.fleet.get("fd" + "0" * 25)
            assert paused is not None
            first = await get(world, "/console/capacity")
            assert first["connected_bps"] == [5 * 30_000_000] * 24
            assert first["reachable_bps"] == [2 * 30_000_000] * 24
            assert first["demand_bps"] == [0] * 24
            for hour in range(30):
                world.scheduler.spreading.note("0" * 64, Place(1, "DE"), 10**9, clock.now() - 3600 * (30 - hour))
            assert await get(world, "/console/capacity") == first  # it is not made again for each who looks
            clock.moved_s += 61
            assert min((await get(world, "/console/capacity"))["demand_bps"]) > 0

    asyncio.run(run())


@pytest.mark.both_databases
def test_lists_are_searched_sorted_and_a_publishers_own(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            ada, eve = await world.account("publisher", "Ada"), await world.account("publisher", "Eve_%")
            for number in range(3):
                await publish(world, ada["token"], f"film-{number}.mp4", b"a" * (100 - number))
            shared = await publish(world, eve["token"], "same.bin", b"a" * 100)  # the bytes of film-0
            for name, who in (("pub", ada), ("other", eve)):
                site = {"name": name, "origin": f"https://{name}.example.org/"}
                assert (await world.call("POST", "/v1/sites", who["token"], json=site)).status == 201

            everything = await get(world, "/console/objects?sort=-size&limit=2")
            assert everything["total"] == 4
            assert [one["size"] for one in everything["objects"]] == [100, 100]
            mine = await get(world, "/console/objects?sort=name", ada["token"])
            assert [one["name"] for one in mine["objects"]] == ["film-0.mp4", "film-1.mp4", "film-2.mp4"]
            assert {one["publisher_name"] for one in mine["objects"]} == {"Ada"}
            # A filter cannot lead out of one's own.
            theirs = await get(world, f"/console/objects?publisher={ada['id']}", eve["token"])
            assert [one["id"] for one in theirs["objects"]] == [shared]
            assert [one["name"] for one in (await get(world, "/console/sites", eve["token"]))["sites"]] == ["other"]
            assert (await get(world, "/console/sites?q=PUB"))["total"] == 1
            found = await get(world, "/console/objects?q=film-1")
            assert found["objects"][0]["url"].startswith(world.scheduler.catalogue._public_url + "/o/")

            names = [
                one["name"] for one in (await get(world, "/console/accounts?role=publisher&sort=-name"))["accounts"]
            ]
            assert names == ["Eve_%", "Ada"]
            for search, count in (("_%25", 1), ("%25", 1), ("eve", 1), ("\\", 0), ("' OR 1=1 --", 0)):
                assert (await get(world, f"/console/accounts?q={search}"))["total"] == count, search
            for bad in ("sort=tokens;--", "sort=hash", "page=x"):
                assert (await world.call("GET", f"/console/accounts?{bad}", world.operator_token)).slug == "malformed"

    asyncio.run(run())


@pytest.mark.both_databases
def test_an_operator_sees_tasks_of_all_the_newest_first(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            ada, eve = await world.account("publisher", "Ada"), await world.account("publisher", "Eve")
            made = []
            for number, who in enumerate((ada, eve, ada)):
                object_id = await publish(world, who["token"], "x", b"%d" % number)
                task = {"kind": "fill", "object": object_id, "replicas": 1}
                answer = await world.call("POST", "/v1/tasks", who["token"], json=task)
                made.append(answer.json["id"])
            assert [one["id"] for one in await get(world, "/v1/tasks")] == made
            newest = await get(world, "/v1/tasks?order=newest&limit=2")
            assert [(one["id"], one["publisher"]) for one in newest] == [(made[2], ada["id"]), (made[1], eve["id"])]
            after = await get(world, f"/v1/tasks?order=newest&after={made[1]}")
            assert [one["id"] for one in after] == [made[0]]
            assert [one["id"] for one in await get(world, "/v1/tasks?order=newest", eve["token"])] == [made[1]]
            await world.call("DELETE", f"/v1/tasks/{made[0]}", ada["token"])
            assert [one["id"] for one in await get(world, "/v1/tasks?state=cancelled")] == [made[0]]
            told = await get(world, f"/v1/tasks/{made[1]}")
            assert (told["id"], told["publisher"]) == (made[1], eve["id"])
            assert "publisher" not in await get(world, f"/v1/tasks/{made[1]}", eve["token"])
            assert (await world.call("GET", "/v1/tasks?state=lost", world.operator_token)).slug == "malformed"
            # Nobody else's, but an operator's decision ends anybody's.
            assert (await world.call("DELETE", f"/v1/tasks/{made[1]}", ada["token"])).status == 404
            ended = await world.call("DELETE", f"/v1/tasks/{made[1]}", world.operator_token)
            assert (ended.status, ended.json["state"]) == (200, "cancelled")
            assert (await get(world, f"/v1/tasks/{made[1]}", eve["token"]))["state"] == "cancelled"

    asyncio.run(run())


def test_the_ledger_decides_itself_on_what_is_passed_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            ada, eve = await world.account("publisher", "Ada"), await world.account("publisher", "Eve")
            await world.told()
            deposit = {"publisher": ada["id"], "micro_points": 7}
            once = {"Idempotency-Key": "k"}
            path = "/console/ledger/v1/deposits"
            for _ in range(2):
                answer = await world.call("POST", path, world.operator_token, json=deposit, headers=once)
                assert answer.status == 201, answer.body
            mine = await world.call("GET", "/console/ledger/v1/accounts/me", ada["token"])
            assert mine.json["escrow"] == 7
            tag = {"If-None-Match": mine.headers["ETag"]}
            assert (await world.call("GET", "/console/ledger/v1/accounts/me", ada["token"], headers=tag)).status == 304
            other = await world.call("GET", f"/console/ledger/v1/accounts/{ada['id']}", eve["token"])
            assert (other.status, other.slug) == (403, "forbidden")
            problem = await world.call("POST", path, world.operator_token, json=deposit)
            assert problem.status == 400  # without its key, in the ledger's own words
            csv = await world.call("GET", "/console/ledger/v1/accounts/me/statements", ada["token"])
            month = csv.json[0]["month"]
            table = await world.call(
                "GET", f"/console/ledger/v1/accounts/me/statements/{month}?format=csv", ada["token"]
            )
            assert table.headers["Content-Type"].startswith("text/csv")
            # One part of a path stays one.
            for part in ("..", "%2e%2e", "me%2fentries", "..%2ftariffs"):
                answer = await world.call("GET", f"/console/ledger/v1/accounts/{part}", ada["token"])
                assert answer.status in (403, 404), (part, answer.body)
            assert (await world.call("GET", "/console/ledger/v1/export", world.operator_token)).status == 404
            assert not [call for call in CALLS if "link" in call[1] or "proofs" in call[1] or "export" in call[1]]

    asyncio.run(run())


def test_a_ledger_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, link={"address": "http://127.0.0.1:9"}) as world:
            answer = await world.call("GET", "/console/ledger/v1/reports", world.operator_token)
            assert (answer.status, answer.slug) == (503, "ledger-unreachable")
            assert (await world.call("GET", "/console/fleet/summary", world.operator_token)).status == 200

    asyncio.run(run())


@asynccontextmanager
async def ledger_elsewhere(answer: Handler) -> AsyncIterator[str]:
    """A stand-in for the ledger on loopback that answers all alike; gives its address."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_nobody_is_signed_out_whom_the_ledger_does_not_know_yet(tmp_path: Path) -> None:
    async def run() -> None:
        async def unknown(request: web.Request) -> web.Response:
            return web.json_response({}, status=401)

        async with (
            ledger_elsewhere(unknown) as address,
            running_server(tmp_path, link={"address": address}) as world,
        ):
            behind = await world.call("GET", "/console/ledger/v1/accounts/me", world.operator_token)
            assert (behind.status, behind.slug) == (503, "ledger-behind")
            assert behind.headers["Retry-After"] == "5"

    asyncio.run(run())


def test_the_ledger_elsewhere_sees_the_callers_token_and_nothing_of_the_browser(tmp_path: Path) -> None:
    async def run() -> None:
        seen: list[tuple[str, dict[str, str]]] = []

        async def answer(request: web.Request) -> web.Response:
            seen.append((request.raw_path, {name.lower(): value for name, value in request.headers.items()}))
            return web.json_response([])

        async with (
            ledger_elsewhere(answer) as address,
            running_server(tmp_path, link={"address": address}) as world,
        ):
            signed = await world.call("POST", "/console/session", json={"token": world.operator_token})
            headers = {
                "Cookie": signed.headers["Set-Cookie"].partition(";")[0],
                "X-Fallow-Session": signed.json["csrf"],
                "X-Forwarded-For": "203.0.113.1",
            }
            told = await world.call("GET", "/console/ledger/v1/reviews?state=open&x=%26", headers=headers)
            assert told.json == []
            path, sent = next(one for one in seen if one[0].startswith("/v1/reviews"))
            assert path == "/v1/reviews?state=open&x=%26"
            assert sent["authorization"] == f"Bearer {world.operator_token}"
            assert not {"cookie", "x-fallow-session", "x-forwarded-for"} & sent.keys()

    asyncio.run(run())
