"""The calls that both applications answer: their keys and their health."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from aiohttp import web
from sqlalchemy import text

from .database import Database
from .http import Api, Role, json_response
from .signing import SigningKeys

JWKS_FRESH_S = 300
"""Shorter than any overlap of keys."""


class CommonRoutes:
    """:param trouble: what does not work here although the application answers; None when all does."""

    def __init__(self, role: str, database: Database, keys: SigningKeys, trouble: Callable[[], str | None]) -> None:
        self._role = role
        self._database = database
        self._keys = keys
        self._trouble = trouble
        self._version = version("fallow")

    def add_to(self, api: Api) -> None:
        api.add("GET", "/v1/health", self.health, Role.ANYONE)
        api.add("GET", "/.well-known/jwks.json", self.jwks, Role.ANYONE, cross_origin=True)

    async def health(self, request: web.Request) -> web.Response:
        async with self._database.read() as connection:
            await connection.execute(text("SELECT 1"))
        status = "ok" if self._trouble() is None else "degraded"
        return json_response({"status": status, "version": self._version, "role": self._role})

    async def jwks(self, request: web.Request) -> web.Response:
        return json_response(self._keys.jwks(), headers={"Cache-Control": f"max-age={JWKS_FRESH_S}"})
