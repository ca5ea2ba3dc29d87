"""Plans: several devices for one consumer that countersigns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from delivery_harness import Harness, run
from fallow_wire.fields import decode, encode
from fallow_wire.manifest import verify_manifest
from fallow_wire.plans import Plan
from fallow_wire.tickets import verify_ticket
from support import NOW, key

MIB = 2**20
JWK = encode(key(77).public.jwk())


async def ask(server: Harness, body: dict[str, Any], status: int = 200) -> Any:
    answer = await server.call("POST", "/v1/plans", who=None, json=body, status=status)
    assert answer.headers["Access-Control-Allow-Origin"] == "*", "pages must see refusals too"
    return answer.json()


def test_a_plan_names_at_most_four_devices_each_with_a_ticket(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(3 * MIB), "film.mp4")
        devices = {device.id for device in [await server.device(n, object_id) for n in range(1, 7)]}
        plan = decode(Plan, await ask(server, {"object": object_id, "jwk": JWK}), strict=True)
        assert len({source.device_id for source in plan.sources}) == 4
        assert (plan.object, plan.name) == (object_id, "film.mp4")
        assert plan.origin == f"{server.url}/o/{object_id}/film.mp4?source=origin&help=1"
        verify_manifest(plan.manifest, server.keys.public_keys(), object_id)
        for source in plan.sources:
            assert source.device_id in devices
            assert "ticket" not in source.url
            assert source.url.endswith(f"/o/{object_id}/film.mp4")
            ticket = verify_ticket(source.ticket, server.keys.public_keys().get).value
            assert (ticket.aud, ticket.tier, ticket.max_bytes) == (source.device_id, "countersigned", 3 * MIB)
            assert ticket.cnf is not None
            assert ticket.cnf.jwk == key(77).public.jwk()
            assert ticket.exp >= plan.expires_at == NOW + 900

    run(tmp_path / "state", script)


def test_lines_with_nothing_left_are_named_after_those_that_are_free(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(20 * MIB))
        full = [await server.device(number, object_id) for number in range(1, 7)]
        free = [await server.device(number, object_id) for number in range(7, 9)]
        for device in full:
            server.delivery.devices.note_routed(device.id, 40_000_000)
        for _ in range(2):
            plan = decode(Plan, await ask(server, {"object": object_id, "jwk": JWK}), strict=True)
            named = [source.device_id for source in plan.sources]
            assert set(named[:2]) == {device.id for device in free}
            # A crowd is better served by a share of a full line than by the origin.
            assert len(set(named[2:]) & {device.id for device in full}) == 2

    run(tmp_path / "state", script)


def test_ranges_allow_the_chunks_that_they_touch(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(3 * MIB + 10))
        await server.device(1, object_id)

        async def allowed(*ranges: tuple[int, int]) -> int:
            body = {"object": object_id, "jwk": JWK, "ranges": [{"first": a, "last": b} for a, b in ranges]}
            plan = await ask(server, body)
            return verify_ticket(plan["sources"][0]["ticket"], server.keys.public_keys().get).value.max_bytes

        assert await allowed((0, 0)) == MIB
        assert await allowed((0, 5), (7, 9), (2, MIB)) == 2 * MIB
        assert await allowed((3 * MIB, 3 * MIB + 9)) == 10
        assert await allowed((0, 3 * MIB + 9), (0, 3 * MIB + 9)) == 3 * MIB + 10

    run(tmp_path / "state", script)


def test_bad_requests(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x" * 100)
        good = {"object": object_id, "jwk": JWK}
        small_order = {**JWK, "x": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
        assert (await ask(server, {**good, "jwk": small_order}, 400))["type"] == "bad-key"
        assert (await ask(server, {**good, "object": "f" * 64}, 404))["type"] == "not-found"
        for ranges in ([{"first": 0, "last": 100}], [{"first": 5, "last": 4}], [{"first": -1, "last": 4}], "x"):
            assert (await ask(server, {**good, "ranges": ranges}, 400))["type"] == "malformed"
        for body in ({}, {"object": object_id}, {"jwk": JWK}, {**good, "jwk": {**JWK, "crv": "P-256"}}):
            assert (await ask(server, body, 400))["type"] == "malformed"
        plan = await ask(server, good)
        assert plan["sources"] == []
        assert (await server.call("GET", plan["origin"], who=None)).body == b"x" * 100

    run(tmp_path / "state", script)
