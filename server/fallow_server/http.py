"""The door of both applications: who may call what, how large a body may be, and how errors are said.

Deny by default: a route names its roles when it is added, and a request whose route was not added here is refused.
Every error leaves as a problem document (RFC 9457); an unexpected one is logged and says nothing about itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from aiohttp import HttpVersion11, web
from fallow_wire import strict
from fallow_wire.addresses import is_ipv4
from fallow_wire.errors import Malformed, PeerError
from fallow_wire.fields import decode, encode
from fallow_wire.http import PROBLEM_MEDIA_TYPE, Problem

from .problems import INTERNAL, problem_of, problem_of_status

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_BYTES_MAX = 64 * 1024
"""Of JSON calls that name no other limit; the largest legal one is a few KiB."""
BODY_TIMEOUT_S = 30
"""For a whole body that is read into memory."""
TOKEN_CHARS_MAX = 128
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "86400",
}
_EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest, Retry-After"
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_log = logging.getLogger(__name__)


class Role(StrEnum):
    """Who may call. ``ANYONE`` also stands where a signed body proves the caller, and the handler checks it."""

    ANYONE = "anyone"
    DEVICE = "device"
    OWNER = "owner"
    PUBLISHER = "publisher"
    OPERATOR = "operator"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. For a device, ``account`` is its owner's and ``device`` its id."""

    account: str
    role: Role
    device: str | None = None


ANYONE = Principal("", Role.ANYONE)


class Authenticator(Protocol):
    async def principal_of(self, token: str) -> Principal | None:
        """Whose bearer token this is; None when nobody's."""


class SessionKeeper(Protocol):
    async def token_of(self, request: web.Request) -> str | None:
        """The bearer token that a browser's session stands for; None where the request is of no session."""


class ApiProblem(Exception):
    """Ends a request with ``problem``; ``headers`` go with it."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{problem.status} {problem.type}: {problem.detail or problem.title}")
        self.problem = problem
        self.headers = dict(headers or {})


def refusal(
    status: int,
    slug: str,
    title: str,
    detail: str = "",
    *,
    fault: str = "caller",
    remedy: str = "",
    headers: Mapping[str, str] | None = None,
) -> ApiProblem:
    """The exception for a problem: ``raise refusal(409, "already-bound", "…")``."""
    return ApiProblem(Problem(status, slug, title, detail, fault, remedy), headers)


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: who may call it and how large a body it takes (None: the handler limits its own stream)."""

    method: str
    path: str
    roles: frozenset[Role]
    body_bytes_max: int | None
    loopback: bool
    cross_origin: bool


class _Call:
    """What is known of a request on its way through."""

    __slots__ = ("caller_address", "principal", "response", "rule", "token")

    def __init__(self, caller_address: str) -> None:
        self.caller_address = caller_address
        self.rule: Rule | None = None
        self.principal = ANYONE
        self.token = ""
        self.response: web.StreamResponse | None = None


# aiohttp warns of text as key where it has a type of its own for keys (from 3.14).
_KEY: Any = web.RequestKey("fallow.call", _Call) if hasattr(web, "RequestKey") else "fallow.call"


def _call_of(request: web.Request) -> _Call:
    call: _Call = request[_KEY]
    return call


class Api:
    """An aiohttp application whose routes all have a rule.

    :param trusted_proxies: addresses whose ``X-Forwarded-For`` is believed (a TLS proxy in front of this server).
    """

    def __init__(self, authenticator: Authenticator, *, trusted_proxies: tuple[str, ...] = ()) -> None:
        self._authenticator = authenticator
        self._trusted_proxies = frozenset(trusted_proxies)
        self._rules: dict[web.AbstractRoute, Rule] = {}
        self.application = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        self.application.on_response_prepare.append(_remember_start)
        self.on_answer: Callable[[str, str, int, float], None] | None = None
        """Told of every answer: method, the route's pattern, status, seconds."""
        self.sessions: SessionKeeper | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self._rules.values())

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        *roles: Role,
        body_bytes_max: int | None = BODY_BYTES_MAX,
        loopback: bool = False,
        cross_origin: bool = False,
    ) -> None:
        """Add a route.

        :param roles: who may call; at least one.
        :param body_bytes_max: larger bodies are refused with 413; None for handlers that stream and count themselves.
        :param loopback: callers from this machine need no token.
        :param cross_origin: scripts of any page may call it and read its answers (CORS), as the phone app does. What
            they show they bring themselves: a browser adds nothing of its own to such a call.
        """
        assert roles, f"{method} {path}: a route without roles cannot be called by anyone"
        assert Role.ANYONE not in roles or len(roles) == 1, f"{method} {path}: anyone already contains the others"
        assert not any(rule.method == method and rule.path == path for rule in self.rules), f"{method} {path} twice"
        rule = Rule(method, path, frozenset(roles), body_bytes_max, loopback, cross_origin)
        route = self.application.router.add_route(method, path, handler, expect_handler=_wait_with_continue)
        self._rules[route] = rule
        if cross_origin and not any(known.method == "OPTIONS" and known.path == path for known in self.rules):
            self.add("OPTIONS", path, _preflight, Role.ANYONE, cross_origin=True)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.monotonic()
        request[_KEY] = call = _Call(self._caller_address(request))
        try:
            await self._admit(request, call)
            response = await handler(request)
        except Exception as error:  # the outermost place of a request
            told = _answer_to(request, error)
            if told is None:
                raise
            response = told
        finally:
            call.response = None  # it knows the request, which knows the call: a cycle for each session that ends
        if self.on_answer is not None:
            # The pattern and not the path, which anyone could make up without end.
            route = call.rule.path if call.rule is not None else "none"
            method = call.rule.method if call.rule is not None else "other"
            self.on_answer(method, route, response.status, time.monotonic() - started)
        return response

    async def _admit(self, request: web.Request, call: _Call) -> None:
        if "\0" in request.path:
            raise Malformed("the path contains a NUL")  # which PostgreSQL would not take as text
        mismatch = request.match_info.http_exception
        if mismatch is not None:
            raise mismatch
        rule = self._rules.get(request.match_info.route)
        if rule is None:
            raise refusal(403, "forbidden", "This route is not open to anyone")
        call.rule = rule
        call.principal = await self._principal(request, call, rule)
        if rule.body_bytes_max is not None and (request.content_length or 0) > rule.body_bytes_max:
            raise _too_large(rule.body_bytes_max)
        expected = request.headers.get("Expect")
        if expected is not None:
            await _continue(request, expected)

    async def _principal(self, request: web.Request, call: _Call, rule: Rule) -> Principal:
        if Role.ANYONE in rule.roles:
            return ANYONE
        header = request.headers.get("Authorization")
        if header is None and self.sessions is not None:
            kept = await self.sessions.token_of(request)
            header = None if kept is None else f"Bearer {kept}"
        if header is None:
            # A proxy on this machine that nobody told us of would make the whole world local.
            trusted = _plain(request.remote or "0.0.0.0") in self._trusted_proxies
            forwarded = not trusted and any(name in request.headers for name in _FORWARDED)
            if rule.loopback and not forwarded and ipaddress.ip_address(caller_address(request)).is_loopback:
                return ANYONE
            raise refusal(
                401,
                "token-missing",
                "This call needs a token",
                remedy="Send Authorization: Bearer <token>.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scheme, _, token = header.partition(" ")
        token = token.strip()
        found = None
        if scheme.lower() == "bearer" and 0 < len(token) <= TOKEN_CHARS_MAX:
            found = await self._authenticator.principal_of(token)
        if found is None:
            raise refusal(
                401,
                "token-unknown",
                "The token is not known here",
                remedy="Check that it is complete and was not revoked; the operator can issue a new one.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if found.role not in rule.roles:
            wanted = ", ".join(sorted(rule.roles))
            raise refusal(403, "forbidden", "The token's role may not do this", f"for {wanted}; this is {found.role}")
        call.token = token
        return found

    def _caller_address(self, request: web.Request) -> str:
        address = _plain(request.remote or "0.0.0.0")
        if address not in self._trusted_proxies:
            return address
        # The last address that is not a proxy of ours; what stands left of it anyone can write.
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        for part in reversed(forwarded.split(",")):
            try:
                address = _plain(part.strip())
            except ValueError:
                break
            if address not in self._trusted_proxies:
                break
        return address


@lru_cache(maxsize=256)  # of a proxy's address, each request asks
def _plain(address: str) -> str:
    """An IP address in its usual text; IPv4 that came in IPv6 form is IPv4. :raises ValueError: for anything else."""
    if is_ipv4(address):
        return address
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def principal(request: web.Request) -> Principal:
    """The caller, as the middleware admitted it."""
    return _call_of(request).principal


def bearer_token(request: web.Request) -> str:
    """The token that the caller was admitted with; empty for anyone."""
    return _call_of(request).token


def caller_address(request: web.Request) -> str:
    """The caller's IP address as text, seen through the trusted proxies."""
    return _call_of(request).caller_address


async def read_body(
    request: web.Request,
    size_max: int | None = None,
    watch: Callable[[bytearray], Awaitable[None]] | None = None,
) -> bytes:
    """The whole body.

    :param size_max: in bytes; the route's own limit when None.
    :param watch: awaited with what is there after each piece; what it raises ends the reading.
    :raises ApiProblem: 413 when it is larger, 408 when it does not arrive within 30 s.
    """
    if size_max is None:
        rule = _call_of(request).rule
        size_max = (rule.body_bytes_max if rule is not None else None) or BODY_BYTES_MAX
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # It would not be unpacked anyway: a small body can hold a very large one.
        raise refusal(415, "encoding-not-taken", "A compressed body is not taken", remedy="Send it as it is.")
    if (request.content_length or 0) > size_max:
        raise _too_large(size_max)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > size_max:
                    raise _too_large(size_max)
                if watch is not None:
                    await watch(body)
    except TimeoutError:
        raise refusal(408, "too-slow", "The body did not arrive in time") from None
    return bytes(body)


async def json_body(request: web.Request, size_max: int | None = None) -> dict[str, Any]:
    """The body as a JSON object, read strictly.

    :raises ApiProblem: 415 when it does not say that it is JSON; as :func:`read_body`.
    :raises PeerError: when it is not the strict form (answered with 400).
    """
    if request.content_type != "application/json":
        raise refusal(415, "json-only", "The body must be JSON", remedy="Send Content-Type: application/json.")
    body = await read_body(request, size_max)
    return strict.loads_object(body, len(body))


async def record_body(request: web.Request, cls: type[T], size_max: int | None = None) -> T:
    """The body as record ``cls``; unknown fields are ignored. Raises as :func:`json_body`."""
    return decode(cls, await json_body(request, size_max), strict=False)


def page_of(request: web.Request, limit_max: int) -> tuple[str, int]:
    """``after`` and ``limit`` of a list call's query; from the start and ``limit_max`` when left out.

    :raises Malformed: when ``limit`` is not a number from 1 to ``limit_max``.
    """
    limit = request.query.get("limit", str(limit_max))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= limit_max):
        raise Malformed(f"limit: a whole number from 1 to {limit_max} is wanted")
    after = request.query.get("after", "")
    if "\0" in after:
        raise Malformed("after: an id is wanted")
    return after, int(limit)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A record or JSON value. Not to be cached unless ``headers`` say so: answers carry tokens and live state."""
    return web.Response(
        body=strict.dumps(encode(value)),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _too_large(size_max: int) -> ApiProblem:
    return refusal(413, "too-large", "The request is too large", f"the limit is {size_max} bytes")


async def _wait_with_continue(request: web.Request) -> None:
    """aiohttp would say 100 before any check: who may not upload should hear so before the bytes are sent."""


async def _continue(request: web.Request, expected: str) -> None:
    if expected.lower() != "100-continue":
        raise refusal(417, "expectation-failed", "Only Expect: 100-continue is understood")
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # headers of the true answer are not sent yet


async def _preflight(request: web.Request) -> web.Response:
    return web.Response(status=204, headers=_PREFLIGHT)


async def _remember_start(request: web.Request, response: web.StreamResponse) -> None:
    call = _call_of(request)
    call.response = response
    if call.rule is not None and call.rule.cross_origin:
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    # Caddy adds one of its own, and aiohttp before 3.9, which devices with Debian 12 have, refuses an answer with two.
    response.headers.pop("Server", None)


def _answer_to(request: web.Request, error: Exception) -> web.StreamResponse | None:
    """What a caller is told of the error that is being handled; None where it is for aiohttp to deal with."""
    if isinstance(error, ApiProblem):
        return _answer(request, error.problem, error.headers)
    if isinstance(error, PeerError):
        return _answer(request, problem_of(error))
    if isinstance(error, web.HTTPException):
        if error.status < 400:
            return None
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _answer(request, problem_of_status(error.status, error.reason), headers)
    if isinstance(error, (ConnectionError, TimeoutError)):
        if request.transport is None or request.transport.is_closing():
            return None
        _log.warning("%s %s: %s", request.method, request.path, error or type(error).__name__)
        return _answer(request, INTERNAL)
    _log.exception("%s %s failed", request.method, request.path)
    return _answer(request, INTERNAL)


def _answer(request: web.Request, problem: Problem, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
    started = _call_of(request).response
    if started is not None:
        # Half of another answer is on the wire: cutting the connection is the only way left to say that it failed.
        started.force_close()
        if request.transport is not None:
            request.transport.abort()
        return started
    response = web.Response(
        body=strict.dumps(problem.as_json()),
        status=problem.status,
        content_type=PROBLEM_MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
    if problem.status in (408, 413):
        # The rest of the body is not worth reading.
        response.force_close()
    return response
