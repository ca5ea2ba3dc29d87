"""Owners with a login and a password: registering, signing in from a device's page, and how often one may try."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fallow_server.accounts import attempts, passwords, signing_in
from fallow_server.accounts.attempts import Attempts
from fallow_server.accounts.passwords import hashed, matches, normal_login
from fallow_server.accounts.tables import accounts, logins
from fallow_wire.errors import Malformed
from server_world import MovableClock, ServerWorld, running_server
from sqlalchemy import func, select
from support import key

OPEN = {"open_registration": True}
HASHING = passwords._COST
ADA: dict[str, Any] = {"json": {"login": "Ada", "password": "a garden of bees"}}


@pytest.fixture(autouse=True)
def quick_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow by intent, and measured nowhere here."""
    monkeypatch.setattr(passwords, "_COST", 2**4)


def test_an_owner_registers_signs_in_and_binds_devices(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, accounts=OPEN) as world:
            assert (await world.call("GET", "/v1/owners")).json["open"] is True
            made = await world.call("POST", "/v1/owners", **ADA)
            assert made.status == 201
            assert "token" not in made.json, "the phone is given no more than it needs"
            assert (await world.enrol(key(1), made.json["claim_token"])).json["owner"] == made.json["id"]
            # Another way of writing the same login.
            again = {"json": {"login": " ＡＤＡ ", "password": "a garden of bees"}}
            claim = await world.call("POST", "/v1/owners/claims", **again)
            assert claim.status == 201
            assert (await world.enrol(key(2), claim.json["claim_token"])).json["owner"] == made.json["id"]
            token = (await world.call("POST", "/v1/owners/tokens", **ADA)).json["token"]
            assert len((await world.call("GET", "/v1/devices", token)).json) == 2
            await world.told()
            seen = await world.call("GET", "/v1/accounts/me", token, ledger=True)
            assert seen.json["id"] == made.json["id"]

    asyncio.run(run())
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.sqlite*"))
    assert b"garden" not in kept


def test_nobody_registers_where_the_operator_makes_accounts(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            assert (await world.call("GET", "/v1/owners")).json["open"] is False
            answer = await world.call("POST", "/v1/owners", **ADA)
            assert (answer.status, answer.slug) == (403, "registration-closed")
            owner = await world.account("owner")
            # Who was given a token sets a password with it, and a new one where it was lost.
            for password in ("a garden of bees", "another garden"):
                body = {"login": "ada", "password": password}
                assert (await world.call("PUT", "/v1/owners/me/login", owner["token"], json=body)).status == 204
            answer = await world.call("POST", "/v1/owners/claims", **ADA)
            assert (answer.status, answer.slug) == (403, "wrong-password")
            assert (await world.call("POST", "/v1/owners/claims", json=body)).status == 201

    asyncio.run(run())


def test_a_login_belongs_to_one_owner_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, accounts=OPEN) as world:
            assert (await world.call("POST", "/v1/owners", **ADA)).status == 201
            answer = await world.call("POST", "/v1/owners", **ADA)
            assert (answer.status, answer.slug) == (409, "login-taken")
            bo = await world.account("owner")
            answer = await world.call("PUT", "/v1/owners/me/login", bo["token"], **ADA)
            assert (answer.status, answer.slug) == (409, "login-taken")
            async with world.scheduler.database.read() as connection:
                owners = select(func.count()).select_from(accounts).where(accounts.c.role == "owner")
                assert (await connection.execute(owners)).scalar_one() == 2, "no account without a login"
                assert (await connection.execute(select(logins.c.login))).scalars().all() == ["ada"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "changes",
    [
        {"login": "a"},
        {"login": "a b c"},
        {"login": "ada\u200b\u202e"},
        {"login": "x" * 65},
        {"password": "short"},
        {"password": "aaaaaaaaaaaa"},
        {"login": "ada-lovelace", "password": "Ada-Lovelace"},
        {"password": "x" * 129},
        {"login": 5},
    ],
)
def test_what_is_no_login_or_no_password_is_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def run() -> None:
        async with running_server(tmp_path, accounts=OPEN) as world:
            answer = await world.call("POST", "/v1/owners", json={**ADA["json"], **changes})
            assert (answer.status, answer.slug) == (400, "malformed")

    asyncio.run(run())


async def _tries(world: ServerWorld, path: str, count: int, login: str = "ada") -> list[int]:
    body = {"login": login, "password": "not this one"}
    return [(await world.call("POST", path, json=body)).status for _ in range(count)]


def test_who_guesses_is_slowed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_in, "TRIES_OF_ADDRESS", 3)
    monkeypatch.setattr(signing_in, "TRIES_OF_LOGIN", 5)
    clock = MovableClock()

    async def run() -> None:
        async with running_server(tmp_path, clock, accounts=OPEN, http={"trusted_proxies": ["127.0.0.1"]}) as world:
            assert await _tries(world, "/v1/owners/claims", 4) == [403, 403, 403, 429]
            assert await _tries(world, "/v1/owners/tokens", 1, "bo") == [429], "one account of tries for both"
            refused = await world.call("POST", "/v1/owners/claims", **ADA)
            assert refused.slug == "too-many-tries"
            assert 0 < int(refused.headers["Retry-After"]) <= signing_in.TRIES_OF_ADDRESS_EVERY_S
            # From another address, the login's own tries count.
            elsewhere = {"headers": {"X-Forwarded-For": "203.0.113.9"}, **ADA}
            assert [(await world.call("POST", "/v1/owners/claims", **elsewhere)).status for _ in range(3)] == [
                403,
                403,
                429,
            ]
            clock.moved_s += signing_in.TRIES_OF_LOGIN_EVERY_S
            assert await _tries(world, "/v1/owners/claims", 1) == [403]

    asyncio.run(run())


def test_one_address_makes_few_accounts(tmp_path: Path) -> None:
    async def run() -> None:
        few = {**OPEN, "registrations_per_address_burst": 2, "registrations_burst": 3}
        async with running_server(tmp_path, accounts=few, http={"trusted_proxies": ["127.0.0.1"]}) as world:

            async def register(login: str, address: str) -> int:
                headers = {"X-Forwarded-For": address}
                body = {**ADA["json"], "login": login}
                return (await world.call("POST", "/v1/owners", json=body, headers=headers)).status

            assert [await register(f"ada{n}", "2001:db8:1:2::5") for n in range(3)] == [201, 201, 429]
            assert await register("ada3", "2001:db8:1:2::6") == 429, "one home has one /64"
            assert await register("bo", "203.0.113.9") == 201
            assert await register("cy", "203.0.113.10") == 429, "all together"

    asyncio.run(run())


def test_the_page_of_a_device_may_call_what_it_needs_and_no_more(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, accounts=OPEN) as world:
            origin = {"Origin": "http://192.168.1.2:32556"}
            for path in ("/v1/owners", "/v1/owners/claims", "/v1/claims"):
                asked = {**origin, "Access-Control-Request-Method": "POST"}
                preflight = await world.call("OPTIONS", path, headers=asked)
                assert preflight.status == 204
                assert preflight.headers["Access-Control-Allow-Origin"] == "*"
                assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
                # Errors too: the page must be able to say what is wrong.
                refused = await world.call("POST", path, headers=origin, json={})
                assert refused.status in (400, 401)
                assert refused.headers["Access-Control-Allow-Origin"] == "*"
                assert "Access-Control-Allow-Credentials" not in refused.headers
            for method, path in (("POST", "/v1/owners/tokens"), ("GET", "/v1/devices"), ("POST", "/v1/accounts")):
                answer = await world.call(method, path, headers=origin, json={})
                assert "Access-Control-Allow-Origin" not in answer.headers, path

    asyncio.run(run())


def test_passwords_are_kept_salted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HASHING >= 2**15
    monkeypatch.setattr(passwords, "_COST", HASHING)
    first, second = hashed("a garden of bees"), hashed("a garden of bees")
    assert first != second
    assert matches("a garden of bees", first)
    assert not matches("a garden of bee", first)
    assert not matches("", None)
    assert len(first) <= 128


def test_logins_are_compared_as_people_read_them() -> None:
    assert normal_login("ＡＤＡ") == normal_login(" ada ") == "ada"
    assert normal_login("农场主") == "农场主"
    with pytest.raises(Malformed):
        normal_login("a\nb c")


def test_tries_come_back_and_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "KEYS_MAX", 2)
    tries = Attempts(2, 10)
    assert [tries.take("a", 0), tries.take("a", 0), tries.take("a", 0)] == [True, True, False]
    assert tries.wait_s("a", 0) == 10
    assert not tries.take("a", 9)
    assert tries.take("a", 10)
    assert [tries.take(key, 10) for key in "bcd"] == [True] * 3
    assert len(tries._buckets) == 2
