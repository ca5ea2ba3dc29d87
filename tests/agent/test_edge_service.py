"""The service port as its callers see it, on a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path

import aiohttp
import pytest
from edge_world import CONSUMER, DEVICE, MIB, Caller, World, manifest_of, put, receipt, some_bytes, world
from fallow_agent.edge import turns
from fallow_agent.edge.admission import line_busy
from fallow_agent.edge.turns import AT_ONCE_MIN
from fallow_wire.encoding import from_base64url
from fallow_wire.errors import UnsatisfiableRange
from fallow_wire.http import repr_digest, requested_span
from fallow_wire.keys import PublicKey
from fallow_wire.lan import Limits
from fallow_wire.session import DialBackAnswer, dial_back_input
from hypothesis import given, settings
from hypothesis import strategies as st
from support import NOW, key, make_ticket, signed_ticket, stopwatch

DATA = some_bytes(3 * MIB + 12_345)


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    """Let the loop run until ``condition()``; the test's timeout ends it otherwise."""
    while not condition():  # noqa: ASYNC110 - it has no event; sleep(0) only lets the others run
        await asyncio.sleep(0)


def test_whole_object_and_its_fields(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, DATA))
            caller = await Caller.connect(device.port)
            answer = await caller.call(device.url(ticket))
            assert answer.status == 200
            assert answer.body == DATA
            assert answer.fields["etag"] == f'"{ticket.obj}"'
            assert answer.fields["content-type"] == "video/mp4"
            assert answer.fields["accept-ranges"] == "bytes"
            assert answer.fields["repr-digest"] == repr_digest(hashlib.sha256(DATA).digest())
            assert answer.fields["access-control-allow-origin"] == "*"
            assert "Repr-Digest" in answer.fields["access-control-expose-headers"]
            assert "date" in answer.fields
            assert device.service.bytes_up_total == len(DATA)
            await caller.close()

    asyncio.run(run())


def test_keep_alive_ranges_head_and_validators(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, DATA))
            url = device.url(ticket)
            caller = await Caller.connect(device.port)

            head = await caller.call(url, "HEAD")
            assert (head.status, head.fields["content-length"]) == (200, str(len(DATA)))

            resumed = await caller.call(url, Range=f"bytes={MIB}-")
            assert (resumed.status, resumed.body) == (206, DATA[MIB:])
            assert resumed.fields["content-range"] == f"bytes {MIB}-{len(DATA) - 1}/{len(DATA)}"

            tail = await caller.call(url, Range="bytes=-5")
            assert (tail.status, tail.body) == (206, DATA[-5:])

            for bad in ("bytes=-0", f"bytes={len(DATA)}-"):
                refused = await caller.call(url, Range=bad)
                assert refused.status == 416
                assert refused.fields["content-range"] == f"bytes */{len(DATA)}"

            many = await caller.call(url, Range="bytes=0-1,4-5")
            assert (many.status, many.body) == (200, DATA)

            etag = f'"{ticket.obj}"'
            for tag, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
                answer = await caller.call(url, Range="bytes=0-9", If_Range=tag)
                assert answer.status == status
                assert answer.body == (DATA[:10] if status == 206 else DATA)

            for asked in ("bytes=0-1", "bytes=-0"):
                assert (await caller.call(url, If_None_Match=f'"x", {etag}', Range=asked)).status == 304
                assert (await caller.call(url, "HEAD", Range=asked)).status == 200
            assert (await caller.call(url, Range="bytes=0-0")).body == DATA[:1]
            await caller.close()

    asyncio.run(run())


def test_empty_object(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            url = device.url(device.ticket(put(device.content, b"")))
            caller = await Caller.connect(device.port)
            assert (await caller.call(url)).body == b""
            assert (await caller.call(url, Range="bytes=0-0")).status == 416
            await caller.close()

    asyncio.run(run())


def test_any_range_header_is_answered_as_the_reference_slice(tmp_path: Path) -> None:
    """Real server, many headers over one connection; the reference is a slice of the bytes."""
    small = some_bytes(1000, 5)
    number = st.integers(0, 1200).map(str) | st.just("")
    header = st.builds("bytes={}-{}".format, number, number) | st.text("0123456789-,= bytes", max_size=20)
    loop = asyncio.new_event_loop()
    context = world(tmp_path)
    device: World = loop.run_until_complete(context.__aenter__())
    object_id = put(device.content, small)
    caller = loop.run_until_complete(Caller.connect(device.port))

    @settings(max_examples=60)
    @given(header)
    def check(asked: str) -> None:
        ticket = device.ticket(object_id)
        answer = loop.run_until_complete(caller.call(device.url(ticket), Range=asked))
        try:
            span = requested_span(asked, None, len(small), f'"{object_id}"')
        except UnsatisfiableRange:
            assert answer.status == 416
            return
        assert answer.status == (206 if span.partial else 200)
        assert answer.body == small[span.start : span.start + span.length]

    try:
        check()
        loop.run_until_complete(caller.close())
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()


def test_refusals_in_order(tmp_path: Path) -> None:
    """Each ticket has the fault named, and every later fault in the list too: the first must be the one told."""

    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, DATA)
            caller = await Caller.connect(device.port)

            async def refused(url: str, **fields: str) -> tuple[int, str]:
                answer = await caller.call(url, **fields)
                assert answer.fields["content-type"] == "application/problem+json"
                assert answer.fields["access-control-allow-origin"] == "*"
                return answer.status, json.loads(answer.body)["type"]

            device.refusal = line_busy("the household", 30)
            device.limits = Limits(services={"probe": False}, connections_max=0)
            other = "f" * 64
            base = f"http://127.0.0.1:{device.port}/o/{object_id}/x"
            foreign = make_ticket(key(9), obj=other, exp=NOW - 100, iat=NOW - 200, nbf=NOW - 200, svc="probe")
            forged = signed_ticket(foreign, key(8))
            assert await refused(base) == (403, "bad-ticket")
            assert await refused(f"{base}?ticket=a.b.c") == (403, "bad-ticket")
            assert await refused(f"{base}?ticket={'a' * 5000}") == (403, "bad-ticket")
            assert await refused(f"{base}?ticket={forged}&ticket={forged}") == (403, "bad-ticket")
            assert await refused(f"{base}?ticket={forged}") == (403, "bad-ticket")
            assert await refused(device.url(foreign, object_id=object_id)) == (403, "wrong-device")

            early = device.ticket(other, nbf=NOW + 60, exp=NOW + 600, svc="probe")
            assert await refused(device.url(early, object_id=object_id)) == (403, "bad-ticket")
            old = device.ticket(other, exp=NOW - 100, iat=NOW - 200, nbf=NOW - 200, svc="probe")
            assert await refused(device.url(old, object_id=object_id)) == (403, "ticket-expired")
            elsewhere = device.ticket(other, svc="probe")
            assert await refused(device.url(elsewhere, object_id=object_id)) == (403, "wrong-object")
            assert await refused(device.url(device.ticket(other, svc="probe"))) == (503, "paused")
            assert await refused(device.url(device.ticket(other))) == (404, "not-held")
            covered = device.ticket(object_id, max_bytes=10)
            assert await refused(device.url(covered), Range="bytes=9999999-") == (416, "range-not-satisfiable")
            assert await refused(device.url(covered)) == (403, "ticket-spent")
            good = device.url(device.ticket(object_id))
            busy = await caller.call(good)
            assert (busy.status, busy.fields["retry-after"]) == (503, "30")
            device.refusal, device.table_max = None, 0
            full = await caller.call(good)
            assert (full.status, json.loads(full.body)["type"]) == (503, "too-many")
            assert full.fields["retry-after"] == "60"
            device.table_max = 1000
            assert await refused(good) == (429, "too-many")
            device.limits = Limits()
            assert (await caller.call(good, Range="bytes=0-9")).status == 206
            assert device.outbox.open_tickets()[0].bytes == 0  # saved before the first byte, counted within a second
            await caller.close()

    asyncio.run(run())


def test_complete_legacy_ticket_is_sealed_and_spent(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, DATA), max_bytes=len(DATA))
            url = device.url(ticket)
            caller = await Caller.connect(device.port)
            assert (await caller.call(url, Range="bytes=0-999999")).status == 206
            assert (await caller.call(url, Range="bytes=500000-")).status == 206
            assert (await caller.call(url, Range="bytes=0-0")).status == 403
            device.service.close_idle()
            assert device.outbox.is_spent(ticket.jti)
            refused = await caller.call(url, Range="bytes=0-0")
            assert json.loads(refused.body)["type"] == "ticket-spent"
            batch = device.outbox.next_batch(DEVICE)
            assert batch is not None
            assert batch.jtis == (ticket.jti,)
            await caller.close()

    asyncio.run(run())


def test_window_stalls_and_a_posted_receipt_releases_it(tmp_path: Path) -> None:
    data = some_bytes(5 * MIB, 3)

    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, data), countersigned=True, max_bytes=len(data))
            caller, poster = await Caller.connect(device.port), await Caller.connect(device.port)
            receipts = f"http://127.0.0.1:{device.port}/v1/receipts"
            caller.ask(device.url(ticket))
            await caller.head()
            body = await caller.reader.readexactly(2 * MIB)
            await until(lambda: device.service.sessions()[0].bytes_sent == 2 * MIB)

            too_much = await poster.call(receipts, "POST", receipt(ticket, 1, 2 * MIB + 1).encode())
            assert (too_much.status, json.loads(too_much.body)["type"]) == (400, "malformed")
            stranger = await poster.call(receipts, "POST", receipt(ticket, 1, MIB, key(7)).encode())
            assert (stranger.status, json.loads(stranger.body)["type"]) == (400, "bad-signature")
            assert device.service.bytes_up_total == 2 * MIB

            assert (await poster.call(receipts, "POST", receipt(ticket, 1, MIB).encode())).status == 204
            body += await caller.reader.readexactly(MIB)
            saved = device.outbox.find(ticket.jti)
            assert saved is not None
            assert (saved.receipt_n, saved.receipt_bytes) == (1, MIB)
            assert (await poster.call(receipts, "POST", receipt(ticket, 2, 3 * MIB).encode())).status == 204
            # One that crossed a later one on its way says nothing new, and is no fault.
            assert (await poster.call(receipts, "POST", receipt(ticket, 1, MIB).encode())).status == 204
            body += await caller.reader.readexactly(2 * MIB)
            assert body == data

            last = receipt(ticket, 3, len(data))
            assert (await poster.call(receipts, "POST", last.encode())).status == 204
            await until(lambda: not device.service.sessions())
            device.service.close_idle()
            assert device.outbox.is_spent(ticket.jti)
            late = await poster.call(receipts, "POST", receipt(ticket, 4, len(data)).encode())
            assert (late.status, json.loads(late.body)["type"]) == (403, "ticket-spent")
            await caller.close()
            await poster.close()

    asyncio.run(run())


def test_receipt_in_the_next_request(tmp_path: Path) -> None:
    data = some_bytes(5 * MIB, 3)

    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, data), countersigned=True, max_bytes=len(data))
            url = device.url(ticket)
            caller = await Caller.connect(device.port)
            got = (await caller.call(url, Range=f"bytes=0-{2 * MIB - 1}")).body
            bad = await caller.call(url, Range="bytes=0-9", Fallow_Receipt="nonsense")
            assert bad.status == 400
            for n in (1, 2, 3):
                start = len(got)
                answer = await caller.call(
                    url, Range=f"bytes={start}-{start + MIB - 1}", Fallow_Receipt=receipt(ticket, n, start)
                )
                assert answer.status == 206
                got += answer.body
            assert got == data
            await caller.close()

    asyncio.run(run())


def test_missing_receipt_ends_the_transfer(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("fallow_agent.edge.sending.RECEIPT_WAIT_S", 0.05)
    data = some_bytes(3 * MIB)

    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, data), countersigned=True)
            caller = await Caller.connect(device.port)
            caller.ask(device.url(ticket))
            await caller.head()
            assert await caller.reader.read(-1) != data
            assert device.service.bytes_up_total == 2 * MIB
            await caller.close()

    asyncio.run(run())


def test_a_restart_continues_tickets(tmp_path: Path) -> None:
    data = some_bytes(4 * MIB, 3)

    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, data)
            signed = device.ticket(object_id, countersigned=True, max_bytes=len(data))
            legacy = device.ticket(object_id, max_bytes=len(data))
            caller = await Caller.connect(device.port)
            await caller.call(device.url(signed), Range=f"bytes=0-{MIB - 1}")
            await caller.call(device.url(signed), Range="bytes=0-9", Fallow_Receipt=receipt(signed, 1, MIB))
            await caller.call(device.url(legacy), Range=f"bytes=0-{MIB - 1}")
            await caller.close()
        async with world(tmp_path) as device:
            caller = await Caller.connect(device.port)
            await caller.call(device.url(legacy), Range=f"bytes={MIB}-")
            # Bytes sent in the last second before a crash were not saved; the consumer's receipt for them is good.
            answer = await caller.call(
                device.url(signed), Range=f"bytes={2 * MIB}-", Fallow_Receipt=receipt(signed, 2, 2 * MIB)
            )
            assert answer.body == data[2 * MIB :]
            device.service.close_idle()
            assert device.outbox.is_spent(legacy.jti)
            saved = device.outbox.find(signed.jti)
            assert saved is not None
            assert (saved.receipt_bytes, saved.bytes) == (2 * MIB, 4 * MIB)
            device.clock.unix_s += 31
            device.service.close_idle()
            assert device.outbox.is_spent(signed.jti)
            await caller.close()

    asyncio.run(run())


def test_disconnect_in_mid_transfer_leaves_other_connections_alone(tmp_path: Path) -> None:
    """A transfer that waits for its socket is cut; the number of its descriptor is soon another connection's."""
    data = some_bytes(24 * MIB, 4)

    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, data)
            for _ in range(5):
                lost = await Caller.connect(device.port)
                lost.ask(device.url(device.ticket(object_id, max_bytes=len(data))))
                await lost.head()
                await until(lambda: device.service.bytes_up_total > 0)
                lost.writer.transport.abort()
                fresh = await Caller.connect(device.port)
                ticket = device.ticket(object_id, max_bytes=len(data))
                answer = await fresh.call(device.url(ticket), Range=f"bytes=0-{4 * MIB - 1}")
                assert answer.body == data[: 4 * MIB]
                await fresh.close()
                await until(lambda: not device.service.sessions())

    asyncio.run(run())


def test_disconnect_while_a_receipt_is_awaited_frees_the_place_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, DATA), countersigned=True)
            caller = await Caller.connect(device.port)
            caller.ask(device.url(ticket))
            await caller.head()
            await caller.reader.readexactly(2 * MIB)
            await until(lambda: device.service.bytes_up_total == 2 * MIB)
            caller.writer.transport.abort()
            async with asyncio.timeout(5):  # half of what it would wait for the receipt
                await until(lambda: not device.service.sessions())

    asyncio.run(run())


def test_stop_ends_transfers_within_a_second(tmp_path: Path) -> None:
    data = some_bytes(24 * MIB, 4)

    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, data)
            ticket = device.ticket(object_id, max_bytes=len(data))
            callers = [await Caller.connect(device.port) for _ in range(4)]
            for caller in callers:
                caller.ask(device.url(ticket))
                await caller.head()
            device.pacer.set_rate(0)
            async with stopwatch() as watch:
                await device.service.stop_transfers()
            assert watch.seconds < 1
            assert device.service.sessions() == []
            for caller in callers:
                try:
                    got = await caller.reader.read(-1)
                    assert len(got) < len(data)
                except ConnectionResetError:
                    pass
                await caller.close()
            saved = device.outbox.find(ticket.jti)
            assert saved is not None
            assert saved.bytes > 0

    asyncio.run(run())


def test_budget_of_zero_waits_and_goes_on(tmp_path: Path) -> None:
    async def run(by_kernel: bool | None) -> None:
        async with world(tmp_path / str(by_kernel), by_kernel=by_kernel) as device:
            url = device.url(device.ticket(put(device.content, DATA)))
            device.pacer.set_rate(0)
            caller = await Caller.connect(device.port)
            caller.ask(url)
            await until(lambda: device.service.sessions())
            assert device.service.bytes_up_total == 0
            device.pacer.set_rate(10**9)
            assert (await caller.answer()).body == DATA
            await caller.close()

    for by_kernel in (None, False):
        (tmp_path / str(by_kernel)).mkdir()
        asyncio.run(run(by_kernel))


def test_dropped_or_damaged_content_is_not_served(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, DATA)
            os.truncate(tmp_path / "content" / object_id, 5)
            caller = await Caller.connect(device.port)
            answer = await caller.call(device.url(device.ticket(object_id)))
            assert (answer.status, json.loads(answer.body)["type"]) == (404, "not-held")
            assert not device.content.has(object_id)
            await caller.close()

    asyncio.run(run())


def test_a_file_that_shrinks_under_an_open_descriptor_is_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, DATA)
            url = device.url(device.ticket(object_id))
            caller = await Caller.connect(device.port)
            assert (await caller.call(url, Range="bytes=0-0")).status == 206
            os.truncate(tmp_path / "content" / object_id, 5)
            caller.ask(url)
            await caller.head()
            assert await caller.reader.read(-1) == DATA[:5]
            assert not device.content.has(object_id)
            await caller.close()

    asyncio.run(run())


def test_pages_of_any_site_may_fetch_and_confirm_and_do_nothing_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            base = f"http://127.0.0.1:{device.port}"
            url = device.url(device.ticket(manifest_of(DATA).object_id))
            caller = await Caller.connect(device.port)
            page = {"Origin": "https://site.example"}
            for path, methods, headers in (
                (url, "GET, HEAD", {"Range", "If-Range", "Fallow-Receipt"}),
                (base + "/v1/receipts", "POST", {"Content-Type"}),
            ):
                preflight = await caller.call(path, "OPTIONS", **page)
                assert preflight.status == 204
                assert preflight.fields["access-control-allow-origin"] == "*"
                assert preflight.fields["access-control-allow-methods"] == methods
                assert set(preflight.fields["access-control-allow-headers"].split(", ")) == headers
                assert preflight.fields["access-control-max-age"] == "86400"
                # Neither cookies nor logins go along, and no page of the internet is let into a LAN.
                assert "access-control-allow-credentials" not in preflight.fields
                assert "access-control-allow-private-network" not in preflight.fields
            # A refusal can be read too, or a page would not know whether to try again.
            for answer in (
                await caller.call(url, Range="bytes=0-0", **page),
                await caller.call(f"{base}/o/{'a' * 64}/x", **page),
                await caller.call(url, "DELETE", **page),
            ):
                assert answer.fields["access-control-allow-origin"] == "*"
                assert "Retry-After" in answer.fields["access-control-expose-headers"]
            await caller.close()

    asyncio.run(run())


def test_other_addresses_and_dial_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            base = f"http://127.0.0.1:{device.port}"
            url = device.url(device.ticket(manifest_of(DATA).object_id))
            caller = await Caller.connect(device.port)
            for path in ("/", "/o/", "/o/abc/x", "/v1/status", f"/o/{'a' * 64}/x/y", "/v1/dial-back/" + "n" * 20):
                answer = await caller.call(base + path)
                assert (answer.status, json.loads(answer.body)["type"]) == (404, "not-found")
                assert "access-control-allow-origin" not in answer.fields
            assert (await caller.call(url, "DELETE")).status == 405
            assert (await caller.call(base + "/v1/receipts")).status == 405

            nonce = "n" * 20
            device.nonces.add(nonce, device.clock.monotonic())
            answer = await caller.call(f"{base}/v1/dial-back/{nonce}")
            assert "access-control-allow-origin" not in answer.fields
            told = DialBackAnswer(**json.loads(answer.body))
            assert told.device_id == DEVICE.public.device_id()
            key_of_device: PublicKey = DEVICE.public
            key_of_device.verify(from_base64url(told.signature), dial_back_input(nonce))
            await caller.close()

    asyncio.run(run())


def test_limits_of_requests_and_connections(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path, connections_total_max=4) as device:
            cases = {
                b"GET /" + b"a" * 20_000: 414,
                b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 20_000: 431,
                b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n": 431,
                b"GET / HTTP/1.1\r\n\r\n": 400,
                b"GET / HTTP/1.1\nHost: x\n\n\r\n\r\n": 400,
                b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n": 400,
                b"GET / HTTP/1.1\r\nHost : x\r\n\r\n": 400,
                b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n": 400,
                b"GET / HTTP/2.0\r\nHost: x\r\n\r\n": 400,
                b"POST /v1/receipts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n": 411,
                b"POST /v1/receipts HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n": 413,
                b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc": 413,
            }
            for raw, status in cases.items():
                caller = await Caller.connect(device.port)
                caller.writer.write(raw)
                answer = await caller.answer()
                assert answer.status == status, raw
                assert answer.fields["connection"] == "close"
                assert await caller.reader.read(1) == b""
                await caller.close()

            many = [await Caller.connect(device.port) for _ in range(7)]
            for caller in many[-4:]:
                assert (await caller.call(f"http://127.0.0.1:{device.port}/")).status == 404
            assert [await caller.reader.read(1) for caller in many[:3]] == [b"", b"", b""]
            for caller in many:
                await caller.close()

    asyncio.run(run())


async def is_reset(caller: Caller) -> bool:
    """True when the device closes the connection without a word."""
    try:
        return await caller.reader.read(1) == b""
    except ConnectionResetError:
        return True


def test_connections_that_come_too_fast_are_reset_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path, new_per_s=0.0, new_burst=5) as device:
            callers = [await Caller.connect(device.port) for _ in range(8)]
            for caller in callers[:5]:
                assert (await caller.call(f"http://127.0.0.1:{device.port}/")).status == 404
            assert all([await is_reset(caller) for caller in callers[5:]])
            assert (device.service.refused_total, device.service.connections) == (3, 5)
            for caller in callers:
                await caller.close()

    asyncio.run(run())


def test_the_homes_table_bounds_open_connections_and_the_owners_word_wins(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            base = f"http://127.0.0.1:{device.port}/"
            assert device.service.transfers_max == 100, "the owner's"
            device.table_max = 3
            assert device.service.transfers_max == 3
            callers = []
            for _ in range(4):
                callers.append(await Caller.connect(device.port))
                assert (await callers[-1].call(base)).status == 404
            assert await is_reset(callers[0]), "the one that was idle longest made room"
            assert device.service.connections == 3
            device.limits = Limits(connections_max=2)
            assert device.service.transfers_max == 2

            device.table_max = 0
            late = await Caller.connect(device.port)
            assert await is_reset(late)
            assert (await callers[-1].call(base)).status == 404, "who is there may stay"
            assert (device.service.refused_total, device.service.transfers_max) == (1, 0)
            for caller in (*callers, late):
                await caller.close()

    asyncio.run(run())


def test_slow_heads_are_cut(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("fallow_agent.edge.server.SWEEP_INTERVAL_S", 0.01)

    async def run() -> None:
        async with world(tmp_path, head_s=0.05, idle_s=0.05) as device:
            for sent in (b"GET / HT", b""):
                caller = await Caller.connect(device.port)
                caller.writer.write(sent)
                try:
                    assert await caller.reader.read(1) == b""
                except ConnectionResetError:
                    pass
                await caller.close()

    asyncio.run(run())


def test_pipelined_requests_and_http_1_0(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            url = device.url(device.ticket(put(device.content, DATA)))
            caller = await Caller.connect(device.port)
            for i in range(10):
                caller.ask(url, Range=f"bytes={i}-{i + 99_999}")
            for i in range(10):
                assert (await caller.answer()).body == DATA[i : i + 100_000]
            caller.writer.write(b"GET /" + url.split("/", 3)[3].encode() + b" HTTP/1.0\r\nRange: bytes=0-3\r\n\r\n")
            assert (await caller.answer()).body == DATA[:4]
            assert await caller.reader.read(1) == b""
            await caller.close()

    asyncio.run(run())


def test_an_ordinary_client_library_is_content(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as device:
            ticket = device.ticket(put(device.content, DATA), countersigned=True)
            async with aiohttp.ClientSession() as http:
                async with http.get(device.url(ticket), headers={"Range": "bytes=10-1048585"}) as answer:
                    assert answer.status == 206
                    assert await answer.read() == DATA[10 : 10 + MIB]
                url = f"http://127.0.0.1:{device.port}/v1/receipts"
                async with http.post(url, data=receipt(ticket, 1, MIB, CONSUMER)) as answer:
                    assert answer.status == 204

    asyncio.run(run())


def test_more_than_the_budget_carries_wait_their_turn_in_order_and_the_head_tells_them_so(tmp_path: Path) -> None:
    data = some_bytes(4 * MIB, 9)

    async def run() -> None:
        async with world(tmp_path) as device:
            object_id = put(device.content, data)
            device.pacer.set_rate(0)  # the first take their places, and stay
            callers = [await Caller.connect(device.port) for _ in range(AT_ONCE_MIN + 3)]
            for caller in callers:
                caller.ask(device.url(device.ticket(object_id, max_bytes=len(data))))
                await until(
                    lambda: device.service.turns.waiting + device.pacer.transfers == len(device.service.sessions())
                )
            await until(lambda: device.service.turns.waiting == 3)
            waiting = callers[AT_ONCE_MIN:]
            for caller in waiting:
                await caller.head()
            waiting[0].writer.transport.abort()  # who goes keeps nobody waiting
            await until(lambda: device.service.turns.waiting == 2)
            device.pacer.set_rate(10**9)
            for caller in callers[:AT_ONCE_MIN]:
                assert (await caller.answer()).body == data
            for caller in waiting[1:]:
                assert await caller.reader.readexactly(len(data)) == data
            assert device.service.turns.waiting == 0
            for caller in callers:
                await caller.close()

    asyncio.run(run())


def test_who_is_slow_keeps_nobody_waiting_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLOW_S", 0.05)

    async def run() -> None:
        async with world(tmp_path) as device:
            data = some_bytes(24 * MIB, 4)
            object_id = put(device.content, data)
            slow = [await Caller.connect(device.port) for _ in range(AT_ONCE_MIN)]
            for caller in slow:  # they ask and do not read
                caller.ask(device.url(device.ticket(object_id, max_bytes=len(data))))
            await until(lambda: len(device.service.sessions()) == AT_ONCE_MIN)
            caller = await Caller.connect(device.port)
            answer = await caller.call(device.url(device.ticket(object_id, max_bytes=MIB)), Range=f"bytes=0-{MIB - 1}")
            assert answer.body == data[:MIB]
            assert len(device.service.sessions()) == AT_ONCE_MIN
            for one in (*slow, caller):
                await one.close()

    asyncio.run(run())
