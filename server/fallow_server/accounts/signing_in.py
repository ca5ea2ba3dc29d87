"""Owners who sign in with a login and a password, as the phone app lets them: it carries no operator's token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fallow_wire.fields import text
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..delivery.pseudonym import prefix_of
from ..http import Role, refusal
from .accounts import Accounts, AccountsConfig, Claim, IssuedAccount, NewAccount
from .attempts import Attempts
from .passwords import PASSWORD_CHARS_MAX, check_new, hashed, matches, normal_login
from .tables import logins

T = TypeVar("T")

HASHES_AT_ONCE_MAX = 2
"""Each takes 32 MiB and a tenth of a second of a processor."""
HASHES_WAITING_MAX = 32
TRIES_OF_ADDRESS, TRIES_OF_ADDRESS_EVERY_S = 20, 30
"""A home, or a hall behind one address, mistypes; a program that guesses gets two tries a minute."""
TRIES_OF_LOGIN, TRIES_OF_LOGIN_EVERY_S = 20, 60
"""From all addresses together."""
EVERYONE = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """``POST /v1/owners`` and what signs in afterwards."""

    login: Annotated[str, text(64 * 4, 1)]
    password: Annotated[str, text(PASSWORD_CHARS_MAX, 1)]


@dataclass(frozen=True, slots=True)
class Registered:
    id: str
    claim_token: str
    expires_at: int


class SigningIn:
    """Registers owners, and gives what a login and its password are good for."""

    def __init__(self, config: AccountsConfig, accounts: Accounts, database: Database, clock: Clock) -> None:
        self._config = config
        self._accounts = accounts
        self._database = database
        self._clock = clock
        self._by_address = Attempts(TRIES_OF_ADDRESS, TRIES_OF_ADDRESS_EVERY_S)
        self._by_login = Attempts(TRIES_OF_LOGIN, TRIES_OF_LOGIN_EVERY_S)
        self._new_by_address = Attempts(
            config.registrations_per_address_burst, config.registrations_per_address_every_s
        )
        self._new = Attempts(config.registrations_burst, config.registrations_every_s)
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE_MAX)
        self._waiting = 0

    @property
    def is_open(self) -> bool:
        """Whether anyone may become an owner here."""
        return self._config.open_registration

    async def register(self, new: Credentials, address: str) -> Registered:
        """A new owner, with a claim for the first device.

        :raises ApiProblem: 403 where the operator registers owners, 409 for a login that is taken, 429 for too many.
        :raises Malformed: for a login or a password that is not acceptable.
        """
        if not self.is_open:
            raise refusal(
                403,
                "registration-closed",
                "Accounts are made by the operator here",
                remedy="Ask the operator of this server for an account, then sign in.",
            )
        login = normal_login(new.login)
        check_new(new.password, login)
        # Before it is said whether the login is taken: who asks for many learns little.
        self._take(self._new_by_address, prefix_of(address))
        self._take(self._new, EVERYONE)
        kept = await self._hash(lambda: hashed(new.password))
        async with self._database.write() as connection:
            owner = await self._accounts.add(connection, NewAccount(Role.OWNER.value, login))
            await self._insert(connection, owner, login, kept)
        self._accounts.added()
        claim = await self._accounts.create_claim(owner)
        return Registered(owner, claim.claim_token, claim.expires_at)

    async def claim(self, shown: Credentials, address: str) -> Claim:
        """A claim for a device. :raises ApiProblem: 403 for a wrong login or password, 429 for too many tries."""
        return await self._accounts.create_claim(await self._verified(shown, address))

    async def token(self, shown: Credentials, address: str) -> IssuedAccount:
        """A further token, for the command line. Raises as :meth:`claim`."""
        return await self._accounts.issue_token(await self._verified(shown, address))

    async def set_password(self, owner: str, new: Credentials) -> None:
        """Give an owner, who has shown a token, a login and a password in place of any before.

        :raises ApiProblem: 409 for a login that is another's. :raises Malformed: as :meth:`register`.
        """
        login = normal_login(new.login)
        check_new(new.password, login)
        kept = await self._hash(lambda: hashed(new.password))
        async with self._database.write() as connection:
            await connection.execute(delete(logins).where(logins.c.account == owner))
            await self._insert(connection, owner, login, kept)

    async def _verified(self, shown: Credentials, address: str) -> str:
        login = normal_login(shown.login)
        self._take(self._by_address, prefix_of(address))
        self._take(self._by_login, login)
        query = select(logins.c.account, logins.c.password).where(logins.c.login == login)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        kept: str | None = None if row is None else row.password
        if not await self._hash(lambda: matches(shown.password, kept)) or row is None:
            raise refusal(
                403,
                "wrong-password",
                "Login or password is wrong",
                remedy="Try again. If the password is lost, the operator can give you a token to set a new one.",
            )
        account: str = row.account
        return account

    async def _insert(self, connection: AsyncConnection, account: str, login: str, password: str) -> None:
        row = {"login": login, "account": account, "password": password, "changed_at": self._clock.now()}
        try:
            await connection.execute(insert(logins).values(row))
        except IntegrityError:
            raise refusal(
                409, "login-taken", "This login is taken", remedy="Choose another, or sign in if it is yours."
            ) from None

    def _take(self, attempts: Attempts, key: str) -> None:
        now_s = self._clock.monotonic()
        if not attempts.take(key, now_s):
            raise refusal(
                429,
                "too-many-tries",
                "Too many tries",
                remedy="Wait a little, then try again.",
                headers={"Retry-After": str(attempts.wait_s(key, now_s))},
            )

    async def _hash(self, work: Callable[[], T]) -> T:
        """Slow work in a thread, a few at a time. :raises ApiProblem: 503 when too many wait for it."""
        if self._waiting >= HASHES_WAITING_MAX:
            raise refusal(
                503,
                "too-many",
                "Too many sign in at this moment",
                fault="here",
                remedy="Try again in a few seconds.",
                headers={"Retry-After": "5"},
            )
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
