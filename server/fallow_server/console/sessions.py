"""Sessions of browsers: who signs in with an account's token gets a cookie that stands for it for a while.

The rules:
1. A browser never keeps the token. It keeps a random secret in a cookie that no script can read; the database keeps its
   hash, and the token sealed under a key that only the secret gives. A stolen database lets nobody in.
2. A session has no rights of its own: each call is admitted by the account's token. Revoking that ends the session.
3. The cookie alone is worth nothing. A call must also bear a header that only a page of this server can know, and where
   the browser says from where it comes, that must be here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from aiohttp import web
from fallow_wire.encoding import base64url, from_base64url
from fallow_wire.errors import Malformed
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from sqlalchemy import delete, insert, select

from ..accounts.attempts import Attempts
from ..clock import Clock
from ..database import Database
from ..delivery.pseudonym import prefix_of
from ..http import Role, refusal
from ..tokens import hash_token
from .config import Config
from .tables import console_sessions

ROLES = (Role.OPERATOR, Role.PUBLISHER)
CSRF_HEADER = "X-Fallow-Session"
SECRET_CHARS = 43


@dataclass(frozen=True, slots=True)
class Session:
    """``csrf``: what calls must bear. ``expires_at``: Unix seconds."""

    secret: str
    csrf: str
    expires_at: int


class ConsoleSessions:
    """:class:`~..http.SessionKeeper` of the scheduler.

    :param secure: browsers reach this server by https, and shall send the cookie by nothing else.
    """

    def __init__(self, config: Config, database: Database, clock: Clock, *, secure: bool) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._secure = secure
        self.cookie = "__Host-fallow" if secure else "fallow"
        self._failures = Attempts(config.failures_burst, config.failures_every_s)

    def check_failures(self, address: str) -> None:
        """:raises ApiProblem: 429 when too many wrong tokens came from ``address``."""
        key, now_s = prefix_of(address), self._clock.monotonic()
        if not self._failures.may(key, now_s):
            raise refusal(
                429, "too-many-tries", "Too many wrong tokens from this address",
                remedy="Wait a minute, then try again with the right one.",
                headers={"Retry-After": str(self._failures.wait_s(key, now_s))},
            )  # fmt: skip

    def note_failure(self, address: str) -> None:
        """Only what fails counts: others behind the same address go on signing in."""
        self._failures.take(prefix_of(address), self._clock.monotonic())

    async def begin(self, token: str, account: str) -> Session:
        """:param token: of ``account``, verified."""
        secret = base64url(secrets.token_bytes(32))
        now = self._clock.now()
        expires_at = now + self._config.session_s
        sealed = base64url(SecretBox(_derived(secret, b"seal")).encrypt(token.encode("ascii")))
        row = {"hash": hash_token(secret), "account": account, "sealed": sealed, "expires_at": expires_at}
        table = console_sessions.c
        newest = (
            select(table.hash)
            .where(table.account == account)
            .order_by(table.expires_at.desc(), table.hash)
            .limit(self._config.sessions_per_account_max)
        )
        async with self._database.write() as connection:
            await connection.execute(delete(console_sessions).where(table.expires_at <= now))
            await connection.execute(insert(console_sessions).values(row))
            kept = (await connection.execute(newest)).scalars().all()
            older = delete(console_sessions).where(table.account == account, table.hash.not_in(kept))
            await connection.execute(older)
        return Session(secret, _csrf(secret), expires_at)

    async def end(self, request: web.Request) -> None:
        """:raises ApiProblem: 403 when the call is not one of our pages'."""
        secret = self._secret(request)
        if secret is not None:
            self._check(request, secret)
            async with self._database.write() as connection:
                mine = console_sessions.c.hash == hash_token(secret)
                await connection.execute(delete(console_sessions).where(mine))

    async def token_of(self, request: web.Request) -> str | None:
        """The account's token; None where the request has no cookie.

        :raises ApiProblem: 403 when the call is not one of our pages', 401 when the session has ended.
        """
        secret = self._secret(request)
        if secret is None:
            return None
        self._check(request, secret)
        found = await self._find(secret)
        if found is None:
            raise refusal(
                401, "session-ended", "You are no longer signed in",
                remedy="Sign in again.", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return found[0]

    async def resumed(self, request: web.Request) -> tuple[str, Session] | None:
        """Token and session of a page that was opened anew, and knows only its cookie; None without one that holds."""
        secret = self._secret(request)
        if secret is None or not is_own_page(request):
            return None
        found = await self._find(secret)
        return None if found is None else (found[0], Session(secret, _csrf(secret), found[1]))

    def set_cookie(self, response: web.Response, session: Session) -> None:
        response.set_cookie(
            self.cookie, session.secret, max_age=self._config.session_s, path="/",
            secure=self._secure, httponly=True, samesite="Strict",
        )  # fmt: skip

    def drop_cookie(self, response: web.Response) -> None:
        response.del_cookie(self.cookie, path="/", secure=self._secure, httponly=True, samesite="Strict")

    def _secret(self, request: web.Request) -> str | None:
        secret = request.cookies.get(self.cookie)
        return secret if secret is not None and len(secret) == SECRET_CHARS and secret.isascii() else None

    def _check(self, request: web.Request, secret: str) -> None:
        given = request.headers.get(CSRF_HEADER, "")
        if not is_own_page(request) or not hmac.compare_digest(
            given.encode("utf-8", "replace"), _csrf(secret).encode()
        ):
            raise refusal(403, "not-our-page", "A session is only for the pages of this server")

    async def _find(self, secret: str) -> tuple[str, int] | None:
        """Token and end of the session."""
        query = "SELECT sealed, expires_at FROM console_sessions WHERE hash = ?"
        rows = await self._database.ask(lambda rows: rows.all(query, (hash_token(secret),)))
        if not rows or rows[0][1] <= self._clock.now():
            return None
        try:
            token = SecretBox(_derived(secret, b"seal")).decrypt(from_base64url(rows[0][0]))
        except (CryptoError, Malformed, ValueError):
            return None
        return token.decode("ascii"), int(rows[0][1])


def is_own_page(request: web.Request) -> bool:
    """Whether the browser, where it says so, is on a page of this server: one of another port is not."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own_site = site is None or site == "same-origin"
    return own_site and (origin is None or origin.partition("://")[2].lower() == request.host.lower())


def _derived(secret: str, use: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"fallow " + use).digest()


def _csrf(secret: str) -> str:
    return base64url(_derived(secret, b"csrf"))
