"""The calls about devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from fallow_wire.enrolment import Enrolled, verify_enrolment
from fallow_wire.limits import ENROLMENT_BYTES_MAX
from fallow_wire.session import Policy, SeenAddress

from ..clock import Clock
from ..http import Api, Role, caller_address, json_response, page_of, principal, read_body, refusal
from .live import Fleet
from .reachability import UNKNOWN
from .records import DeviceRecord, DeviceRecords
from .sessions import HELLO_REFUSED, Sessions

LIST_MAX = 1000
ADDRESS_S = 3600
"""For so long an address is a device's without another call from it: homes get others, and somebody else theirs."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device in ``GET /v1/devices``. ``reachable``: it answered a dial-back at one of ``service_urls``.
    ``reachability``: of :data:`fallow_wire.session.REACH`."""

    device_id: str
    owner: str | None
    model: str
    version: str
    state: str
    connected: bool
    reachable: bool
    reachability: str
    service_urls: tuple[str, ...]
    objects: int
    bound_at: int | None
    last_seen: int | None


class FleetRoutes:
    def __init__(
        self,
        fleet: Fleet,
        records: DeviceRecords,
        sessions: Sessions,
        policy: Callable[[], Policy],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._records = records
        self._sessions = sessions
        self._policy = policy

    def add_to(self, api: Api) -> None:
        # Enrolment and hello are signed with the device's key: they show who calls.
        api.add("POST", "/v1/devices", self.enrol, Role.ANYONE, body_bytes_max=ENROLMENT_BYTES_MAX)
        api.add("GET", "/v1/session", self._sessions.handle, Role.ANYONE)
        api.add("POST", "/v1/session/address", self.address, Role.DEVICE)
        api.add("GET", "/v1/devices", self.page, Role.OWNER, Role.OPERATOR)
        api.add("DELETE", "/v1/devices/{id}", self.unbind, Role.OWNER, Role.OPERATOR, Role.DEVICE)

    async def enrol(self, request: web.Request) -> web.Response:
        if request.content_type != "application/jwt":
            raise refusal(
                415, "jwt-only", "The body must be a signed enrolment", remedy="Send Content-Type: application/jwt."
            )
        enrolment = verify_enrolment(await read_body(request)).value
        owner, ledger_token = await self._records.bind(enrolment)
        policy = self._policy()
        answer = Enrolled(enrolment.did, owner, policy.ledger, ledger_token, policy.jwks, policy)
        return json_response(answer, 201)

    async def address(self, request: web.Request) -> web.Response:
        """A device shows by the call itself that it has an address of the family that its session does not use."""
        live = self._fleet.get(principal(request).device or "")
        if live is None:
            raise refusal(409, "no-session", "This device has no session", remedy="Begin one, then call again.")
        address = caller_address(request)
        await self._fleet.came_from(live, address, self._clock.monotonic() + ADDRESS_S)
        return json_response(SeenAddress(address))

    async def page(self, request: web.Request) -> web.Response:
        caller = principal(request)
        after, limit = page_of(request, LIST_MAX)
        owner = caller.account if caller.role is Role.OWNER else None
        return json_response([self._view(record) for record in await self._records.page(owner, after, limit)])

    def _view(self, record: DeviceRecord) -> DeviceView:
        live = self._fleet.get(record.id)
        heartbeat = live.heartbeat if live is not None else None
        return DeviceView(
            device_id=record.id,
            owner=record.owner,
            model=record.model,
            version=heartbeat.environment.version if heartbeat is not None else record.version,
            state=heartbeat.state if heartbeat is not None else record.state,
            connected=live is not None,
            reachable=live is not None and bool(live.service_urls),
            reachability=live.reachability if live is not None else UNKNOWN,
            service_urls=live.service_urls if live is not None else (),
            objects=len(live.content) if live is not None else 0,
            bound_at=record.bound_at,
            last_seen=live.last_seen if live is not None else record.last_seen,
        )

    async def unbind(self, request: web.Request) -> web.Response:
        """By its owner, by the operator, or by the device itself when it leaves."""
        caller = principal(request)
        device_id = request.match_info["id"]
        if caller.role is Role.DEVICE and caller.device != device_id:
            raise refusal(404, "unknown-device", "There is no such device")
        await self._records.unbind(device_id, None if caller.role is Role.OPERATOR else caller.account)
        live = self._fleet.get(device_id)
        if live is not None:
            live.close(HELLO_REFUSED, "unknown-device")
        return web.Response(status=204)
