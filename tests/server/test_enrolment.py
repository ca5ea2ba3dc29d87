"""Claims, and the binding of devices to owners."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fallow_server.fleet.tables import devices
from fallow_wire.enrolment import Enrolled
from fallow_wire.fields import decode
from server_world import MovableClock, ServerWorld, enrolment_token, running_server
from sqlalchemy import select
from support import key


def test_a_claim_binds_one_device_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            claim = await world.claim(owner["token"])
            answer = await world.enrol(key(1), claim)
            assert answer.status == 201
            enrolled = decode(Enrolled, answer.json, strict=True)
            assert enrolled.device_id == key(1).public.device_id()
            assert enrolled.owner == owner["id"]
            assert enrolled.ledger == world.ledger_url
            assert enrolled.policy.ledger == world.ledger_url
            assert enrolled.jwks == enrolled.policy.jwks == world.scheduler.keys.jwks()
            other = await world.enrol(key(2), claim)
            assert (other.status, other.slug) == (403, "claim-used")

    asyncio.run(run())


def test_a_lost_answer_is_given_again_with_a_new_ledger_token(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock) as world:
            owner = await world.account("owner")
            claim = await world.claim(owner["token"])
            first = (await world.enrol(key(1), claim)).json
            second = (await world.enrol(key(1), claim)).json
            assert first.pop("ledger_token") != second.pop("ledger_token")
            first["policy"].pop("now"), second["policy"].pop("now")
            assert first == second
            clock.moved_s = 601
            late = await world.enrol(key(1), claim)
            assert (late.status, late.slug) == (403, "claim-expired")

    asyncio.run(run())


def test_only_the_newest_ledger_token_counts_at_the_ledger(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            claim = await world.claim(owner["token"])
            first = (await world.enrol(key(1), claim)).json["ledger_token"]
            second = (await world.enrol(key(1), claim)).json["ledger_token"]
            await world.told()
            path = f"/v1/accounts/{owner['id']}"
            assert (await world.call("GET", path, first, ledger=True)).status == 401
            assert (await world.call("GET", path, second, ledger=True)).status == 200
            assert (await world.call("GET", path, owner["token"], ledger=True)).status == 200

    asyncio.run(run())


@pytest.mark.parametrize("leaver", ["device", "owner", "operator"])
def test_a_device_changes_owner_only_after_it_was_let_go(tmp_path: Path, leaver: str) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            one, two = await world.account("owner"), await world.account("owner")
            old_claim = await world.claim(one["token"])
            ledger_token = (await world.enrol(key(1), old_claim)).json["ledger_token"]
            claim = await world.claim(two["token"])
            refused = await world.enrol(key(1), claim)
            assert (refused.status, refused.slug) == (409, "already-bound")
            path = f"/v1/devices/{key(1).public.device_id()}"
            stranger = await world.call("DELETE", path, two["token"])
            assert (stranger.status, stranger.slug) == (404, "unknown-device")
            token = {"device": ledger_token, "owner": one["token"], "operator": world.operator_token}[leaver]
            assert (await world.call("DELETE", path, token)).status == 204
            # The claim that bound it before does not bind it again, and the refusal has not used the new one up.
            again = await world.enrol(key(1), old_claim)
            assert (again.status, again.slug) == (403, "claim-used")
            assert (await world.enrol(key(1), claim)).json["owner"] == two["id"]

    asyncio.run(run())


def test_the_same_owner_may_enrol_its_device_anew(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            for version in ("0.1.0", "0.2.0"):
                claim = await world.claim(owner["token"])
                assert (await world.enrol(key(1), claim, version=version)).status == 201
            listed = (await world.call("GET", "/v1/devices", owner["token"])).json
            assert [one["version"] for one in listed] == ["0.2.0"]

    asyncio.run(run())


def test_a_device_cannot_let_another_device_go(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            mine = (await world.enrol(key(1), await world.claim(owner["token"]))).json["ledger_token"]
            await world.enrol(key(2), await world.claim(owner["token"]))
            answer = await world.call("DELETE", f"/v1/devices/{key(2).public.device_id()}", mine)
            assert (answer.status, answer.slug) == (404, "unknown-device")

    asyncio.run(run())


def test_open_claims_are_counted_and_expire(tmp_path: Path) -> None:
    async def run() -> None:
        clock = MovableClock()
        async with running_server(tmp_path, clock, accounts={"open_claims_max": 2}) as world:
            owner, other = await world.account("owner"), await world.account("owner")
            used = await world.claim(owner["token"])
            await world.enrol(key(1), used)
            old = await world.claim(owner["token"])
            await world.claim(owner["token"])
            refused = await world.call("POST", "/v1/claims", owner["token"])
            assert (refused.status, refused.slug) == (429, "too-many-claims")
            assert 0 < int(refused.headers["Retry-After"]) <= 600
            await world.claim(other["token"])
            clock.moved_s = 600
            await world.claim(owner["token"])
            late = await world.enrol(key(2), old)
            assert (late.status, late.slug) == (403, "claim-expired")

    asyncio.run(run())


def test_two_devices_race_for_one_claim(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            claim = await world.claim((await world.account("owner"))["token"])
            answers = await asyncio.gather(*(world.enrol(key(n), claim) for n in range(1, 9)))
            assert sorted(answer.status for answer in answers) == [201] + [403] * 7
            async with world.scheduler.database.read() as connection:
                assert len((await connection.execute(select(devices.c.id))).all()) == 1

    asyncio.run(run())


def test_bad_enrolments_are_refused_before_the_claim_is_looked_at(tmp_path: Path) -> None:
    async def send(world: ServerWorld, body: bytes, media_type: str = "application/jwt") -> tuple[int, str]:
        answer = await world.call("POST", "/v1/devices", data=body, headers={"Content-Type": media_type})
        return answer.status, answer.slug

    async def run() -> None:
        async with running_server(tmp_path) as world:
            claim = await world.claim((await world.account("owner"))["token"])
            good = enrolment_token(key(1), claim).encode()
            assert await send(world, good, "application/json") == (415, "jwt-only")
            assert await send(world, b"") == (400, "malformed")
            assert await send(world, b"\xff\xfe") == (400, "malformed")
            assert await send(world, b"a.b.c") == (400, "malformed")
            assert await send(world, good + b"A") == (403, "bad-signature")
            assert await send(world, good[:-4] + b"AAAA") in ((403, "bad-signature"), (400, "malformed"))
            assert await send(world, b"x" * 5000) == (413, "too-large")
            stolen = enrolment_token(key(1), claim, did=key(2).public.device_id()).encode()
            assert await send(world, stolen) == (403, "bad-signature")
            control = enrolment_token(key(1), claim, model="a\0b").encode()
            assert await send(world, control) == (400, "malformed")
            assert await send(world, enrolment_token(key(1), "fc_nobody_has_it").encode()) == (403, "claim-unknown")
            assert (await world.enrol(key(1), claim)).status == 201

    asyncio.run(run())
