"""``GET /``."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from ..http import Api, Role

_HEADERS = {
    "Cache-Control": "max-age=300",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class ConsoleRoutes:
    def __init__(self) -> None:
        self._page = (Path(__file__).parent / "page.html").read_bytes()

    def add_to(self, api: Api) -> None:
        api.add("GET", "/", self.show, Role.ANYONE)

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=_HEADERS)
