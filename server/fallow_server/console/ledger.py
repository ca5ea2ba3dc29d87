"""The ledger's calls for the console's pages, passed on to wherever the ledger is.

The pages come from the scheduler, and their policy lets them call nothing else; the ledger may be on a machine that no
browser reaches. So a list of calls is passed on over the scheduler's connection to it. Nothing is gained by that: each
goes out with the caller's own token, and the ledger decides as if it had been called directly.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

from aiohttp import web

from ..http import Api, Handler, Role, bearer_token, read_body, refusal
from ..ledger.rewards import REWARD_BODY_BYTES_MAX
from ..link import LedgerUnreachable, Link, Passed
from .answers import tagged_body

_BOTH = (Role.OPERATOR, Role.PUBLISHER)
CALLS: tuple[tuple[str, str, tuple[Role, ...]], ...] = (
    ("GET", "/v1/health", (Role.OPERATOR,)),
    ("GET", "/v1/accounts/{id}", _BOTH),
    ("GET", "/v1/accounts/{id}/statements", _BOTH),
    ("GET", "/v1/accounts/{id}/statements/{month}", _BOTH),
    ("GET", "/v1/tariffs", _BOTH),
    ("GET", "/v1/tariffs/current", _BOTH),
    ("POST", "/v1/tariffs", (Role.OPERATOR,)),
    ("POST", "/v1/tariffs/diff", (Role.OPERATOR,)),
    ("GET", "/v1/reviews", (Role.OPERATOR,)),
    ("GET", "/v1/reviews/{id}", (Role.OPERATOR,)),
    ("POST", "/v1/reviews/{id}/resolution", (Role.OPERATOR,)),
    ("GET", "/v1/reconciliation", (Role.OPERATOR,)),
    ("GET", "/v1/reports", (Role.OPERATOR,)),
    ("GET", "/v1/restores", (Role.OPERATOR,)),
    ("POST", "/v1/restores/{id}/review", (Role.OPERATOR,)),
    ("POST", "/v1/deposits", (Role.OPERATOR,)),
    ("GET", "/v1/rewards", _BOTH),
    ("POST", "/v1/rewards", (Role.OPERATOR,)),
    ("DELETE", "/v1/rewards/{id}", (Role.OPERATOR,)),
    ("POST", "/v1/rewards/{id}/stock", (Role.OPERATOR,)),
    ("GET", "/v1/redemptions", (Role.OPERATOR,)),
    ("POST", "/v1/redemptions/{id}/resolution", (Role.OPERATOR,)),
)
PREFIX = "/console/ledger"
AT_ONCE_MAX = 32
"""Calls under way; a reconciliation takes as long as the books are."""
_PART = re.compile(r"{(\w+)}")
_PASSED_HEADERS = ("Idempotency-Key", "Accept-Language")


class LedgerPassage:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    def add_to(self, api: Api) -> None:
        for method, path, roles in CALLS:
            api.add(method, PREFIX + path, self._handler(path), *roles, body_bytes_max=REWARD_BODY_BYTES_MAX)

    def _handler(self, path: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            target = _PART.sub(lambda part: _quoted(request.match_info[part[1]]), path)
            if request.rel_url.raw_query_string:
                target += f"?{request.rel_url.raw_query_string}"
            return _answer(request, await self._pass(request, target))

        return handle

    async def _pass(self, request: web.Request, target: str) -> Passed:
        headers = {name: request.headers[name] for name in _PASSED_HEADERS if name in request.headers}
        body = None
        if request.body_exists:
            body = await read_body(request)
            headers["Content-Type"] = request.headers.get("Content-Type", "application/octet-stream")
        try:
            async with self._turns:
                passed = await self._link.pass_on(request.method, target, bearer_token(request), headers, body)
        except LedgerUnreachable:
            raise refusal(
                503, "ledger-unreachable", "The ledger is not reached", fault="upstream",
                remedy="Try again in a moment; nothing is lost.",
            ) from None  # fmt: skip
        if passed.status == 401:
            # This server knows the token. The ledger will as soon as the link has told it.
            raise refusal(
                503, "ledger-behind", "The ledger does not know this account yet", fault="upstream",
                remedy="Try again in a moment.", headers={"Retry-After": "5"},
            )  # fmt: skip
        return passed


def _quoted(value: str) -> str:
    """One part of a path, and no more than that."""
    if value in (".", ".."):
        raise refusal(404, "not-found", "There is no such thing at the ledger")
    return quote(value, safe="")


def _answer(request: web.Request, passed: Passed) -> web.Response:
    if passed.status == 200 and request.method == "GET":
        return tagged_body(request, passed.body, passed.media_type)
    headers = {"Cache-Control": "no-store", "Content-Type": passed.media_type}
    if passed.retry_after:
        headers["Retry-After"] = passed.retry_after
    if passed.status == 204:
        del headers["Content-Type"]
    return web.Response(status=passed.status, body=passed.body, headers=headers)
