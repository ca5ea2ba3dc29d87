"""Redirects, Metalink and plans over HTTP."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from aiohttp import web
from fallow_wire.errors import Malformed
from fallow_wire.jws import Kind, parse, split
from fallow_wire.keys import PublicKey
from fallow_wire.limits import CHUNK_BYTES
from fallow_wire.manifest import Manifest
from fallow_wire.plans import ByteRange, Plan, PlanRequest, PlanSource
from fallow_wire.session import HEARTBEAT_S

from ..catalogue.names import quoted
from ..catalogue.objects import Catalogue, HeldObject
from ..catalogue.service import not_found, object_id_of
from ..clock import Clock
from ..fleet.live import Fleet
from ..http import Api, Role, caller_address, json_response, record_body, refusal
from ..scheduling.filters import Request, url_for
from ..scheduling.routing import assumed_bps
from ..signing import SigningKeys
from .config import Config
from .consumers import ConsumerLimit
from .devices import Devices, public_line_of
from .escrow import Escrow, Reservations
from .metalink import MEDIA_TYPE, SUFFIX, MetalinkFile, metalink
from .pseudonym import Pseudonyms, family_of
from .tickets import Order, Tariffs, TicketIssuer
from .transfer import CORS, Transfer

PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Content-Type, Range, If-Range, If-None-Match",
    "Access-Control-Max-Age": "86400",
}


class LedgerLink(Reservations, Tariffs, Protocol):
    """What delivery needs of :class:`fallow_server.link.Link`."""


DOCUMENT_BYTES_PER_TICKET = 4 * 2**30
"""Of the object: the digests of so much are 5 ms of work, some times that of issuing a ticket."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A device with the ticket to show it; ``url`` is without the ticket."""

    device_id: str
    url: str
    ticket: str

    @property
    def ticketed_url(self) -> str:
        return f"{self.url}?ticket={self.ticket}"


class DeliveryService:
    """:param draw: gives numbers in [0, 1)."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        fleet: Fleet,
        link: LedgerLink,
        keys: SigningKeys,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._catalogue = catalogue
        self._clock = clock
        self._draw = draw
        self.devices = Devices(fleet, clock)
        self.escrow = Escrow(config, link, clock)
        self._pseudonyms = Pseudonyms(clock)
        self.issuer = TicketIssuer(config, keys, self.escrow, link, clock, line_of=self._line_of)
        self._limit = ConsumerLimit(config, clock)
        self._transfer = Transfer(config, catalogue.blobs)

    async def start(self) -> None:
        """Nothing runs by itself; escrow is borrowed when the first ticket needs it."""

    async def close(self) -> None:
        await self.escrow.close()

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/o/{id}/{name}", self.get_object, Role.ANYONE)
        api.add("HEAD", "/o/{id}/{name}", self.get_object, Role.ANYONE)
        api.add("OPTIONS", "/o/{id}/{name}", self.preflight, Role.ANYONE)
        api.add("POST", "/v1/plans", self.post_plan, Role.ANYONE)
        api.add("OPTIONS", "/v1/plans", self.preflight, Role.ANYONE)

    # What the publisher is told of an object (catalogue's Insight).

    def replicas_of(self, object_id: str) -> int:
        return self.devices.holder_count(object_id)

    async def is_funded(self, publisher: str) -> bool:
        return await self.escrow.is_funded(publisher)

    def origin_url(self, object_id: str, name: str) -> str:
        return f"{self._config.public_url}/o/{object_id}/{quoted(name)}?source=origin"

    async def preflight(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=PREFLIGHT)

    # -------------------------------------------------------------- one object

    async def get_object(self, request: web.Request) -> web.StreamResponse:
        held = await self._find(object_id_of(request))
        name = request.match_info["name"]
        known = any(name == one for _, one in held.names)
        if name.endswith(SUFFIX) and name != SUFFIX and not known:
            return await self._metalink(request, held, name.removesuffix(SUFFIX))
        unchanged = self._transfer.unchanged(request, held)
        if unchanged is not None:
            return unchanged
        self._transfer.span(request, held)
        if request.method == "GET" and request.query.get("source") != "origin":
            routed = await self._route(request, held, name, 1, held.size)
            if routed:
                # The ticket is this consumer's and for now: no cache may keep the answer.
                headers = {"Location": routed[0].ticketed_url, "Cache-Control": "no-store", **CORS}
                return web.Response(status=302, headers=headers)
        return await self._transfer.respond(request, held)

    async def _metalink(self, request: web.Request, held: HeldObject, name: str) -> web.Response:
        self._charge(request, _document_cost(held))
        manifest = await self._manifest(held.object_id)
        routed = []
        if request.method == "GET":
            routed = await self._route(request, held, name, self._config.sources_max, held.size)
        urls = [source.ticketed_url for source in routed]
        origin = self.origin_url(held.object_id, name)
        text = metalink(MetalinkFile(name, _parsed(manifest), held.sha256, urls, origin))
        headers = {"Cache-Control": "no-store", **CORS}
        return web.Response(body=text.encode("utf-8"), content_type=MEDIA_TYPE, headers=headers)

    async def post_plan(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, PlanRequest)
        PublicKey.from_jwk(wanted.jwk)  # a weak key would let anyone sign receipts
        held = await self._find(wanted.object)
        length = _requested_bytes(wanted.ranges, held.size)
        self._charge(request, _document_cost(held))
        manifest = await self._manifest(held.object_id)
        name = held.names[0][1]
        # Timed before the tickets are: what the plan says must hold for each of them.
        expires_at = self._clock.now() + self._config.ticket_s
        routed = await self._route(request, held, name, self._config.sources_max, length, wanted)
        sources = tuple(PlanSource(source.device_id, source.url, source.ticket) for source in routed)
        plan = Plan(held.object_id, name, manifest, sources, self.origin_url(held.object_id, name), expires_at)
        return json_response(plan, headers=CORS)

    async def _find(self, object_id: str) -> HeldObject:
        held = await self._catalogue.find(object_id)
        if held is None:
            raise not_found()
        return held

    async def _manifest(self, object_id: str) -> str:
        manifest = await self._catalogue.manifest(object_id)
        if manifest is None:
            raise not_found()
        return manifest

    # -------------------------------------------------------------- choosing devices

    async def _route(
        self,
        request: web.Request,
        held: HeldObject,
        name: str,
        count: int,
        max_bytes: int,
        plan: PlanRequest | None = None,
    ) -> list[Routed]:
        """At most ``count`` devices with a ticket each, best first; none where the origin has to serve.

        :raises ApiProblem: 429 when the consumer asks for too many tickets.
        """
        if max_bytes == 0 or held.size < self._config.redirect_bytes_min:
            return []
        address = _checked_address(request)
        wanted = Request(held.object_id, family=family_of(address))
        chosen = self.devices.choose(wanted, count, self._config.filters, self._draw)
        if not chosen:
            return []
        self._charge(request, len(chosen))
        if not self._limit.allows_bytes(address, max_bytes * len(chosen)):
            return []
        order = Order(
            held.object_id,
            held.publisher_of(name),
            self._pseudonyms.of(address),
            max_bytes,
            jwk=None if plan is None else plan.jwk,
        )
        assumed = assumed_bps(max_bytes // len(chosen), HEARTBEAT_S, self._config.assumed_bps_max)
        routed = []
        for choice in chosen:
            device = choice.device
            url = url_for(device, wanted.family)
            ticket = await self.issuer.issue(device.device_id, replace(order, odds=choice.odds))
            if url is None or ticket is None:
                break
            self.devices.note_routed(device.device_id, assumed)
            routed.append(Routed(device.device_id, f"{url}/o/{held.object_id}/{quoted(name)}", ticket))
        return routed

    def _line_of(self, device_id: str) -> str | None:
        device = self.devices.fleet.get(device_id)
        if device is None or public_line_of(device.remote_address) is None:
            return None
        return self._pseudonyms.line(device.remote_address)

    def _charge(self, request: web.Request, tickets: int) -> None:
        """:raises ApiProblem: 429 when the consumer has asked for too much lately."""
        if not self._limit.allows(_checked_address(request), tickets):
            raise refusal(
                429, "too-many-tickets", "Too many requests from this address",
                remedy="Wait a little, or fetch the object with ?source=origin.",
                headers={"Retry-After": "5", **CORS},
            )  # fmt: skip


def _checked_address(request: web.Request) -> str:
    address = caller_address(request).partition("%")[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "0.0.0.0"
    return address


def _document_cost(held: HeldObject) -> int:
    """What a plan or a Metalink costs, in tickets: it lists all chunks, and takes 80 ms to make for 64 GiB."""
    return 1 + held.size // DOCUMENT_BYTES_PER_TICKET


def _parsed(manifest: str) -> Manifest:
    """Our own signed manifest, out of our own database."""
    return parse(split(manifest, Kind.MANIFEST), Manifest)


def _requested_bytes(ranges: tuple[ByteRange, ...], size: int) -> int:
    """Bytes of the chunks that the ranges touch: a consumer checks whole chunks before it confirms any.

    :raises Malformed: for a range outside of the object.
    """
    if not ranges:
        return size
    total, covered = 0, 0
    for wanted in sorted(ranges, key=lambda one: one.first):
        if not wanted.first <= wanted.last < size:
            raise Malformed(f"ranges: first <= last < {size} is wanted")
        first = wanted.first // CHUNK_BYTES * CHUNK_BYTES
        end = min(size, (wanted.last // CHUNK_BYTES + 1) * CHUNK_BYTES)
        total += max(0, end - max(first, covered))
        covered = max(covered, end)
    return total
