"""The guard at the door of the LAN application, problems as answers, and the headers of every answer."""

from __future__ import annotations

import inspect
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web
from fallow_wire.errors import Malformed, PeerError, TooLarge
from fallow_wire.http import PROBLEM_MEDIA_TYPE, Problem
from fallow_wire.limits import LAN_BODY_BYTES_MAX
from fallow_wire.strict import loads_object

from .guard import Call, decide, too_large
from .interfaces import Interfaces

IDLE_S_MAX = 60
"""Between requests: a phone asks more often, and who only holds connections must not hold them for long."""
_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class ApiProblem(Exception):
    """Answer the call with this problem."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.title)
        self.problem = problem
        self.headers = headers


def json_response(value: object, status: int = 200) -> web.Response:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    text = json.dumps(problem.as_json(), ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=problem.status, content_type=PROBLEM_MEDIA_TYPE, headers=headers)


async def read_object(request: web.Request) -> dict[str, object]:
    """The JSON object in the body; empty for no body. :raises PeerError: when it is anything else."""
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"the limit is {LAN_BODY_BYTES_MAX} bytes") from None
    except web.RequestPayloadError:
        raise Malformed("the body is cut short, or its chunks are not chunks") from None
    return loads_object(body, LAN_BODY_BYTES_MAX) if body else {}


def peer_of(request: web.Request) -> tuple[str, str | None]:
    """Address of the caller and, for IPv6, the name of the interface that it came by."""
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(name, tuple) or len(name) < 2:
        return "", None
    if len(name) == 4 and name[3]:
        try:
            return name[0], socket.if_indextoname(name[3])
        except OSError:
            return name[0], None
    return name[0], None


class _ConnectionLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp says of connections that speak no HTTP: for debugging only, as any neighbour can make it say so at
    will, and a router's log is flash. Failures of our handlers are logged by :class:`Door`."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **more)


async def serve(
    application: web.Application, addresses: Iterable[str | None], port: int, stop_s: float
) -> web.AppRunner:
    """Serve the LAN application on ``addresses`` (None: all). ``stop_s``: for answers under way when it stops.

    :raises OSError: the port is taken; nothing is left listening.
    """
    # Until aiohttp 3.8, which Debian 12 has, the stop belongs to the sites; since then to the runner.
    by_runner = "shutdown_timeout" in inspect.signature(web.BaseRunner.__init__).parameters
    stop: dict[str, Any] = {"shutdown_timeout": stop_s}
    runner = web.AppRunner(
        application,
        logger=_ConnectionLog(_log, {}),
        access_log=None,
        auto_decompress=False,
        handle_signals=False,
        keepalive_timeout=IDLE_S_MAX,
        **(stop if by_runner else {}),
    )
    await runner.setup()
    try:
        for address in addresses:
            await web.TCPSite(runner, address, port, **({} if by_runner else stop)).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


class Door:
    """The middleware of the LAN application: nobody reaches a handler past it."""

    def __init__(self, interfaces: Interfaces) -> None:
        self._interfaces = interfaces

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        if not response.prepared:
            for name, value in SECURITY_HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        problem = decide(self._call(request), self._interfaces.lan(), LAN_BODY_BYTES_MAX)
        if problem is not None:
            response = problem_response(problem)
            response.force_close()
            return response
        try:
            return await handler(request)
        except ApiProblem as error:
            return problem_response(error.problem, error.headers)
        except TooLarge:
            return problem_response(too_large(LAN_BODY_BYTES_MAX))
        except PeerError as error:
            return problem_response(
                Problem(
                    400, error.slug, "The request is not in order", error.detail, remedy="Correct it and try again."
                )
            )
        except web.HTTPException as error:
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status, "refused")
            remedy = "See docs/protocol.md for the calls of port M."
            return problem_response(Problem(error.status, slug, error.reason, request.path, remedy=remedy), headers)
        except Exception:  # noqa: BLE001  # the outermost door: one failed call must not end the agent, and no trace goes out
            _log.exception("%s %s failed", request.method, request.path)
            return problem_response(
                Problem(500, "internal", "The agent failed", fault="here", remedy="Look at the agent's log.")
            )

    @staticmethod
    def _call(request: web.Request) -> Call:
        peer, interface = peer_of(request)
        headers = request.headers
        body_bytes = request.content_length
        if body_bytes is None and not request.body_exists:
            body_bytes = 0
        return Call(
            peer,
            interface,
            headers.get("Host"),
            # Two are one that is nobody's.
            ", ".join(headers.getall("Origin")) if "Origin" in headers else None,
            headers.get("Sec-Fetch-Site"),
            headers.get("Content-Type"),
            body_bytes,
            headers.get("Content-Encoding"),
        )
