"""Who may call what: every route of both applications, with every role. The table is read from the routers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from fallow_server.http import Role
from server_world import Answer, ServerWorld, running_server
from support import key

EVERYONE = {Role.ANYONE}
OPERATOR = {Role.OPERATOR}

# What docs/protocol.md says. Not the code's own table: that is what is tested.
SCHEDULER = {
    "GET /": EVERYONE,
    "GET /console": EVERYONE,
    "GET /console/": EVERYONE,
    "GET /console/assets/{name}": EVERYONE,
    "GET /console/session": EVERYONE,  # tells who the cookie stands for
    "POST /console/session": EVERYONE,  # with a token
    "DELETE /console/session": EVERYONE,  # only that of the cookie
    "GET /console/fleet": OPERATOR,
    "GET /console/fleet/summary": OPERATOR,
    "GET /console/devices/{id}": OPERATOR,
    "GET /console/history": OPERATOR,
    "GET /console/capacity": OPERATOR,
    "GET /console/accounts": OPERATOR,
    "GET /console/objects": {Role.PUBLISHER, Role.OPERATOR},
    "GET /console/sites": {Role.PUBLISHER, Role.OPERATOR},
    # Passed on to the ledger, with the caller's own token.
    "GET /console/ledger/v1/health": OPERATOR,
    "GET /console/ledger/v1/accounts/{id}": {Role.PUBLISHER, Role.OPERATOR},
    "GET /console/ledger/v1/accounts/{id}/statements": {Role.PUBLISHER, Role.OPERATOR},
    "GET /console/ledger/v1/accounts/{id}/statements/{month}": {Role.PUBLISHER, Role.OPERATOR},
    "GET /console/ledger/v1/tariffs": {Role.PUBLISHER, Role.OPERATOR},
    "GET /console/ledger/v1/tariffs/current": {Role.PUBLISHER, Role.OPERATOR},
    "POST /console/ledger/v1/tariffs": OPERATOR,
    "POST /console/ledger/v1/tariffs/diff": OPERATOR,
    "GET /console/ledger/v1/reviews": OPERATOR,
    "GET /console/ledger/v1/reviews/{id}": OPERATOR,
    "POST /console/ledger/v1/reviews/{id}/resolution": OPERATOR,
    "GET /console/ledger/v1/reconciliation": OPERATOR,
    "GET /console/ledger/v1/reports": OPERATOR,
    "GET /console/ledger/v1/restores": OPERATOR,
    "POST /console/ledger/v1/restores/{id}/review": OPERATOR,
    "POST /console/ledger/v1/deposits": OPERATOR,
    "GET /console/ledger/v1/rewards": {Role.PUBLISHER, Role.OPERATOR},
    "POST /console/ledger/v1/rewards": OPERATOR,
    "DELETE /console/ledger/v1/rewards/{id}": OPERATOR,
    "POST /console/ledger/v1/rewards/{id}/stock": OPERATOR,
    "GET /console/ledger/v1/redemptions": OPERATOR,
    "POST /console/ledger/v1/redemptions/{id}/resolution": OPERATOR,
    "GET /.well-known/jwks.json": EVERYONE,
    "OPTIONS /.well-known/jwks.json": EVERYONE,
    "GET /metrics": OPERATOR,
    "GET /v1/health": EVERYONE,
    "POST /v1/accounts": OPERATOR,
    "GET /v1/accounts": OPERATOR,
    "POST /v1/accounts/{id}/tokens": OPERATOR,
    "DELETE /v1/accounts/{id}/tokens": OPERATOR,
    "POST /v1/claims": {Role.OWNER},
    "OPTIONS /v1/claims": EVERYONE,
    "GET /v1/owners": EVERYONE,
    "POST /v1/owners": EVERYONE,
    "OPTIONS /v1/owners": EVERYONE,
    "POST /v1/owners/claims": EVERYONE,  # signed in by the password in the body
    "OPTIONS /v1/owners/claims": EVERYONE,
    "POST /v1/owners/tokens": EVERYONE,
    "PUT /v1/owners/me/login": {Role.OWNER},
    "POST /v1/devices": EVERYONE,  # signed by the device's key
    "GET /v1/devices": {Role.OWNER, Role.OPERATOR},
    "DELETE /v1/devices/{id}": {Role.OWNER, Role.OPERATOR, Role.DEVICE},
    "GET /v1/session": EVERYONE,  # signed by the device's key
    "POST /v1/session/address": {Role.DEVICE},
    "POST /v1/speedtest": {Role.DEVICE},
    "GET /v1/speedtest": {Role.DEVICE},
    "POST /v1/objects": {Role.PUBLISHER},
    "GET /v1/objects": {Role.PUBLISHER},
    "GET /v1/objects/{id}": {Role.PUBLISHER},
    "DELETE /v1/objects/{id}": {Role.PUBLISHER},
    "POST /v1/sites": {Role.PUBLISHER},
    "GET /v1/sites": {Role.PUBLISHER},
    "DELETE /v1/sites/{name}": {Role.PUBLISHER},
    "GET /s/{name}/{path}": EVERYONE,
    "HEAD /s/{name}/{path}": EVERYONE,
    "POST /v1/tasks": {Role.PUBLISHER},
    "GET /v1/tasks": {Role.PUBLISHER, Role.OPERATOR},
    "GET /v1/tasks/{id}": {Role.PUBLISHER, Role.OPERATOR},
    "GET /v1/tasks/{id}/results": {Role.PUBLISHER, Role.OPERATOR},
    "GET /v1/tasks/{id}/why": {Role.PUBLISHER, Role.OPERATOR},
    "DELETE /v1/tasks/{id}": {Role.PUBLISHER, Role.OPERATOR},
    "GET /o/{id}/{name}": EVERYONE,
    "HEAD /o/{id}/{name}": EVERYONE,
    "OPTIONS /o/{id}/{name}": EVERYONE,
    "GET /v1/manifests/{id}": EVERYONE,
    "POST /v1/plans": EVERYONE,
    "OPTIONS /v1/plans": EVERYONE,
    "OPTIONS /s/{name}/{path}": EVERYONE,
    "OPTIONS /v1/manifests/{id}": EVERYONE,
    "GET /fallow.js": EVERYONE,
    "OPTIONS /fallow.js": EVERYONE,
    "GET /fallow/{name}": EVERYONE,
    "OPTIONS /fallow/{name}": EVERYONE,
    "GET /watch/{id}": EVERYONE,
}
SEES_ACCOUNT = {Role.OWNER, Role.PUBLISHER, Role.DEVICE, Role.OPERATOR}
LEDGER = {
    "GET /.well-known/jwks.json": EVERYONE,
    "OPTIONS /.well-known/jwks.json": EVERYONE,
    "GET /metrics": OPERATOR,
    "GET /v1/health": EVERYONE,
    "POST /v1/proofs": EVERYONE,  # signed by the device's key
    "GET /v1/accounts/{id}": SEES_ACCOUNT,
    "GET /v1/accounts/{id}/entries": SEES_ACCOUNT,
    "GET /v1/accounts/{id}/days": SEES_ACCOUNT - {Role.PUBLISHER},
    "GET /v1/accounts/{id}/days/{day}": SEES_ACCOUNT - {Role.PUBLISHER},
    "GET /v1/accounts/{id}/statements": SEES_ACCOUNT,
    "GET /v1/accounts/{id}/statements/{month}": SEES_ACCOUNT,
    "GET /v1/settlements/{jti}": SEES_ACCOUNT,
    "POST /v1/settlements/{jti}/clawback": OPERATOR,
    "GET /v1/tariffs": EVERYONE,
    "POST /v1/tariffs/diff": OPERATOR,
    "GET /v1/tariffs/current": EVERYONE,
    "GET /v1/tariffs/{id}": EVERYONE,
    "POST /v1/tariffs": OPERATOR,
    "GET /v1/head": EVERYONE,
    "GET /v1/audits": {Role.OWNER, Role.DEVICE, Role.OPERATOR},
    "POST /v1/audits": OPERATOR | {Role.LINK},
    "GET /v1/reviews": {Role.OWNER, Role.DEVICE, Role.OPERATOR},
    "GET /v1/reviews/{id}": {Role.OWNER, Role.DEVICE, Role.OPERATOR},
    "POST /v1/reviews/{id}/resolution": OPERATOR,
    "GET /v1/roots": EVERYONE,
    "GET /v1/roots/{day}": EVERYONE,
    "GET /v1/export": OPERATOR,
    "POST /v1/deposits": OPERATOR,
    "GET /v1/rewards": EVERYONE,
    "POST /v1/rewards": OPERATOR,
    "DELETE /v1/rewards/{id}": OPERATOR,
    "POST /v1/rewards/{id}/stock": OPERATOR,
    "POST /v1/redemptions": {Role.OWNER, Role.DEVICE},
    "GET /v1/redemptions": {Role.OWNER, Role.DEVICE, Role.OPERATOR},
    "GET /v1/redemptions/{id}": {Role.OWNER, Role.DEVICE, Role.OPERATOR},
    "POST /v1/redemptions/{id}/resolution": OPERATOR,
    "GET /v1/reconciliation": OPERATOR,
    "GET /v1/restores": OPERATOR,
    "GET /v1/reports": OPERATOR,
    "POST /v1/restores/{id}/review": OPERATOR,
    "PUT /v1/link/scheduler": {Role.LINK},
    "PUT /v1/link/accounts/{id}": {Role.LINK},
    "PUT /v1/link/devices/{id}": {Role.LINK},
    "POST /v1/link/reservations": {Role.LINK},
}


def routes_of(world: ServerWorld, *, ledger: bool) -> set[str]:
    """As aiohttp itself dispatches, with variable parts reduced to their names."""
    assert world.app.ledger is not None
    application = (world.app.ledger.api if ledger else world.scheduler.api).application
    found = set()
    for route in application.router.routes():
        assert route.resource is not None
        path = re.sub(r"{(\w+)[^}]*}", r"{\1}", route.resource.canonical)
        found.add(f"{route.method} {path}")
    return found


async def tokens_of_all_roles(world: ServerWorld) -> tuple[dict[str, str | None], dict[str, str]]:
    """Tokens, and the account that each role's token stands for."""
    owner, publisher = await world.account("owner"), await world.account("publisher")
    enrolled = await world.enrol(key(1), await world.claim(owner["token"]))
    await world.told()
    accounts = {Role.OWNER: owner["id"], Role.PUBLISHER: publisher["id"], Role.DEVICE: owner["id"]}
    return {
        Role.OPERATOR: world.operator_token,
        Role.OWNER: owner["token"],
        Role.PUBLISHER: publisher["token"],
        Role.DEVICE: enrolled.json["ledger_token"],
        Role.LINK: world.app._state.link_token(),
        "nobody": None,
        "garbage": "fo_" + "A" * 43,
        "long garbage": "x" * 5000,
        "not ascii": "f\u00f6",
        "claim": await world.claim(owner["token"]),
    }, {str(role): account for role, account in accounts.items()}


async def call(world: ServerWorld, route: str, token: str | None, account: str, *, ledger: bool) -> Answer:
    method, path = route.split(" ")
    if ledger or "/console/ledger/" in path:  # where everyone but the operator sees only what is their own
        path = path.replace("/v1/accounts/{id}", f"/v1/accounts/{account}")
    path = re.sub(r"{\w+}", "x", path)
    # From another address than loopback, as a proxy would say, for loopback may read metrics.
    headers = {"X-Forwarded-For": "203.0.113.7"}
    return await world.call(method, path, token, ledger=ledger, headers=headers)


def check(tmp_path: Path, table: dict[str, set[Role]], *, ledger: bool) -> None:
    async def run() -> None:
        async with running_server(tmp_path, http={"trusted_proxies": ["127.0.0.1"]}) as world:
            routes = routes_of(world, ledger=ledger)
            assert routes - table.keys() == set(), "a route that the table does not know"
            assert table.keys() - routes == set(), "a route of the protocol that is missing"
            tokens, accounts = await tokens_of_all_roles(world)
            for route in sorted(routes):
                allowed = table[route]
                for name, token in tokens.items():
                    answer = await call(world, route, token, accounts.get(name, "x"), ledger=ledger)
                    where = f"{route} as {name}: {answer.status} {answer.body[:200]!r}"
                    known_here = {Role.LINK} if ledger else set()
                    is_role = name in set(Role) and (name != Role.LINK or name in known_here)
                    if allowed == EVERYONE or name in allowed:
                        assert answer.status not in (401, 403, 500), where
                    elif is_role:
                        assert answer.status == 403, where
                        assert answer.slug == "forbidden", where
                    else:
                        assert answer.status == 401, where
                        assert answer.slug in ("token-missing", "token-unknown"), where
                        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), where

    asyncio.run(run())


def test_the_scheduler_lets_in_whom_the_protocol_names(tmp_path: Path) -> None:
    check(tmp_path, SCHEDULER, ledger=False)


def test_the_ledger_lets_in_whom_the_protocol_names(tmp_path: Path) -> None:
    check(tmp_path, LEDGER, ledger=True)


def test_the_documented_calls_are_those_of_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    documented = page[page.index("## Objects and delivery") : page.index("## Service port")]
    documented += page[page.index("## Ledger") : page.index("### Order of verification")]
    for route in re.findall(r"`(?:GET|POST|PUT|DELETE) /(?:v1|s|o)/[^` {?[]*", documented):
        start = route.strip("`").rstrip("/")
        assert any(known.startswith(start) for known in (*SCHEDULER, *LEDGER)), start
