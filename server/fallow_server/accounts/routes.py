"""The calls about accounts and claims."""

from __future__ import annotations

from aiohttp import web

from ..http import Api, Role, caller_address, json_response, page_of, principal, record_body
from .accounts import LIST_MAX, Accounts, NewAccount
from .passwords import PASSWORD_CHARS_MIN
from .signing_in import Credentials, SigningIn


class AccountRoutes:
    def __init__(self, accounts: Accounts, signing_in: SigningIn) -> None:
        self._accounts = accounts
        self._signing_in = signing_in

    def add_to(self, api: Api) -> None:
        api.add("POST", "/v1/accounts", self.create, Role.OPERATOR)
        api.add("GET", "/v1/accounts", self.page, Role.OPERATOR)
        api.add("POST", "/v1/accounts/{id}/tokens", self.issue_token, Role.OPERATOR)
        api.add("DELETE", "/v1/accounts/{id}/tokens", self.revoke_tokens, Role.OPERATOR)
        # The phone app, which a device serves, calls these from its own origin.
        api.add("POST", "/v1/claims", self.claim, Role.OWNER, cross_origin=True)
        api.add("GET", "/v1/owners", self.registration, Role.ANYONE, cross_origin=True)
        api.add("POST", "/v1/owners", self.register, Role.ANYONE, cross_origin=True)
        api.add("POST", "/v1/owners/claims", self.claim_by_password, Role.ANYONE, cross_origin=True)
        api.add("POST", "/v1/owners/tokens", self.token_by_password, Role.ANYONE)
        api.add("PUT", "/v1/owners/me/login", self.set_password, Role.OWNER)

    async def create(self, request: web.Request) -> web.Response:
        return json_response(await self._accounts.create(await record_body(request, NewAccount)), 201)

    async def page(self, request: web.Request) -> web.Response:
        after, limit = page_of(request, LIST_MAX)
        return json_response(await self._accounts.page(after, limit))

    async def issue_token(self, request: web.Request) -> web.Response:
        return json_response(await self._accounts.issue_token(request.match_info["id"]), 201)

    async def revoke_tokens(self, request: web.Request) -> web.Response:
        await self._accounts.revoke_tokens(request.match_info["id"])
        return web.Response(status=204)

    async def claim(self, request: web.Request) -> web.Response:
        return json_response(await self._accounts.create_claim(principal(request).account), 201)

    async def registration(self, request: web.Request) -> web.Response:
        return json_response({"open": self._signing_in.is_open, "password_chars_min": PASSWORD_CHARS_MIN})

    async def register(self, request: web.Request) -> web.Response:
        new = await record_body(request, Credentials)
        return json_response(await self._signing_in.register(new, caller_address(request)), 201)

    async def claim_by_password(self, request: web.Request) -> web.Response:
        shown = await record_body(request, Credentials)
        return json_response(await self._signing_in.claim(shown, caller_address(request)), 201)

    async def token_by_password(self, request: web.Request) -> web.Response:
        shown = await record_body(request, Credentials)
        return json_response(await self._signing_in.token(shown, caller_address(request)), 201)

    async def set_password(self, request: web.Request) -> web.Response:
        await self._signing_in.set_password(principal(request).account, await record_body(request, Credentials))
        return web.Response(status=204)
