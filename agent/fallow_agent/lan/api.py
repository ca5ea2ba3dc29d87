"""The calls of port M (``docs/protocol.md``). Every one has passed the guard; most want a phone's LAN token."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from fallow_wire.errors import Malformed
from fallow_wire.fields import decode, encode
from fallow_wire.http import Problem
from fallow_wire.lan import TERMS_VERSION, Activation, Limits, Pause, SpeedtestRequest
from fallow_wire.limits import LAN_BODY_BYTES_MAX

from ..life import DORMANT, PAUSED, Life
from ..lifecycle import (
    ActivationRequested,
    LeaveRequested,
    PauseRequested,
    Request,
    RequestRefused,
    ResumeRequested,
)
from .events import Events
from .interfaces import Interfaces
from .middleware import ApiProblem, Door, json_response, problem_response, read_object
from .neighbours import Neighbour
from .pairing import CodeLocked, Pairing, WrongCode
from .points import Points

IDEMPOTENCY_KEY_MAX = 128
PAGE = Path(__file__).with_name("page.html")
APP = Path(__file__).with_name("app")


class Device(Protocol):
    """What port M asks of the agent."""

    @property
    def life(self) -> Life: ...

    @property
    def limits(self) -> Limits: ...

    def description(self) -> dict[str, Any]:
        """``device_id, name, model, version``, and ``scheduler`` where one is proposed."""

    def now(self) -> int: ...

    def request(self, event: Request, limits: Limits | None = None) -> Life:
        """Decide now, perform soon; ``limits`` belong to the consent and are stored before it.

        :raises RequestRefused: when the state does not allow it; nothing has changed then.
        """

    def set_limits(self, limits: Limits) -> None:
        """Store and apply at once."""

    def start_speedtest(self, *, insist: bool) -> None:
        """:raises RequestRefused: the device is not active, a test runs, or it costs and nobody insists."""

    def status(self) -> dict[str, Any]: ...

    async def neighbours(self) -> list[Neighbour]:
        """Other devices of this home."""


class LanApi:
    """Builds the application of port M."""

    def __init__(
        self, device: Device, pairing: Pairing, points: Points, interfaces: Interfaces, app: Path = APP
    ) -> None:
        self._device = device
        self._pairing = pairing
        self._points = points
        self._interfaces = interfaces
        self._app = app
        self._events = Events(device.status, pairing.knows)

    def application(self) -> web.Application:
        application = web.Application(
            middlewares=[Door(self._interfaces).middleware], client_max_size=LAN_BODY_BYTES_MAX
        )
        router = application.router
        router.add_get("/", self.page)
        if (self._app / "index.html").is_file():
            router.add_get("/{path:(?!v1/).+}", self.app_file)
        router.add_get("/v1/device", self.device)
        router.add_get("/v1/activation", self.activation)
        router.add_post("/v1/activation", self.activate)
        router.add_post("/v1/lan-tokens", self.add_phone)
        router.add_get("/v1/neighbours", self.neighbours)
        for method, path, handler in (
            ("DELETE", "/v1/activation", self.leave),
            ("GET", "/v1/limits", self.limits),
            ("PATCH", "/v1/limits", self.change_limits),
            ("POST", "/v1/pause", self.pause),
            ("POST", "/v1/resume", self.resume),
            ("POST", "/v1/speedtest", self.speedtest),
            ("GET", "/v1/status", self.status),
            ("GET", "/v1/points", self.points),
            ("GET", r"/v1/points/{day:\d{4}-\d\d-\d\d}", self.deliveries),
            ("GET", r"/v1/settlements/{jti:[0-9a-f-]{36}}", self.settlement),
            ("GET", "/v1/rewards", self.rewards),
            ("GET", "/v1/redemptions", self.redemptions),
            ("POST", "/v1/redemptions", self.redeem),
        ):
            router.add_route(method, path, self._for_phones(handler))
        router.add_get("/v1/events", self.events)
        application.on_shutdown.append(self._shut_down)
        return application

    async def _shut_down(self, application: web.Application) -> None:
        self._events.close()

    # -------------------------------------------------------------- the page

    async def page(self, request: web.Request) -> web.StreamResponse:
        """The phone app; where it was not built in, a small page that shows the state."""
        index = self._app / "index.html"
        if index.is_file():
            # Only while the owner activates it does the page speak to a server, which the owner names; never again.
            return _file(index, _APP_POLICY + (_ANY_SERVER if self._device.life.state == DORMANT else _NO_SERVER))
        text = PAGE.read_text("utf-8")
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": page_policy(text)})

    async def app_file(self, request: web.Request) -> web.StreamResponse:
        file = (self._app / request.match_info["path"]).resolve()
        if not file.is_relative_to(self._app.resolve()) or not file.is_file():
            raise web.HTTPNotFound
        return _file(file, _APP_POLICY + _NO_SERVER)

    # -------------------------------------------------------------- anyone in the LAN

    async def device(self, request: web.Request) -> web.Response:
        state = {"state": self._device.life.state, "setup_code_required": True, "terms_version": TERMS_VERSION}
        return json_response({**self._device.description(), **state})

    async def activation(self, request: web.Request) -> web.Response:
        life = self._device.life
        error = {} if life.error is None else {"error": life.error.as_json()}
        return json_response({"state": life.state, **error})

    async def neighbours(self, request: web.Request) -> web.Response:
        return json_response([dataclasses.asdict(one) for one in await self._device.neighbours()])

    # -------------------------------------------------------------- holders of the setup code

    async def activate(self, request: web.Request) -> web.Response:
        activation = decode(Activation, await read_object(request), strict=False)
        refused = self._try_code(activation.setup_code)
        if refused is not None:
            return refused
        if activation.consent.terms_version != TERMS_VERSION:
            raise Malformed(f"consent.terms_version: this agent's terms have version {TERMS_VERSION}")
        life = self._request(
            ActivationRequested(
                activation.scheduler.rstrip("/"),
                activation.claim_token,
                activation.consent.terms_version,
                self._device.now(),
            ),
            activation.limits,
        )
        return json_response({"state": life.state, "lan_token": self._pairing.add_phone()}, 202)

    async def add_phone(self, request: web.Request) -> web.Response:
        code = (await read_object(request)).get("setup_code")
        if not isinstance(code, str):
            raise Malformed("setup_code: text is wanted")
        refused = self._try_code(code)
        # Not "refused or …": until aiohttp 3.8 a response without items counts as false.
        if refused is not None:
            return refused
        return json_response({"lan_token": self._pairing.add_phone()}, 201)

    def _try_code(self, code: str) -> web.Response | None:
        try:
            self._pairing.check(code)
        except WrongCode as error:
            problem = Problem(
                403,
                "wrong-setup-code",
                "The setup code is wrong",
                "1 try is left." if error.attempts_left == 1 else f"{error.attempts_left} tries are left.",
                remedy="Read it on the device's label, or run: fallow-agent setup-code"
                if error.attempts_left
                else "Restart the device (or press its button), then try again.",
            )
            return json_problem(problem, {"attempts_left": error.attempts_left})
        except CodeLocked:
            return problem_response(
                Problem(
                    423,
                    "setup-code-locked",
                    "Too many wrong setup codes",
                    "No code is taken any more.",
                    remedy="Restart the device (or press its button), then try again.",
                )
            )
        return None

    # -------------------------------------------------------------- phones

    def _for_phones(self, handler: Callable[[web.Request], Awaitable[web.Response]]) -> Any:
        async def checked(request: web.Request) -> web.Response:
            self._need_phone(_bearer(request))
            return await handler(request)

        return checked

    def _need_phone(self, token: str | None) -> str:
        if token is None or not self._pairing.knows(token):
            problem = Problem(
                401,
                "unknown-phone",
                "This phone is not known here",
                remedy="Pair it: POST /v1/lan-tokens with the setup code.",
            )
            raise ApiProblem(problem, {"WWW-Authenticate": "Bearer"})
        return token

    def _request(self, event: Request, limits: Limits | None = None) -> Life:
        try:
            return self._device.request(event, limits)
        except RequestRefused as error:
            raise ApiProblem(error.problem) from None

    async def leave(self, request: web.Request) -> web.Response:
        life = self._request(LeaveRequested(self._device.now()))
        return json_response({"state": life.state}, 202)

    async def limits(self, request: web.Request) -> web.Response:
        return json_response(encode(self._device.limits))

    async def change_limits(self, request: web.Request) -> web.Response:
        limits = merged_limits(self._device.limits, await read_object(request))
        self._device.set_limits(limits)
        return json_response(encode(limits))

    async def pause(self, request: web.Request) -> web.Response:
        pause = decode(Pause, await read_object(request), strict=False)
        return json_response(state_of(self._request(PauseRequested(self._device.now(), pause.for_s))))

    async def resume(self, request: web.Request) -> web.Response:
        return json_response(state_of(self._request(ResumeRequested())))

    async def speedtest(self, request: web.Request) -> web.Response:
        wanted = decode(SpeedtestRequest, await read_object(request), strict=False)
        try:
            self._device.start_speedtest(insist=wanted.insist)
        except RequestRefused as error:
            raise ApiProblem(error.problem) from None
        return json_response({"state": "running"}, 202)

    async def status(self, request: web.Request) -> web.Response:
        return json_response(self._device.status())

    async def events(self, request: web.Request) -> web.StreamResponse:
        token = self._need_phone(_bearer(request) or request.query.get("token"))
        return await self._events.serve(request, token)

    async def points(self, request: web.Request) -> web.Response:
        return json_response(await self._points.points(_whole(request, "offset_min")))

    async def deliveries(self, request: web.Request) -> web.Response:
        day, offset_min, after = request.match_info["day"], _whole(request, "offset_min"), _whole(request, "after")
        return _passed_on(*await self._points.deliveries(day, offset_min, after))

    async def settlement(self, request: web.Request) -> web.Response:
        return _passed_on(*await self._points.settlement(request.match_info["jti"]))

    async def rewards(self, request: web.Request) -> web.Response:
        return _passed_on(*await self._points.rewards())

    async def redemptions(self, request: web.Request) -> web.Response:
        return _passed_on(*await self._points.redemptions())

    async def redeem(self, request: web.Request) -> web.Response:
        key = request.headers.get("Idempotency-Key", "")
        if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX:
            problem = Problem(
                400,
                "idempotency-key-needed",
                "An Idempotency-Key is needed",
                f"A header of 1 to {IDEMPOTENCY_KEY_MAX} characters, so that a repeated call redeems once.",
                remedy="Send the same new random key with every try of one redemption.",
            )
            raise ApiProblem(problem)
        return _passed_on(*await self._points.redeem(await read_object(request), key))


def _whole(request: web.Request, name: str) -> int:
    """A whole number of the query, 0 when left out. :raises Malformed: for anything else."""
    text = request.query.get(name, "0")
    if not re.fullmatch(r"-?[0-9]{1,15}", text, re.ASCII):
        raise Malformed(f"{name}: a whole number is wanted")
    return int(text)


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def _passed_on(status: int, value: Any) -> web.Response:
    response = json_response(value, status)
    if status >= 400:
        response.content_type = "application/problem+json"
    return response


def json_problem(problem: Problem, members: dict[str, Any]) -> web.Response:
    """A problem with further members (RFC 9457, section 3.2)."""
    response = json_response({**problem.as_json(), **members}, problem.status)
    response.content_type = "application/problem+json"
    return response


def state_of(life: Life) -> dict[str, Any]:
    """``{state, paused_until?}``."""
    if life.state == PAUSED and life.countdown is not None:
        return {"state": life.state, "paused_until": life.countdown.ends_at()}
    return {"state": life.state}


def merged_limits(limits: Limits, patch: dict[str, Any]) -> Limits:
    """``limits`` with the members of ``patch``; null gives a member its default again.

    :raises Malformed: naming the member that is unknown or out of bounds.
    """
    members = encode(limits)
    known = {field.name for field in dataclasses.fields(Limits)}
    for name, value in patch.items():
        if name not in known:
            raise Malformed(f"{name[:64]}: there is no such limit; there are {', '.join(sorted(known))}")
        if value is None:
            members.pop(name, None)
        else:
            members[name] = value
    return decode(Limits, members, strict=True)


_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page_policy(text: str) -> str:
    """The Content-Security-Policy of a self-contained page: its own inline parts by digest, and this device."""
    digests: dict[str, list[str]] = {"script": [], "style": []}
    for found in _INLINE.finditer(text):
        digest = base64.b64encode(hashlib.sha256(found[2].encode()).digest()).decode()
        digests[found[1]].append(f"'sha256-{digest}'")
    parts = [f"{kind}-src {' '.join(values)}" for kind, values in digests.items() if values]
    return "; ".join(["default-src 'none'", *parts, _COMMON_POLICY]) + _NO_SERVER


_COMMON_POLICY = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_NO_SERVER, _ANY_SERVER = "; connect-src 'self'", "; connect-src 'self' http: https:"
_APP_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; manifest-src 'self'; "
    f"require-trusted-types-for 'script'; {_COMMON_POLICY}"
)


def _file(path: Path, policy: str) -> web.FileResponse:
    # Built assets carry a digest in their name; only they may be kept.
    cache = "no-cache" if path.parent.name != "assets" else "public, max-age=31536000, immutable"
    return web.FileResponse(path, headers={"Content-Security-Policy": policy, "Cache-Control": cache})
