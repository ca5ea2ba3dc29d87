"""Downloads from devices that speak the real wire, tickets and receipts enforced: one lies, one is slow, one dies."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from fallow_client import fetch_plan
from fallow_client.errors import ApiError, BadAnswer, ClientError, FetchFailed
from fallow_client.fetch import Config, FetchResult, fetch
from fallow_client.locations import location_of, safe_name
from fallow_client.part_file import OrderedStream, PartFile
from fallow_wire.errors import PeerError
from fallow_wire.fields import decode, encode
from fallow_wire.http import requested_span
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet, PrivateKey, PublicKey
from fallow_wire.limits import MIB
from fallow_wire.manifest import ManifestBuilder
from fallow_wire.plans import Plan, PlanRequest, PlanSource
from fallow_wire.tickets import Ticket, unacknowledged_bytes_max, verify_receipt, verify_ticket
from support import PATIENCE_S, key, make_ticket, signed_ticket

T = TypeVar("T")
SCHEDULER_KEY = key(1)
QUICK = Config(
    machine=fetch_plan.Config(rest_ms_min=20, replan_ms_min=50, hedge_after_ms_min=100, hedge_origin_after_ms_min=200),
    connect_s=2,
    stall_s=2,
    tick_s=0.02,
    receipt_after_s=0.1,
)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


class TicketBook:
    """What a device knows of one ticket."""

    def __init__(self, ticket: Ticket, heard: asyncio.Event) -> None:
        self.ticket = ticket
        self.heard = heard
        self.sent = 0
        self.n = 0
        self.confirmed = 0
        self.changed = asyncio.Event()

    def take(self, token: str) -> None:
        receipt = verify_receipt(token, self.ticket).value
        assert receipt.bytes <= self.sent, "the receipt confirms bytes that were not sent"
        if receipt.n > self.n:
            assert receipt.bytes >= self.confirmed
            self.n, self.confirmed = receipt.n, receipt.bytes
            self.changed.set()
            self.heard.set()


class FakeDevice:
    """A service port. ``behaviour``: good, lying, slow (half a chunk, then nothing), tiring (slow once 2 MiB are
    confirmed), dying (closes after 2 chunks), busy (503), gone (404)."""

    def __init__(self, network: FakeNetwork, number: int, behaviour: str) -> None:
        self.key = key(100 + number)
        self.id = self.key.public.device_id()
        self.network = network
        self.behaviour = behaviour
        self.books: dict[str, TicketBook] = {}
        self.requests = 0
        self.violations: list[str] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        ticket = verify_ticket(request.query["ticket"], {self.network.kid: SCHEDULER_KEY.public}.get).value
        if ticket.aud != self.id or ticket.obj != self.network.object_id:
            self.violations.append("a ticket for somebody else")
            return web.Response(status=403)
        if self.behaviour == "busy":
            return web.Response(status=503, headers={"Retry-After": "1"})
        if self.behaviour == "gone" or (self.behaviour == "dying" and self.requests > 2):
            if self.behaviour == "dying" and request.transport is not None:
                request.transport.abort()
            return web.Response(status=404)
        book = self.books.setdefault(ticket.jti, TicketBook(ticket, self.network.heard))
        if "Fallow-Receipt" in request.headers:
            book.take(request.headers["Fallow-Receipt"])
        data = self.network.data
        span = requested_span(request.headers.get("Range"), None, len(data), "")
        if book.confirmed + span.length > ticket.max_bytes:
            self.violations.append("more than the ticket allows")
        body = data[span.start : span.start + span.length]
        if self.behaviour == "lying":
            body = bytes([body[0] ^ 1]) + body[1:]
        response = web.StreamResponse(status=206, headers={"Content-Range": span.content_range()})
        response.content_length = span.length
        await response.prepare(request)
        for at in range(0, len(body), 64 * 1024):
            piece = body[at : at + 64 * 1024]
            if book.sent + len(piece) > book.confirmed + unacknowledged_bytes_max(book.confirmed):
                self.violations.append("asked for beyond the window")
                book.changed.clear()
                await asyncio.wait_for(book.changed.wait(), PATIENCE_S)
            book.sent += len(piece)
            await response.write(piece)
            if (self.behaviour == "slow" and at >= len(body) // 2) or (
                self.behaviour == "tiring" and self.confirmed >= 2 * MIB
            ):
                self.network.stalled.set()
                await self.network.released.wait()
        return response

    async def receipts(self, request: web.Request) -> web.Response:
        token = await request.text()
        for book in self.books.values():
            try:
                book.take(token)
            except PeerError:
                continue
            return web.Response(status=204)
        return web.Response(status=403)

    @property
    def confirmed(self) -> int:
        return sum(book.confirmed for book in self.books.values())


class FakeNetwork:
    """A scheduler with one object, and devices."""

    def __init__(self, size: int, behaviours: list[str], *, origin: bool = True, max_bytes: int | None = None) -> None:
        self.data = os.urandom(size)
        builder = ManifestBuilder()
        builder.feed(self.data)
        manifest = builder.finish()
        self.object_id = manifest.object_id()
        self.kid = SCHEDULER_KEY.public.thumbprint()
        self.manifest = sign(Kind.MANIFEST, manifest, SCHEDULER_KEY)
        self.devices = [FakeDevice(self, number, behaviour) for number, behaviour in enumerate(behaviours)]
        self.origin_works = origin
        self.origin_waits = False
        self.origin_bytes = 0
        self.plans = 0
        self.max_bytes = max_bytes or max(size, 1)
        self.url = ""
        self.released = asyncio.Event()
        self.stalled = asyncio.Event()
        self.heard = asyncio.Event()
        self.name = "file.bin"
        self.published_key = SCHEDULER_KEY.public

    async def jwks(self, request: web.Request) -> web.Response:
        return web.json_response(encode(JwkSet((self.published_key.jwk(with_kid=True),))))

    async def plan(self, request: web.Request) -> web.Response:
        self.plans += 1
        wanted = decode(PlanRequest, await request.json(), strict=False)
        if wanted.object != self.object_id:
            problem = {"type": "no-such-object", "title": "No such object", "status": 404, "remedy": "check the id"}
            return web.json_response(problem, status=404, content_type="application/problem+json")
        consumer = PublicKey.from_jwk(wanted.jwk)
        sources = []
        for device in self.devices:
            ticket = make_ticket(
                device.key,
                _Holder(consumer),
                obj=self.object_id,
                max_bytes=self.max_bytes,  # type: ignore[arg-type]
            )
            url = f"{device.url}/o/{self.object_id}/{self.name}"
            sources.append(PlanSource(device.id, url, signed_ticket(ticket, SCHEDULER_KEY)))
        origin = f"{self.url}/o/{self.object_id}/{self.name}?source=origin"
        answer = Plan(self.object_id, self.name, self.manifest, tuple(sources), origin, int(time.time()) + 600)
        return web.json_response(encode(answer))

    async def origin(self, request: web.Request) -> web.Response:
        if not self.origin_works:
            return web.Response(status=500)
        if self.origin_waits:
            await self.released.wait()
        span = requested_span(request.headers.get("Range"), None, len(self.data), "")
        self.origin_bytes += span.length
        headers = {"Content-Range": span.content_range()}
        return web.Response(status=206, body=self.data[span.start : span.start + span.length], headers=headers)

    async def until_confirmed(self, count: int) -> None:
        while sum(device.confirmed for device in self.devices) < count:
            self.heard.clear()
            await self.heard.wait()

    def check(self) -> None:
        for device in self.devices:
            assert device.violations == []


class _Holder:
    """What :func:`make_ticket` reads of a consumer's key."""

    def __init__(self, public: PublicKey) -> None:
        self.public = public


async def _listen(application: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@asynccontextmanager
async def running(network: FakeNetwork) -> AsyncIterator[FakeNetwork]:
    runners = []
    application = web.Application()
    application.router.add_get("/.well-known/jwks.json", network.jwks)
    application.router.add_post("/v1/plans", network.plan)
    application.router.add_get("/o/{id}/{name}", network.origin)
    runner, network.url = await _listen(application)
    runners.append(runner)
    for device in network.devices:
        application = web.Application()
        application.router.add_get("/o/{id}/{name}", device.serve)
        application.router.add_post("/v1/receipts", device.receipts)
        runner, device.url = await _listen(application)
        runners.append(runner)
    try:
        yield network
    finally:
        network.released.set()
        for runner in runners:
            await runner.cleanup()


async def download(network: FakeNetwork, path: Path, config: Config = QUICK) -> FetchResult:
    location = location_of(f"{network.url}/o/{network.object_id}/{network.name}")
    result = await fetch(location, lambda name: PartFile(path), config=config)
    assert path.read_bytes() == network.data  # noqa: ASYNC240 - nothing else runs in this loop
    assert not path.with_name(path.name + ".part").exists()
    assert sum(result.bytes_by_source.values()) + result.resumed_bytes == len(network.data) == result.size
    return result


def test_four_devices_bring_it_all_and_every_byte_is_confirmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(21 * MIB + 77, ["good"] * 4)) as network:
            # However slow this computer is: nobody is helped.
            patient = fetch_plan.Config(silent_ms_min=600_000, hedge_after_ms_min=600_000, slow_chunk_ms=600_000)
            result = await download(network, tmp_path / "file.bin", Config(machine=patient))
            assert network.origin_bytes == 0
            assert result.device_bytes == result.size
            assert sum(device.confirmed for device in network.devices) == result.size
            for device in network.devices:
                assert device.confirmed == result.bytes_by_source[device.id] > 0
            network.check()

    run(scenario())


def test_a_lying_a_slow_and_a_dying_device_do_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(12 * MIB, ["lying", "slow", "dying", "good"])) as network:
            result = await download(network, tmp_path / "file.bin")
            lying, slow, dying, good = network.devices
            assert list(result.dropped) == [lying.id]
            assert lying.id not in result.bytes_by_source
            assert lying.confirmed == slow.confirmed == 0
            assert dying.confirmed <= 2 * MIB
            assert good.confirmed == result.bytes_by_source[good.id] >= 6 * MIB
            network.check()

    run(scenario())


@pytest.mark.parametrize("behaviour", ["gone", "busy", "lying"])
def test_the_origin_serves_when_no_device_does(tmp_path: Path, behaviour: str) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(3 * MIB, [behaviour])) as network:
            result = await download(network, tmp_path / "file.bin")
            assert result.bytes_by_source == {"origin": 3 * MIB}

    run(scenario())


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1])
def test_sizes_at_the_edges_of_chunks(tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(size, ["good"])) as network:
            await download(network, tmp_path / "file.bin")
            network.check()

    run(scenario())


def test_used_up_tickets_are_replaced_by_a_new_plan(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(9 * MIB, ["good", "good"], origin=False, max_bytes=2 * MIB)) as network:
            await download(network, tmp_path / "file.bin")
            assert network.plans >= 3
            assert sum(device.confirmed for device in network.devices) == 9 * MIB
            network.check()

    run(scenario())


def test_when_nobody_can_bring_it_the_part_file_stays_and_is_resumed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(5 * MIB, ["dying"], origin=False)) as network:
            path = tmp_path / "file.bin"
            with pytest.raises(FetchFailed) as failed:
                await download(network, path)
            assert "resumes" in failed.value.remedy
            assert not path.exists()
            assert path.with_name("file.bin.part").exists()
            network.devices[0].behaviour = "good"
            result = await download(network, path)
            assert 0 < result.resumed_bytes <= 2 * MIB

    run(scenario())


def test_a_cancelled_download_confirms_what_it_kept_and_resumes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(6 * MIB, ["good", "slow"], origin=False)) as network:
            path = tmp_path / "file.bin"
            # No hedging: the slow device's chunks stay open until we cancel.
            config = Config(machine=fetch_plan.Config(hedge_after_ms_min=60_000), tick_s=0.02)
            task = asyncio.create_task(download(network, path, config))
            await network.stalled.wait()
            await network.until_confirmed(2 * MIB)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            good, slow = network.devices
            kept = good.confirmed
            assert slow.confirmed == 0
            slow.behaviour = "good"
            result = await download(network, path)
            assert result.resumed_bytes >= kept >= 2 * MIB

    run(scenario())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_stopped_command_resumes_from_what_is_in_the_part_file(tmp_path: Path, number: int, code: int) -> None:
    async def scenario() -> None:
        # However late the signal comes, the command is still at work: nobody brings it to the end, or says no.
        async with running(FakeNetwork(6 * MIB, ["slow", "tiring"])) as network:
            network.origin_waits = True
            path = tmp_path / "file.bin"
            # A shell that runs the tests in the background has them, and so their children, ignore SIGINT.
            program = (
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
                " from fallow_client.cli import main; main()"
            )
            url = f"{network.url}/o/{network.object_id}/file.bin"
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, "fetch", url, "-o", str(path)), stderr=asyncio.subprocess.PIPE
            )
            await network.stalled.wait()
            await network.until_confirmed(2 * MIB)
            child.send_signal(number)
            _, errors = await child.communicate()
            assert child.returncode == code
            assert errors.decode().strip() == ("" if number == signal.SIGKILL else "error: interrupted")
            network.origin_waits = False
            for device in network.devices:
                device.behaviour = "good"
            result = await download(network, path)
            assert result.resumed_bytes >= 2 * MIB

    run(scenario())


def test_a_damaged_part_file_is_repaired(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(3 * MIB, ["good"])) as network:
            path = tmp_path / "file.bin"
            part = path.with_name("file.bin.part")
            damaged = bytearray(network.data)
            damaged[MIB + 5] ^= 1
            part.write_bytes(bytes(damaged) + b"and more")
            result = await download(network, path)
            assert result.resumed_bytes == 2 * MIB

    run(scenario())


def test_two_downloads_do_not_share_a_part_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(2 * MIB, ["slow"], origin=False)) as network:
            path = tmp_path / "file.bin"
            config = Config(machine=fetch_plan.Config(hedge_after_ms_min=60_000))
            first = asyncio.create_task(download(network, path, config))
            await network.stalled.wait()
            with pytest.raises(ClientError, match="another fetch"):
                await download(network, path)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    run(scenario())


def test_a_stream_gets_the_bytes_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(9 * MIB + 1, ["good", "slow", "good"])) as network:
            stream = io.BytesIO()
            location = location_of(network.object_id, network.url)
            result = await fetch(location, lambda name: OrderedStream(stream, ahead_chunks_max=3), config=QUICK)
            assert stream.getvalue() == network.data
            assert result.name == "file.bin"
            network.check()

    run(scenario())


def test_a_manifest_of_another_key_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(MIB, ["good"])) as network:
            network.published_key = PrivateKey.generate().public
            with pytest.raises(BadAnswer, match="manifest"):
                await download(network, tmp_path / "file.bin")

    run(scenario())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_object_is_named_with_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(FakeNetwork(MIB, [])) as network:
            network.object_id = "f" * 64
            location = location_of("e" * 64, network.url)
            with pytest.raises(ApiError) as refused:
                await fetch(location, lambda name: PartFile(tmp_path / name))
            assert (refused.value.problem.type, refused.value.remedy) == ("no-such-object", "check the id")

    run(scenario())


def test_locations() -> None:
    object_id = "a1" * 32
    found = location_of(f"https://cdn.example/fallow/o/{object_id}/a%20b.iso")
    assert (found.scheduler, found.object_id, found.name) == ("https://cdn.example/fallow", object_id, "a b.iso")
    assert location_of(object_id, "http://x/").scheduler == "http://x"
    for wrong in (object_id, "http://x/", f"ftp://x/o/{object_id}/n", "http://x/o/abc/n", "x"):
        with pytest.raises(ClientError):
            location_of(wrong)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\passwd", "a/../passwd"])
def test_a_server_does_not_choose_the_directory(name: str) -> None:
    assert safe_name(name, "id") == "passwd"


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/.."])
def test_a_name_that_is_none_becomes_the_id(name: str) -> None:
    assert safe_name(name, "id") == "id"
