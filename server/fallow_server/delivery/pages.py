"""What browsers load: ``fallow.js``, for any page, and the page that plays an object."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from ..built import FOREVER, read_all_built, read_built
from ..catalogue.service import object_id_of
from ..http import Api, Role, caller_address, refusal
from .router import Router

BUILT = Path(__file__).parent / "browser"
"""Made by ``make web``."""
STREAM = "stream"
"""In place of an object's id: what is played is an HLS playlist, which the page's query names."""
_FOR_ANY_PAGE = {"Cross-Origin-Resource-Policy": "cross-origin"}
_PAGE = {
    "Cache-Control": "no-cache",
    # Devices are anywhere, and named by their addresses.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' http: https:; "
        "media-src 'self' blob: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
}


class BrowserRoutes:
    def __init__(self, router: Router, built: Path = BUILT) -> None:
        self._router = router
        self._module = read_built(built / "fallow.js")
        self._page = read_built(built / "watch" / "index.html")
        self._files = read_all_built(built / "fallow")

    def add_to(self, api: Api) -> None:
        api.add("GET", "/fallow.js", self.module, Role.ANYONE, cross_origin=True)
        api.add("GET", "/fallow/{name}", self.file, Role.ANYONE, cross_origin=True)
        api.add("GET", "/watch/{id}", self.page, Role.ANYONE)

    async def module(self, request: web.Request) -> web.Response:
        if self._module is None:
            raise _not_built()
        # Asked again each time: it names other files after the server was upgraded.
        return self._module.answer(request, {"Cache-Control": "no-cache", **_FOR_ANY_PAGE})

    async def file(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise refusal(404, "not-found", "There is no such file", remedy="Load the page again.")
        return found.answer(request, {"Cache-Control": FOREVER, **_FOR_ANY_PAGE})

    async def page(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != STREAM:
            object_id_of(request)
        if self._page is None:
            raise _not_built()
        # The plan that follows is charged for itself; this keeps the page from being a way around the limit.
        self._router.charge(self._router.consumer(caller_address(request)), 1)
        return self._page.answer(request, _PAGE)


def _not_built() -> Exception:
    return refusal(
        503, "not-built", "This server was installed without its pages", fault="here",
        remedy="The operator can build them with `make web`, which needs Node 20.",
    )  # fmt: skip
