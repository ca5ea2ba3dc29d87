"""Who has an account here, and which tokens stand for it."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Annotated

from fallow_wire.errors import Malformed
from fallow_wire.fields import one_of, text
from fallow_wire.limits import CLAIM_LIFETIME_S
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import tokens as secret
from ..clock import Clock
from ..database import Database
from ..fleet.tables import devices
from ..http import Principal, Role, refusal
from ..limits import TOKENS_PER_ACCOUNT_MAX
from ..outbox import Outbox
from .tables import accounts, claims, tokens

_PREFIX = {Role.OWNER: secret.OWNER, Role.PUBLISHER: secret.PUBLISHER, Role.OPERATOR: secret.OPERATOR}
_ID_PREFIX = {Role.OWNER: "own-", Role.PUBLISHER: "pub-", Role.OPERATOR: "opr-"}

LIST_MAX = 1000
"""Rows in one answer; a caller asks on with ``after``."""
CLAIM_KEPT_S = 86400
"""After it has expired, so that who comes late is told that it expired."""


@dataclass(frozen=True, slots=True)
class AccountsConfig:
    open_claims_max: int = 10
    """Claims of one owner that are neither used nor expired."""
    claim_lifetime_s: int = CLAIM_LIFETIME_S
    open_registration: bool = False
    """Anyone may become an owner, from the phone app. Else the operator makes every account."""
    registrations_per_address_burst: int = 5
    registrations_per_address_every_s: int = 3600
    """Of one IPv4 address or IPv6 /64: five at once, then one an hour."""
    registrations_burst: int = 200
    registrations_every_s: int = 10
    """Of all: a town that joins on one evening, and then 8,640 a day."""


@dataclass(frozen=True, slots=True)
class NewAccount:
    """``POST /v1/accounts``."""

    role: Annotated[str, one_of("owner", "publisher", "operator")]
    name: Annotated[str, text(128, 1)]

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise Malformed("name: text without control characters is wanted")


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    role: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class IssuedAccount:
    """The token is shown this once; only its hash is kept."""

    id: str
    role: str
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Claim:
    claim_token: str
    expires_at: int


class Accounts:
    """Accounts in the scheduler's database; also its :class:`~fallow_server.http.Authenticator`."""

    def __init__(self, config: AccountsConfig, database: Database, clock: Clock, outbox: Outbox) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._outbox = outbox

    async def principal_of(self, token: str) -> Principal | None:
        digest = secret.hash_token(token)
        async with self._database.read() as connection:
            if token.startswith(secret.DEVICE):
                query = select(devices.c.id, devices.c.owner).where(devices.c.token_hash == digest)
                device = (await connection.execute(query)).one_or_none()
                if device is None or device.owner is None:
                    return None
                return Principal(device.owner, Role.DEVICE, device.id)
            joined = tokens.join(accounts, tokens.c.account == accounts.c.id)
            account_query = select(accounts.c.id, accounts.c.role).select_from(joined).where(tokens.c.hash == digest)
            account = (await connection.execute(account_query)).one_or_none()
        return None if account is None else Principal(account.id, Role(account.role))

    async def create(self, new: NewAccount) -> IssuedAccount:
        token = secret.new_token(_PREFIX[Role(new.role)])
        async with self._database.write() as connection:
            account_id = await self.add(connection, new)
            await self._insert_token(connection, account_id, token)
        self._outbox.wake()
        return IssuedAccount(account_id, new.role, new.name, token)

    async def add(self, connection: AsyncConnection, new: NewAccount) -> str:
        """An account without a token, in the caller's transaction; after it, call :meth:`added`. Gives its id."""
        account_id = _ID_PREFIX[Role(new.role)] + base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()
        row = {"id": account_id, "role": new.role, "name": new.name, "created_at": self._clock.now()}
        await connection.execute(insert(accounts).values(row))
        await self._outbox.note(connection, "account", account_id)
        return account_id

    def added(self) -> None:
        """The transaction of :meth:`add` is over: the ledger is told."""
        self._outbox.wake()

    async def page(self, after: str, limit: int) -> list[Account]:
        """Accounts in the order of their ids, from the one behind ``after``."""
        query = select(accounts).where(accounts.c.id > after).order_by(accounts.c.id).limit(min(limit, LIST_MAX))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [Account(row.id, row.role, row.name, row.created_at) for row in rows]

    async def find(self, account_id: str) -> Account:
        """:raises ApiProblem: 404 for an account that is not there."""
        async with self._database.read() as connection:
            return await self._find(connection, account_id)

    async def first_operator(self) -> Account | None:
        """The oldest operator account; None before ``fallow-server init`` has made one."""
        query = select(accounts).where(accounts.c.role == Role.OPERATOR.value).order_by(accounts.c.created_at).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Account(row.id, row.role, row.name, row.created_at)

    async def issue_token(self, account_id: str) -> IssuedAccount:
        """A further token of an account.

        :raises ApiProblem: 404 for an account that is not there, 409 when it has too many tokens.
        """
        async with self._database.write() as connection:
            account = await self._find(connection, account_id)
            count = select(func.count()).select_from(tokens).where(tokens.c.account == account_id)
            if (await connection.execute(count)).scalar_one() >= TOKENS_PER_ACCOUNT_MAX:
                raise refusal(
                    409,
                    "too-many-tokens",
                    f"An account has at most {TOKENS_PER_ACCOUNT_MAX} tokens",
                    remedy=f"Revoke all of them with DELETE /v1/accounts/{account_id}/tokens, then issue new ones.",
                )
            token = secret.new_token(_PREFIX[Role(account.role)])
            await self._insert_token(connection, account_id, token)
            await self._outbox.note(connection, "account", account_id)
        self._outbox.wake()
        return IssuedAccount(account.id, account.role, account.name, token)

    async def revoke_tokens(self, account_id: str) -> None:
        """Take every token of an account away. It takes effect here at once, at the ledger when the link has told it.

        :raises ApiProblem: 404 for an account that is not there.
        """
        async with self._database.write() as connection:
            await self._find(connection, account_id)
            await connection.execute(delete(tokens).where(tokens.c.account == account_id))
            await self._outbox.note(connection, "account", account_id)
        self._outbox.wake()

    async def create_claim(self, owner: str) -> Claim:
        """A token with which one device can be bound to ``owner``, once.

        :raises ApiProblem: 429 when the owner has too many open ones.
        """
        now = self._clock.now()
        token = secret.new_token(secret.CLAIM)
        expires_at = now + self._config.claim_lifetime_s
        async with self._database.write() as connection:
            await connection.execute(delete(claims).where(claims.c.expires_at <= now - CLAIM_KEPT_S))
            is_open = (claims.c.owner == owner) & claims.c.device.is_(None) & (claims.c.expires_at > now)
            soonest = select(func.count(), func.min(claims.c.expires_at)).select_from(claims).where(is_open)
            count, frees_at = (await connection.execute(soonest)).one()
            if count >= self._config.open_claims_max:
                raise refusal(
                    429,
                    "too-many-claims",
                    f"An owner has at most {self._config.open_claims_max} open claims",
                    remedy="Use one of them, or wait until the oldest has expired.",
                    headers={"Retry-After": str(max(1, frees_at - now))},
                )
            row = {"hash": secret.hash_token(token), "owner": owner, "expires_at": expires_at}
            await connection.execute(insert(claims).values(row))
        return Claim(token, expires_at)

    async def _insert_token(self, connection: AsyncConnection, account_id: str, token: str) -> None:
        row = {"hash": secret.hash_token(token), "account": account_id, "created_at": self._clock.now()}
        await connection.execute(insert(tokens).values(row))

    async def _find(self, connection: AsyncConnection, account_id: str) -> Account:
        row = (await connection.execute(select(accounts).where(accounts.c.id == account_id))).one_or_none()
        if row is None:
            raise refusal(404, "unknown-account", "There is no such account")
        return Account(row.id, row.role, row.name, row.created_at)
