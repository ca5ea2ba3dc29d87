"""What the scheduler told over the link: accounts, devices, schedulers' keys; and who a bearer token is."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import lru_cache

from aiohttp import web
from fallow_wire.encoding import from_base64url
from fallow_wire.errors import BadKey
from fallow_wire.fields import decode, device_id, encode, word
from fallow_wire.keys import JwkSet, PublicKey
from fallow_wire.strict import dumps, loads_object
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..database import Database
from ..http import Api, Principal, Role, record_body, refusal
from ..link import LinkAccount, LinkDevice, LinkScheduler
from ..rows import Rows
from ..signing import key_set
from ..tokens import hash_token
from .books import upsert
from .tables import account_tokens, accounts, devices, schedulers
from .verification import DeviceChain


class LedgerAuthenticator:
    """Bearer tokens of owners, publishers, operators, devices (in their owner's name) and the link."""

    def __init__(self, database: Database, link_token_hash: str) -> None:
        self._database = database
        self._link_token_hash = link_token_hash

    async def principal_of(self, token: str) -> Principal | None:
        digest = hash_token(token)
        if hmac.compare_digest(digest, self._link_token_hash):
            return Principal("", Role.LINK)
        async with self._database.read() as connection:
            query = (
                select(accounts.c.id, accounts.c.role)
                .join(account_tokens, account_tokens.c.account == accounts.c.id)
                .where(account_tokens.c.token_hash == digest)
            )
            account = (await connection.execute(query)).one_or_none()
            if account is not None:
                return Principal(account.id, Role(account.role))
            device_query = select(devices.c.id, devices.c.owner).where(devices.c.token_hash == digest)
            device = (await connection.execute(device_query)).one_or_none()
        if device is None or device.owner is None:
            return None
        return Principal(device.owner, Role.DEVICE, device.id)


class Directory:
    """The ``/v1/link`` calls that mirror what the scheduler knows. All may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_routes(self, api: Api) -> None:
        api.add("PUT", "/v1/link/scheduler", self.put_scheduler, Role.LINK)
        api.add("PUT", "/v1/link/accounts/{id}", self.put_account, Role.LINK)
        api.add("PUT", "/v1/link/devices/{id}", self.put_device, Role.LINK)

    async def put_scheduler(self, request: web.Request) -> web.Response:
        """What is told replaces what was told before: a key that is published no longer signs nothing more, whatever
        the scheduler was called when it used it. Under an older URL the keys that are still published go on
        verifying, for tickets that were issued before it changed.
        """
        told = await record_body(request, LinkScheduler)
        published = key_set(told.jwks)  # weak keys are refused here and not when a ticket arrives
        async with self._database.write() as connection:
            for row in (await connection.execute(select(schedulers).where(schedulers.c.url != told.url))).all():
                kept = tuple(jwk for jwk in _stored(row.jwks).keys if PublicKey.from_jwk(jwk).thumbprint() in published)
                older = schedulers.c.url == row.url
                if kept:
                    await connection.execute(update(schedulers).where(older).values(jwks=_text(JwkSet(kept))))
                else:
                    await connection.execute(delete(schedulers).where(older))
            await upsert(connection, schedulers, [{"url": told.url, "jwks": _text(told.jwks)}])
        return web.Response(status=204)

    async def put_account(self, request: web.Request) -> web.Response:
        account: str = word()(request.match_info["id"], "id", True)
        told = await record_body(request, LinkAccount)
        async with self._database.write() as connection:
            await upsert(connection, accounts, [{"id": account, "role": told.role, "name": told.name}])
            await connection.execute(delete(account_tokens).where(account_tokens.c.account == account))
            rows = [{"token_hash": token_hash, "account": account} for token_hash in sorted(set(told.token_hashes))]
            await upsert(connection, account_tokens, rows)
        return web.Response(status=204)

    async def put_device(self, request: web.Request) -> web.Response:
        device: str = device_id()(request.match_info["id"], "id", True)
        told = await record_body(request, LinkDevice)
        if PublicKey.from_jwk(told.jwk).device_id() != device:
            raise BadKey("the device id is not that of the key")
        changed = {"owner": told.owner, "token_hash": told.token_hash}
        async with self._database.write() as connection:
            # The batch chain of a device goes on across owners: only what was told is replaced.
            found = await connection.execute(update(devices).where(devices.c.id == device).values(changed))
            if found.rowcount == 0:
                start = DeviceChain()
                row = {"id": device, "x": told.jwk.x, "seq": start.seq, "hash": start.hash, **changed}
                await upsert(connection, devices, [row])
        return web.Response(status=204)


def stored_scheduler_keys(rows: Rows) -> dict[tuple[str, str], PublicKey]:
    """Schedulers' keys by URL and ``kid``: a key speaks for the scheduler that published it and for no other."""
    keys: dict[tuple[str, str], PublicKey] = {}
    for url, jwks in rows.all("SELECT url, jwks FROM schedulers"):
        keys.update(((url, kid), key) for kid, key in _keys_in(jwks).items())
    return keys


@lru_cache(maxsize=64)
def _keys_in(jwks: str) -> Mapping[str, PublicKey]:
    return key_set(_stored(jwks))


def _stored(jwks: str) -> JwkSet:
    return decode(JwkSet, loads_object(jwks, len(jwks)), strict=True)


def _text(jwks: JwkSet) -> str:
    return dumps(encode(jwks)).decode()


def device_key(x: str) -> PublicKey:
    """The key of a ``devices`` row."""
    return PublicKey(from_base64url(x))


async def publisher_exists(connection: AsyncConnection, publisher: str) -> None:
    """:raises ApiProblem: 404 unless there is such a publisher."""
    query = select(accounts.c.id).where(accounts.c.id == publisher, accounts.c.role == "publisher")
    if (await connection.execute(query)).one_or_none() is None:
        raise refusal(
            404,
            "unknown-publisher",
            "The ledger knows no such publisher",
            remedy="Check the id. A new account reaches the ledger within seconds; try again then.",
        )


def may_see(caller: Principal, *holders: str) -> bool:
    """Operators see all; others what is their account's."""
    return caller.role is Role.OPERATOR or caller.account in holders
