"""Redirects, the origin as fallback, and what tickets say."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from delivery_harness import ALICE, BOB, LEDGER_URL, Harness, heartbeat, run
from fallow_server.delivery.config import Config
from fallow_server.scheduling.filters import Config as FilterConfig
from fallow_server.scheduling.places import NOWHERE, Place
from fallow_wire.tickets import Ticket, verify_ticket
from support import NOW, key

MIB = 2**20


def ticket_of(server: Harness, url: str) -> Ticket:
    token = parse_qs(urlsplit(url).query)["ticket"][0]
    return verify_ticket(token, server.keys.public_keys().get).value


def test_a_consumer_is_sent_to_a_device_with_a_ticket(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * MIB, "a%20b.bin")
        device = await server.device(1, object_id)
        answer = await server.call("GET", f"/o/{object_id}/a%20b.bin", who=None, status=302)
        location = answer.headers["Location"]
        assert location.startswith(f"http://203.0.113.1:32557/o/{object_id}/a%20b.bin?ticket=")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        ticket = ticket_of(server, location)
        assert (ticket.aud, ticket.obj, ticket.svc, ticket.tier) == (device.id, object_id, "object", "legacy")
        assert (ticket.publisher, ticket.max_bytes, ticket.ledger) == (ALICE, MIB, LEDGER_URL)
        assert (ticket.iss, ticket.iat, ticket.exp) == (server.url, NOW, NOW + 900)
        assert ticket.tariff == server.link.tariff.value.tariff_id()
        assert "127.0.0.1" not in ticket.sub
        again = ticket_of(server, (await server.call("GET", f"/o/{object_id}/x", who=None)).headers["Location"])
        assert again.sub == ticket.sub
        consumer, pool = ticket.sub.split(".")
        assert (len(consumer), len(pool)) == (22, 11)
        assert again.jti != ticket.jti
        server.clock.seconds += 86_400
        await device.beat()
        later = ticket_of(server, (await server.call("GET", f"/o/{object_id}/x", who=None)).headers["Location"])
        assert later.sub != ticket.sub

    run(tmp_path / "state", script)


def test_the_origin_serves_where_no_device_may(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        data = os.urandom(1000)
        object_id = await server.publish(data)
        path = f"/o/{object_id}/file.bin"

        async def comes_from_origin(why: str) -> None:
            answer = await server.call("GET", path, who=None)
            assert (answer.status, answer.body) == (200, data), why

        await comes_from_origin("no devices")
        device = await server.device(1)
        await comes_from_origin("it does not hold the object")
        await device.holds(object_id)
        assert (await server.call("GET", path, who=None)).status == 302
        assert (await server.call("GET", path + "?source=origin", who=None)).body == data
        head = await server.call("HEAD", path, who=None)
        assert (head.status, head.headers["Content-Length"]) == (200, "1000")
        assert (await server.call("GET", path, who=None, headers={"Range": "bytes=5000-"})).status == 416
        await device.beat(state="paused")
        await comes_from_origin("paused")
        await device.beat(services=("fill",))
        await comes_from_origin("service off")
        await device.beat(line=replace(heartbeat().line, idle_up_bps=1000))
        await comes_from_origin("line busy")
        await device.beat()
        server.clock.seconds += 46
        await comes_from_origin("stale")
        await device.beat()
        assert (await server.call("GET", path, who=None)).status == 302
        assert device.live is not None
        await server.fleet.changed_service_urls(device.live, ("http://[2001:db8::1]:32557",))
        await comes_from_origin("a consumer of IPv4 and a device of IPv6")
        await server.fleet.changed_service_urls(device.live, ())
        await comes_from_origin("unreachable")
        await device.leave()
        await comes_from_origin("gone")

    run(tmp_path / "state", script)


def test_what_was_routed_counts_until_heartbeats_show_that_it_is_over(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(20 * MIB))
        device = await server.device(1, object_id)
        server.delivery.devices.measured(device.id, 40_000_000)
        states = [(await server.call("HEAD", f"/o/{object_id}/x", who=None)).status]
        states += [(await server.call("GET", f"/o/{object_id}/x", who=None)).status for _ in range(13)]
        # Three quarters of the 40 Mbit/s that are idle may be promised, whatever was foreseen; each needs 2.5.
        assert states == [200, *[302] * 12, 200]
        assert device.live is not None
        await server.fleet.changed_service_urls(device.live, ("http://203.0.113.8:32557",))
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 200
        await device.beat()
        # Those consumers may not have connected yet.
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 200
        await device.beat()
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 302

    run(tmp_path / "state", script)


def test_who_asks_again_is_sent_elsewhere(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * MIB)
        hands = [await server.device(number, object_id) for number in (1, 2, 3)]
        devices = [hand.id for hand in hands]

        async def asked() -> str:
            answer = await server.call("GET", f"/o/{object_id}/x", who=None, status=302)
            return ticket_of(server, answer.headers["Location"]).aud

        sent = [await asked() for _ in range(20)]
        assert all(one != other for one, other in pairwise(sent))
        assert set(sent) <= set(devices)
        server.clock.seconds += 29
        assert await asked() != sent[-1]
        for number in (2, 3):
            await hands[number - 1].leave()
        assert [await asked() for _ in range(3)] == devices[:1] * 3, "one that is alone is asked again"

    run(tmp_path / "state", script)


def test_requests_spread_over_devices(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 1000)
        for number in range(1, 6):
            await server.device(number, object_id)
        seen = [
            ticket_of(server, (await server.call("GET", f"/o/{object_id}/x", who=None)).headers["Location"]).aud
            for _ in range(60)
        ]
        assert len(set(seen)) == 5
        assert max(seen.count(one) for one in set(seen)) < 30

    run(tmp_path / "state", script)


def test_the_first_to_fill_from_is_each_as_often_as_its_odds_say(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 1000)
        filler = (await server.device(9)).live
        assert filler is not None
        for number, idle in ((1, 5_000_000), (2, 15_000_000), (3, 20_000_000)):
            await server.device(number, object_id, line=replace(heartbeat().line, idle_up_bps=idle))
        first: Counter[int] = Counter()
        draw = random.Random(2).random
        for _ in range(1500):
            chosen = server.delivery.devices.sources_for(filler, object_id, 2, FilterConfig(), draw)
            assert len({choice.device.device_id for choice in chosen}) == 2
            first[chosen[0].odds] += 1
        # 40 Mbit/s in all; half of the tickets is the most that one of two sources can have.
        assert set(first) == {125, 375, 500}
        assert all(abs(count / 1500 - odds / 1000) < 0.05 for odds, count in first.items())

    run(tmp_path / "state", script)


def test_what_is_asked_for_is_told_whoever_serves_it(tmp_path: Path) -> None:
    class Sink:
        def __init__(self) -> None:
            self.heard: list[tuple[str, Place, int, float]] = []

        def note(self, object_id: str, place: Place, bytes_: int, now: float) -> None:
            self.heard.append((object_id, place, bytes_, now))

    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 1000)
        sink = server.delivery.router.demand = Sink()
        path = f"/o/{object_id}/x"
        await server.call("GET", path, who=None, status=200)
        await server.call("GET", path, who=None, headers={"Range": "bytes=10-19"}, status=206)
        await server.device(1, object_id)
        await server.call("GET", path, who=None, status=302)
        await server.call("GET", path + ".meta4", who=None, status=200)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": key(5).public.jwk().x}
        await server.call("POST", "/v1/plans", who=None, json={"object": object_id, "jwk": jwk}, status=200)
        assert sink.heard == [(object_id, NOWHERE, size, NOW) for size in (1000, 10, 1000, 1000, 1000)]
        # Who comes back for what was planned, has it, or only looks, asks for nothing new.
        await server.call("GET", path + "?source=origin", who=None, status=200)
        await server.call("GET", path, who=None, headers={"If-None-Match": f'"{object_id}"'}, status=304)
        await server.call("HEAD", path, who=None, status=200)
        assert len(sink.heard) == 5

    run(tmp_path / "state", script)


def test_no_escrow_no_ticket(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        server.link.escrow[ALICE] = 0
        object_id = await server.publish(b"x" * 2**20)
        device = await server.device(1, object_id)
        answer = await server.call("GET", f"/o/{object_id}/x", who=None)
        assert (answer.status, len(answer.body)) == (200, 2**20)
        told = (await server.call("GET", f"/v1/objects/{object_id}")).json()
        assert (told["funded"], told["replicas"]) == (False, 1)
        await server.publish(b"x" * 2**20, "bobs.bin", who=BOB)
        answer = await server.call("GET", f"/o/{object_id}/bobs.bin", who=None, status=302)
        assert ticket_of(server, answer.headers["Location"]).publisher == BOB
        server.link.escrow[ALICE] = 10**9
        server.clock.seconds += 16
        await device.beat()
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 302
        assert (await server.call("GET", f"/v1/objects/{object_id}")).json()["funded"] is True

    run(tmp_path / "state", script)


def test_an_absent_ledger_costs_consumers_nothing(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        server.link.away = True
        object_id = await server.publish(b"bytes")
        await server.device(1, object_id)
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).body == b"bytes"
        assert (await server.call("GET", f"/o/{object_id}/x.meta4", who=None)).status == 200

    run(tmp_path / "state", script)


def test_one_address_gets_so_many_tickets(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 100)
        device = await server.device(1, object_id)
        states = [(await server.call("GET", f"/o/{object_id}/x", who=None)) for _ in range(4)]
        assert [answer.status for answer in states] == [302, 302, 302, 429]
        assert states[-1].problem == "too-many-tickets"
        assert states[-1].headers["Retry-After"]
        assert (await server.call("GET", f"/o/{object_id}/x?source=origin", who=None)).status == 200
        server.clock.seconds += 1
        await device.beat()
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 302

    run(tmp_path / "state", script, delivery=Config(consumer_tickets_burst=3, consumer_tickets_per_s=1))


def test_a_deleted_object_is_gone_everywhere(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 100)
        await server.device(1, object_id)
        await server.call("DELETE", f"/v1/objects/{object_id}", status=204)
        for path in (f"/o/{object_id}/x", f"/o/{object_id}/x.meta4", f"/v1/manifests/{object_id}"):
            assert (await server.call("GET", path, who=None)).status == 404

    run(tmp_path / "state", script)


def test_preflight(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        for path, header in (("/v1/plans", "Content-Type"), (f"/o/{'a' * 64}/x", "Range")):
            answer = await server.call("OPTIONS", path, who=None, status=204)
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert header in answer.headers["Access-Control-Allow-Headers"].split(", ")
            assert "Access-Control-Allow-Credentials" not in answer.headers

    run(tmp_path / "state", script)


def test_no_ticket_and_no_file_leaves_a_trace_of_the_address(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 100)
        await server.device(1, object_id)
        await server.call("GET", f"/o/{object_id}/x", who=None, status=302)
        kept: list[Any] = [path.read_bytes() for path in server.directory.rglob("*") if path.is_file()]
        assert not any(b"127.0.0.1" in content for content in kept)

    run(tmp_path / "state", script)


def test_documents_are_counted_without_devices_too(tmp_path: Path) -> None:
    """A Metalink or a plan of a large object is megabytes of text; nobody gets them without end."""

    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 100)
        plan = {"object": object_id, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": key(5).public.jwk().x}}
        for method, path, more in (
            ("GET", f"/o/{object_id}/x.meta4", {}),
            ("HEAD", f"/o/{object_id}/x.meta4", {}),
            ("POST", "/v1/plans", {"json": plan}),
        ):
            states = [(await server.call(method, path, who=None, **more)).status for _ in range(4)]
            assert states == [200, 200, 200, 429], path
            server.clock.seconds += 10

    run(tmp_path / "state", script, delivery=Config(consumer_tickets_burst=3, consumer_tickets_per_s=1))


def test_one_address_gets_so_many_transfers_from_the_origin(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(32 * MIB))
        url = f"{server.url}/o/{object_id}/x"
        held = [await server.http.get(url) for _ in range(2)]
        assert [answer.status for answer in held] == [200, 200]
        refused = await server.call("GET", f"/o/{object_id}/x", who=None)
        assert (refused.status, refused.problem) == (429, "too-many")
        held.pop().close()
        async with asyncio.timeout(10):
            while (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 429:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        held.pop().close()

    run(tmp_path / "state", script, delivery=Config(transfers_per_consumer_max=2))


def test_one_address_does_not_lock_the_escrow_with_large_tickets(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * MIB)
        device = await server.device(1, object_id)
        before = sum(server.link.escrow.values())
        states = [(await server.call("GET", f"/o/{object_id}/x", who=None)).status for _ in range(6)]
        assert states == [302, 302, 302, 200, 200, 200]
        assert before - sum(server.link.escrow.values()) < 10**5
        document = await server.call("GET", f"/o/{object_id}/x.meta4", who=None, status=200)
        assert document.body.count(b"<url ") == 1
        server.clock.seconds += 2
        await device.beat()
        states = [(await server.call("GET", f"/o/{object_id}/x", who=None)).status for _ in range(2)]
        assert states == [302, 200]

    run(tmp_path / "state", script, delivery=Config(consumer_bytes_burst=3 * MIB, consumer_bytes_per_s=MIB // 2))
