"""The page at ``/``, the console's files, and signing in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from aiohttp import web
from fallow_wire.fields import text

from ..accounts.accounts import Accounts
from ..built import FOREVER, read_all_built, read_built
from ..http import TOKEN_CHARS_MAX, Api, Role, caller_address, json_response, record_body, refusal
from .sessions import ROLES, ConsoleSessions, Session, is_own_page

APP = Path(__file__).parent / "app"
"""Made by ``make web``."""

_GREETING_HEADERS = {
    "Cache-Control": "max-age=300",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_APP_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class SignIn:
    """``POST /console/session``."""

    token: Annotated[str, text(TOKEN_CHARS_MAX, 1)]


class ConsoleRoutes:
    def __init__(self, accounts: Accounts, sessions: ConsoleSessions, app: Path = APP) -> None:
        self._accounts = accounts
        self._sessions = sessions
        here = Path(__file__).parent
        self._greeting = (here / "page.html").read_bytes()
        self._unbuilt = (here / "unbuilt.html").read_bytes()
        self._index = read_built(app / "index.html")
        self._assets = read_all_built(app / "assets")

    def add_to(self, api: Api) -> None:
        api.add("GET", "/", self.greet, Role.ANYONE)
        api.add("GET", "/console", self.lead, Role.ANYONE)
        api.add("GET", "/console/", self.show, Role.ANYONE)
        api.add("GET", "/console/assets/{name}", self.asset, Role.ANYONE)
        # Who is signed in shows by the cookie, which these look at themselves: a page that was just opened has no more.
        api.add("GET", "/console/session", self.session, Role.ANYONE)
        api.add("POST", "/console/session", self.sign_in, Role.ANYONE)
        api.add("DELETE", "/console/session", self.sign_out, Role.ANYONE)

    # -------------------------------------------------------------- files

    async def greet(self, request: web.Request) -> web.Response:
        return web.Response(body=self._greeting, content_type="text/html", charset="utf-8", headers=_GREETING_HEADERS)

    async def lead(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "console/"})

    async def show(self, request: web.Request) -> web.Response:
        if self._index is None:
            headers = {**_GREETING_HEADERS, "Cache-Control": "no-store"}
            return web.Response(
                status=503, body=self._unbuilt, content_type="text/html", charset="utf-8", headers=headers
            )
        return self._index.answer(request, {**_APP_HEADERS, "Cache-Control": "no-cache"})

    async def asset(self, request: web.Request) -> web.Response:
        file = self._assets.get(request.match_info["name"])
        if file is None:
            raise refusal(404, "not-found", "The console has no such file", remedy="Load the page again.")
        return file.answer(request, {**_APP_HEADERS, "Cache-Control": FOREVER})

    # -------------------------------------------------------------- signing in

    async def session(self, request: web.Request) -> web.Response:
        resumed = await self._sessions.resumed(request)
        if resumed is None:
            return json_response({"signed_in": False})
        token, session = resumed
        found = await self._accounts.principal_of(token)
        if found is None or found.role not in ROLES:
            return json_response({"signed_in": False})
        return json_response(await self._told(found.account, session))

    async def sign_in(self, request: web.Request) -> web.Response:
        if not is_own_page(request):
            raise refusal(403, "not-our-page", "Signing in is only for the pages of this server")
        address = caller_address(request)
        self._sessions.check_failures(address)
        token = (await record_body(request, SignIn)).token.strip()
        found = await self._accounts.principal_of(token)
        if found is None:
            self._sessions.note_failure(address)
            raise refusal(
                401,
                "token-unknown",
                "The token is not known here",
                remedy="Check that it is complete and was not revoked; the operator can issue a new one.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if found.role not in ROLES:
            raise refusal(
                403,
                "not-for-console",
                "The console is for operators and publishers",
                remedy="Owners find their points on their device's own page, or with `fallow points`.",
            )
        session = await self._sessions.begin(token, found.account)
        response = json_response(await self._told(found.account, session), 201)
        self._sessions.set_cookie(response, session)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        await self._sessions.end(request)
        response = web.Response(status=204)
        self._sessions.drop_cookie(response)
        return response

    async def _told(self, account_id: str, session: Session) -> dict[str, object]:
        account = await self._accounts.find(account_id)
        return {
            "signed_in": True,
            "account": account.id,
            "role": account.role,
            "name": account.name,
            "csrf": session.csrf,
            "expires_at": session.expires_at,
        }
