"""Redirects, Metalink and plans over HTTP."""

from __future__ import annotations

import random
from collections.abc import Callable

from aiohttp import web
from fallow_wire.errors import Malformed
from fallow_wire.jws import Kind, parse, split
from fallow_wire.keys import PublicKey
from fallow_wire.limits import CHUNK_BYTES
from fallow_wire.manifest import Manifest
from fallow_wire.plans import ByteRange, Plan, PlanRequest, PlanSource

from ..catalogue.names import quoted
from ..catalogue.objects import Catalogue, HeldObject
from ..catalogue.service import not_found, object_id_of
from ..clock import Clock
from ..fleet.live import Fleet
from ..http import Api, Role, caller_address, json_response, record_body
from ..signing import SigningKeys
from .config import Config
from .devices import Devices
from .metalink import MEDIA_TYPE, SUFFIX, MetalinkFile, metalink
from .router import Consumer, LedgerLink, Router, Wanted
from .tickets import TicketIssuer
from .transfer import Transfer

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match",
    "Access-Control-Max-Age": "86400",
}

DOCUMENT_BYTES_PER_TICKET = 4 * 2**30
"""Of the object: the digests of so much are 5 ms of work, some times that of issuing a ticket."""


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
        self.router = Router(config, fleet, link, keys, clock, draw)
        self._transfer = Transfer(config, catalogue.blobs)

    @property
    def devices(self) -> Devices:
        return self.router.devices

    @property
    def transfer(self) -> Transfer:
        return self._transfer

    @property
    def issuer(self) -> TicketIssuer:
        return self.router.issuer

    async def run(self) -> None:
        """What goes on besides requests, until cancelled."""
        await self.router.run()

    async def close(self) -> None:
        await self.router.close()

    def add_routes(self, api: Api) -> None:
        api.add("OPTIONS", "/o/{id}/{name}", self.preflight, Role.ANYONE, cross_origin=True)
        api.add("GET", "/o/{id}/{name}", self.get_object, Role.ANYONE, cross_origin=True)
        api.add("HEAD", "/o/{id}/{name}", self.get_object, Role.ANYONE, cross_origin=True)
        api.add("POST", "/v1/plans", self.post_plan, Role.ANYONE, cross_origin=True)

    # What the publisher is told of an object (catalogue's Insight).

    def replicas_of(self, object_id: str) -> int:
        return self.devices.holder_count(object_id)

    async def is_funded(self, publisher: str) -> bool:
        return await self.router.escrow.is_funded(publisher)

    def origin_url(self, object_id: str, name: str) -> str:
        return f"{self._config.public_url}/o/{object_id}/{quoted(name)}?source=origin"

    async def preflight(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=_PREFLIGHT)

    # -------------------------------------------------------------- one object

    async def get_object(self, request: web.Request) -> web.StreamResponse:
        held = await self._find(object_id_of(request))
        name = request.match_info["name"]
        if name.endswith(SUFFIX) and name != SUFFIX and all(name != one for _, one in held.names):
            return await self._metalink(request, held, name.removesuffix(SUFFIX))
        unchanged = self._transfer.unchanged(request, held)
        if unchanged is not None:
            return unchanged
        span = self._transfer.span(request, held)
        if request.method == "GET" and request.query.get("source") != "origin":
            consumer = self._consumer(request)
            routed = await self.router.route(consumer, Wanted(held, name, span.length, held.size), 1)
            if routed:
                # The ticket is this consumer's and for now: no cache may keep the answer.
                headers = {"Location": routed[0].ticketed_url, "Cache-Control": "no-store"}
                return web.Response(status=302, headers=headers)
        if "turn" in request.query and request.method == "GET":
            return await self._transfer.in_turn(request, held)
        if "help" in request.query and request.method == "GET":
            return await self._transfer.help(request, held)
        return await self._transfer.respond(request, held)

    async def _metalink(self, request: web.Request, held: HeldObject, name: str) -> web.Response:
        consumer = self._consumer(request)
        self.router.charge(consumer, _document_cost(held))
        manifest = await self._manifest(held.object_id)
        routed = []
        if request.method == "GET":
            wanted = Wanted(held, name, held.size, held.size, manifest=manifest)
            routed = await self.router.route(consumer, wanted, self._config.sources_max)
        urls = [source.ticketed_url for source in routed]
        origin = self.origin_url(held.object_id, name)
        text = metalink(MetalinkFile(name, _parsed(manifest), held.sha256, urls, origin))
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=text.encode("utf-8"), content_type=MEDIA_TYPE, headers=headers)

    async def post_plan(self, request: web.Request) -> web.Response:
        wanted = await record_body(request, PlanRequest)
        PublicKey.from_jwk(wanted.jwk)  # a weak key would let anyone sign receipts
        held = await self._find(wanted.object)
        length = _requested_bytes(wanted.ranges, held.size)
        consumer = self._consumer(request)
        self.router.charge(consumer, _document_cost(held))
        self.router.learn(consumer, wanted.waited)
        manifest = await self._manifest(held.object_id)
        name = held.names[0][1]
        # Timed before the tickets are: what the plan says must hold for each of them.
        expires_at = self._clock.now() + self._config.ticket_s
        order = Wanted(held, name, length, length, wanted.jwk, manifest)
        routed = await self.router.route(consumer, order, self._config.sources_max)
        sources = tuple(
            PlanSource(one.device_id, one.url, one.ticket, one.rtt_ms, one.country, one.stripe) for one in routed
        )
        # Who has devices to turn to is served by the origin after those who have none.
        origin = self.origin_url(held.object_id, name) + "&help=1" * bool(sources)
        plan = Plan(held.object_id, name, manifest, sources, origin, expires_at)
        return json_response(plan)

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

    def _consumer(self, request: web.Request) -> Consumer:
        return self.router.consumer(caller_address(request))


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
