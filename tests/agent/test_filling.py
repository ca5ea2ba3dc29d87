"""Filling from real sources on real sockets: good ones, lying ones, and ones that break off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from edge_world import DEVICE, MIB, SCHEDULER, FixedClock, manifest_of, new_store, put, some_bytes, world
from fallow_agent.edge import filling
from fallow_agent.edge.content import ContentStore
from fallow_agent.edge.filling import FillConfig, Filler, FillFailed, filling_session
from fallow_agent.line.marking import LOWER_EFFORT_TOS
from fallow_wire.session import Source, Task
from support import NOW, key, make_ticket, signed_ticket

DATA = some_bytes(6 * MIB + 99)
SIGNED = manifest_of(DATA)
OTHER = key(21)
"""The device that fills; DEVICE is the one that serves."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def good(request: web.Request) -> web.Response:
    span = request.http_range
    start, stop = span.start or 0, span.stop or len(DATA)
    headers = {"Content-Range": f"bytes {start}-{min(stop, len(DATA)) - 1}/{len(DATA)}"}
    return web.Response(status=206, body=DATA[start:stop], headers=headers)


@asynccontextmanager
async def source(handler: Callable[[web.Request], web.StreamResponse]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return handler(request)

    app = web.Application()
    app.router.add_get("/object", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/object"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def filler(content: ContentStore, budget_bps: int = 10**11, private: bool = True) -> AsyncIterator[Filler]:
    config = FillConfig(private_sources=private)
    async with filling_session(config) as http:
        yield Filler(content, http, OTHER, FixedClock(), lambda: budget_bps, config)


def task(*sources: Source, deadline: int | None = None) -> Task:
    return Task("task-1", "fill", SIGNED.object_id, SIGNED.token, sources, deadline)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "PAUSE_S_MIN", 0.0)
    monkeypatch.setattr(filling, "PAUSE_S_MAX", 0.0)
    monkeypatch.setattr(filling, "ROUNDS_WITHOUT_PROGRESS_MAX", 3)


def content_of(store: ContentStore) -> bytes:
    return (store.path(SIGNED.object_id)).read_bytes()


def test_from_another_device_with_receipts(tmp_path: Path) -> None:
    async def run() -> None:
        store = new_store(tmp_path / "mine")
        (tmp_path / "theirs").mkdir()
        async with world(tmp_path / "theirs") as device:
            put(device.content, DATA)
            ticket = make_ticket(DEVICE, OTHER, obj=SIGNED.object_id, svc="fill", max_bytes=len(DATA))
            url = f"http://127.0.0.1:{device.port}/o/{SIGNED.object_id}/fill"
            done: list[int] = []
            async with filler(store) as mine:
                await mine.fill(task(Source(url, signed_ticket(ticket, SCHEDULER))), SIGNED, done.append)
            assert content_of(store) == DATA
            assert done[-1] == len(DATA)
            assert done == sorted(done)
            # The last receipt came by POST, so that the device can claim every byte.
            device.service.close_idle()
            assert device.outbox.is_spent(ticket.jti)
            assert device.service.bytes_up_total == len(DATA)

    asyncio.run(run())


def test_bad_sources_are_dropped_and_the_next_takes_over(tmp_path: Path) -> None:
    asked: list[str] = []

    def lying(request: web.Request) -> web.Response:
        asked.append("lying")
        answer = good(request)
        assert isinstance(answer.body, bytes)
        answer.body = answer.body[: MIB + 10] + b"x" + answer.body[MIB + 11 :]
        return answer

    def redirecting(request: web.Request) -> web.Response:
        asked.append("redirecting")
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    def ignoring(request: web.Request) -> web.Response:
        asked.append("ignoring")
        return web.Response(body=DATA)

    def elsewhere(request: web.Request) -> web.Response:
        asked.append("elsewhere")
        answer = good(request)
        answer.headers["Content-Range"] = f"bytes 1-2/{len(DATA)}"
        return answer

    def squeezed(request: web.Request) -> web.Response:
        asked.append("squeezed")
        answer = good(request)
        answer.headers["Content-Encoding"] = "gzip"
        return answer

    async def run() -> None:
        store = new_store(tmp_path)
        async with (
            source(redirecting) as a,
            source(lying) as b,
            source(elsewhere) as c,
            source(squeezed) as d,
            source(ignoring) as e,
            source(good) as f,
            filler(store) as mine,
        ):
            await mine.fill(task(*(Source(url) for url in (a, b, c, d, e, f))), SIGNED, lambda _: None)
        assert content_of(store) == DATA
        assert asked == ["redirecting", "lying", "elsewhere", "squeezed", "ignoring"]

    asyncio.run(run())


def test_a_lying_or_redirecting_source_is_asked_once(tmp_path: Path) -> None:
    asked = 0

    async def run() -> None:
        nonlocal asked
        store = new_store(tmp_path)
        async with source(good) as honest, filler(store) as mine:

            def lying(request: web.Request) -> web.Response:
                nonlocal asked
                asked += 1
                answer = good(request)
                assert isinstance(answer.body, bytes)
                answer.body = b"x" * len(answer.body)
                return answer

            def redirecting(request: web.Request) -> web.Response:
                nonlocal asked
                asked += 1
                return web.Response(status=302, headers={"Location": honest})

            for handler, why in ((lying, "chunk 0 has another digest"), (redirecting, "a redirect")):
                asked = 0
                async with source(handler) as url:
                    with pytest.raises(FillFailed, match=why):
                        await mine.fill(task(Source(url)), SIGNED, lambda _: None)
                assert asked == 1
        assert not store.has(SIGNED.object_id)

    asyncio.run(run())


def test_a_source_that_breaks_off_or_is_busy_is_asked_again(tmp_path: Path) -> None:
    calls = 0

    def shaky(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            return web.Response(status=503, headers={"Retry-After": "0"})
        answer = good(request)
        if calls % 3 == 2:
            assert isinstance(answer.body, bytes)
            answer.body = answer.body[: MIB + 5]
        return answer

    async def run() -> None:
        store = new_store(tmp_path)
        async with source(shaky) as url, filler(store) as mine:
            await mine.fill(task(Source(url)), SIGNED, lambda _: None)
        assert content_of(store) == DATA

    asyncio.run(run())


def test_a_cancelled_fill_resumes_in_a_new_process(tmp_path: Path) -> None:
    ranges: list[str] = []

    def noting(request: web.Request) -> web.Response:
        ranges.append(request.headers["Range"])
        return good(request)

    async def run() -> None:
        store = new_store(tmp_path)
        enough = asyncio.Event()

        def progress(count: int) -> None:
            if count >= 3 * MIB:
                enough.set()

        async with source(noting) as url:
            async with filler(store) as mine:
                running = asyncio.create_task(mine.fill(task(Source(url)), SIGNED, progress), name="fill")
                await enough.wait()
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            ranges.clear()
            again = new_store(tmp_path)
            async with filler(again) as mine:
                first: list[int] = []
                await mine.fill(task(Source(url)), SIGNED, first.append)
            assert first[0] >= 3 * MIB
            assert ranges[0].startswith(f"bytes={first[0] // MIB * MIB}-")
        assert content_of(again) == DATA

    asyncio.run(run())


def test_clear_reasons(tmp_path: Path) -> None:
    async def reason(store: ContentStore, asked: Task, *, private: bool = True, budget_bps: int = 10**11) -> str:
        async with filler(store, budget_bps, private) as mine:
            with pytest.raises(FillFailed) as failed:
                await mine.fill(asked, SIGNED, lambda _: None)
        return failed.value.reason

    async def run() -> None:
        store = new_store(tmp_path / "a")
        assert (await reason(store, task())).startswith("no-source: the task names no source")
        dead = Source("http://127.0.0.1:1/x")
        assert "no source answers" in await reason(store, task(dead))
        assert "its address is private" in await reason(store, task(dead), private=False)
        assert "not http" in await reason(store, task(Source("ftp://a.example/x")))
        stranger = make_ticket(DEVICE, key(30), obj=SIGNED.object_id)
        told = await reason(store, task(Source("http://127.0.0.1:1/x", signed_ticket(stranger, SCHEDULER))))
        assert "another device's" in told
        async with source(good) as url:
            assert (await reason(store, task(Source(url), deadline=NOW))).startswith("deadline")
            assert (await reason(store, task(Source(url), deadline=NOW + 1), budget_bps=0)).startswith("deadline")
            small = new_store(tmp_path / "b", quota_bytes=MIB)
            assert (await reason(small, task(Source(url)))).startswith("no-space")
        async with source(lambda _: web.Response(status=404)) as url:
            assert "status 404" in await reason(store, task(Source(url)))

    asyncio.run(run())


def test_names_that_lead_into_the_home_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        store = new_store(tmp_path)
        async with filler(store, private=False) as mine:
            with pytest.raises(FillFailed, match="no source answers"):
                await mine.fill(task(Source("http://localhost:1/x")), SIGNED, lambda _: None)

    asyncio.run(run())


def test_the_download_budget_is_kept(tmp_path: Path) -> None:
    async def run() -> None:
        store = new_store(tmp_path)
        async with source(good) as url, filler(store, budget_bps=100_000_000) as mine:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await mine.fill(task(Source(url)), SIGNED, lambda _: None)
            # 6 MiB at 100 Mbit/s on the wire are 0.53 s; being faster would be the fault.
            assert loop.time() - began > 0.5

    asyncio.run(run())


def test_a_fill_is_counted_when_it_arrives_and_once(tmp_path: Path) -> None:
    ahead: list[int] = []

    async def run() -> None:
        store = new_store(tmp_path)
        async with source(good) as url, filler(store, budget_bps=100_000_000) as mine:
            await mine.fill(
                task(Source(url)), SIGNED, lambda _: ahead.append(mine.wire_bytes()[1] - mine.bytes_down_total)
            )
            up, down = mine.wire_bytes()
            assert len(DATA) < down < 1.05 * len(DATA)
            assert 0 < up < 0.1 * len(DATA)  # requests and acknowledgements
            assert mine.bytes_down_total == len(DATA)
            assert store.bytes_written_total == len(DATA)
            for transport in mine._carried:
                sock = transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == LOWER_EFFORT_TOS
            assert mine._carried

    asyncio.run(run())
    assert max(ahead) > MIB // 16  # in the kernel, unread, and ours already


def test_what_is_told_of_another_device_names_no_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refusing(request: web.Request) -> web.Response:
        return web.Response(status=403)

    async def run() -> None:
        store = new_store(tmp_path)
        ticket = make_ticket(DEVICE, OTHER, obj=SIGNED.object_id, svc="fill", max_bytes=len(DATA))
        token = signed_ticket(ticket, SCHEDULER)
        async with source(refusing) as url, filler(store) as mine:
            port = url.rpartition(":")[2].removesuffix("/object")
            with pytest.raises(FillFailed) as failed:
                await mine.fill(task(Source(url, token), Source(url, "no ticket")), SIGNED, lambda done: None)
            assert DEVICE.public.device_id() in failed.value.detail
            closed = "http://127.0.0.1:1/object"
            with pytest.raises(FillFailed):
                await mine.fill(task(Source(closed, token)), SIGNED, lambda done: None)
        said = "\n".join(record.getMessage() for record in caplog.records if record.name == filling.__name__)
        assert "Connection refused" in said
        for told in (failed.value.detail, said):
            assert "127.0.0.1" not in told
            assert port not in told

    with caplog.at_level("INFO"):
        asyncio.run(run())
