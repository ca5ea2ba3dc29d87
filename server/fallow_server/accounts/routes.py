"""The calls about accounts and claims."""

from __future__ import annotations

from aiohttp import web

from ..http import Api, Role, json_response, page_of, principal, record_body
from .accounts import LIST_MAX, Accounts, NewAccount


class AccountRoutes:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def add_to(self, api: Api) -> None:
        api.add("POST", "/v1/accounts", self.create, Role.OPERATOR)
        api.add("GET", "/v1/accounts", self.page, Role.OPERATOR)
        api.add("POST", "/v1/accounts/{id}/tokens", self.issue_token, Role.OPERATOR)
        api.add("DELETE", "/v1/accounts/{id}/tokens", self.revoke_tokens, Role.OPERATOR)
        api.add("POST", "/v1/claims", self.claim, Role.OWNER)

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
