"""Accounts and their tokens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fallow_server import tokens as secret
from fallow_server.accounts.tables import claims, tokens
from server_world import running_server
from sqlalchemy import select


@pytest.mark.parametrize(("role", "prefix"), [("owner", "fo_"), ("publisher", "fp_"), ("operator", "fa_")])
def test_a_token_says_what_it_is_and_only_its_hash_is_kept(tmp_path: Path, role: str, prefix: str) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            account = await world.account(role, "名字")
            assert account["token"].startswith(prefix)
            assert len(account["token"]) == len(prefix) + 43
            assert account["name"] == "名字"
            await world.told()
            assert (
                await world.call("GET", f"/v1/accounts/{account['id']}", account["token"], ledger=True)
            ).status == 200
            made.append(account)

    made: list[dict[str, str]] = []
    asyncio.run(run())
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.sqlite*"))
    assert made[0]["token"].encode() not in kept
    assert made[0]["id"].encode() in kept


def test_tokens_are_added_revoked_and_limited(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            path = f"/v1/accounts/{owner['id']}/tokens"
            more = (await world.call("POST", path, world.operator_token)).json
            assert (more["id"], more["role"]) == (owner["id"], "owner")
            for token in (owner["token"], more["token"]):
                assert (await world.call("GET", "/v1/devices", token)).status == 200
            for _ in range(14):
                assert (await world.call("POST", path, world.operator_token)).status == 201
            full = await world.call("POST", path, world.operator_token)
            assert (full.status, full.slug) == (409, "too-many-tokens")
            assert (await world.call("DELETE", path, world.operator_token)).status == 204
            await world.told()
            for token in (owner["token"], more["token"]):
                assert (await world.call("GET", "/v1/devices", token)).status == 401
                assert (await world.call("GET", f"/v1/accounts/{owner['id']}", token, ledger=True)).status == 401
            fresh = (await world.call("POST", path, world.operator_token)).json["token"]
            assert (await world.call("GET", "/v1/devices", fresh)).status == 200

    asyncio.run(run())


@pytest.mark.both_databases
def test_accounts_are_listed_in_pages(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            made = {(await world.account("owner"))["id"] for _ in range(5)}
            seen: list[str] = []
            after = ""
            while page := (await world.call("GET", f"/v1/accounts?limit=2&after={after}", world.operator_token)).json:
                assert len(page) <= 2
                assert "token" not in page[0]
                seen += [one["id"] for one in page]
                after = seen[-1]
            assert seen == sorted(seen)
            assert made < set(seen)
            for query in ("limit=0", "limit=-1", "limit=x", "limit=99999999999999999999", "after=%00", "limit=%C2%B2"):
                answer = await world.call("GET", f"/v1/accounts?{query}", world.operator_token)
                assert (answer.status, answer.slug) == (400, "malformed"), query

    asyncio.run(run())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"role":"owner"}',
        b'{"role":"owner","name":""}',
        b'{"role":"link","name":"x"}',
        b'{"role":"owner","name":"a","name":"b"}',
        b'{"role":"owner","name":"a\\u0000"}',
        b'{"role":"owner","name":"\\ud800"}',
        b'{"role":1.0,"name":"x"}',
        b'{"role":"owner","name":NaN}',
        b"[" * 30000,
        b"\xff",
    ],
)
def test_bad_bodies_are_problems(tmp_path: Path, body: bytes) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            headers = {"Content-Type": "application/json"}
            answer = await world.call("POST", "/v1/accounts", world.operator_token, data=body, headers=headers)
            assert (answer.status, answer.slug) == (400, "malformed")
            plain = await world.call("POST", "/v1/accounts", world.operator_token, data=b"{}", headers={})
            assert (plain.status, plain.slug) == (415, "json-only")
            large = await world.call("POST", "/v1/accounts", world.operator_token, data=b" " * 70_000, headers=headers)
            assert (large.status, large.slug) == (413, "too-large")

    asyncio.run(run())


def test_unknown_accounts_are_not_found(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            for method in ("POST", "DELETE"):
                answer = await world.call(method, "/v1/accounts/own-nobody/tokens", world.operator_token)
                assert (answer.status, answer.slug) == (404, "unknown-account")

    asyncio.run(run())


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            owner = await world.account("owner")
            claim = await world.claim(owner["token"])
            operator_token = world.operator_token
        async with running_server(tmp_path, operator_token=operator_token) as world:
            assert (await world.call("GET", "/v1/devices", owner["token"])).status == 200
            async with world.scheduler.database.read() as connection:
                hashes = set((await connection.execute(select(tokens.c.hash))).scalars())
                kept = (await connection.execute(select(claims.c.hash))).scalars().all()
            assert hashes == {secret.hash_token(operator_token), secret.hash_token(owner["token"])}
            assert kept == [secret.hash_token(claim)]

    asyncio.run(run())
