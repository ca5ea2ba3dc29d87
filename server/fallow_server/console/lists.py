"""Accounts, objects and sites by pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..catalogue.names import quoted
from ..database import Database
from ..http import Api, Role, principal
from .answers import tagged
from .listing import ACCOUNTS, OBJECTS, OBJECTS_OF_ONE, SITES, SITES_OF_ONE, Listing


class Lists:
    """:param replicas_of: how many connected devices hold an object. :param public_url: without a slash at the end."""

    def __init__(self, database: Database, replicas_of: Callable[[str], int], public_url: str) -> None:
        self._database = database
        self._replicas_of = replicas_of
        self._public_url = public_url

    def add_to(self, api: Api) -> None:
        api.add("GET", "/console/accounts", self.accounts, Role.OPERATOR)
        api.add("GET", "/console/objects", self.objects, Role.OPERATOR, Role.PUBLISHER)
        api.add("GET", "/console/sites", self.sites, Role.OPERATOR, Role.PUBLISHER)

    async def accounts(self, request: web.Request) -> web.Response:
        total, rows = await ACCOUNTS.page(self._database, request.query)
        return tagged(request, {"total": total, "accounts": rows})

    async def objects(self, request: web.Request) -> web.Response:
        total, rows = await self._own(request, OBJECTS, OBJECTS_OF_ONE)
        for row in rows:
            row["mirrored"] = bool(row["mirrored"])
            row["replicas"] = self._replicas_of(row["id"])
            row["url"] = f"{self._public_url}/o/{row['id']}/{quoted(row['name'])}"
        return tagged(request, {"total": total, "objects": rows})

    async def sites(self, request: web.Request) -> web.Response:
        total, rows = await self._own(request, SITES, SITES_OF_ONE)
        for row in rows:
            row["url"] = f"{self._public_url}/s/{row['name']}/"
        return tagged(request, {"total": total, "sites": rows})

    async def _own(self, request: web.Request, all_: Listing, own: Listing) -> tuple[int, list[dict[str, Any]]]:
        """A publisher's own, or all for an operator."""
        caller = principal(request)
        if caller.role is Role.OPERATOR:
            return await all_.page(self._database, request.query)
        return await own.page(self._database, request.query, (caller.account,))
