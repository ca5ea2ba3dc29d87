"""One consumer's request: which devices, near whom, and with which tickets."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fallow_wire.keys import Jwk
from fallow_wire.limits import CHUNK_BYTES
from fallow_wire.plans import Stripe, Waited
from fallow_wire.session import HEARTBEAT_S

from ..catalogue.names import quoted
from ..catalogue.objects import HeldObject
from ..clock import Clock
from ..fleet.live import Fleet
from ..http import refusal
from ..scheduling.distances import Distances
from ..scheduling.filters import Request, routing_refusal, url_for
from ..scheduling.places import Place
from ..scheduling.routing import Choice, assumed_bps
from ..scheduling.views import ServingView
from ..signing import SigningKeys
from .config import Config
from .consumers import ConsumerLimit, LastSent
from .crowds import Crowds, views_of
from .devices import Devices
from .escrow import Escrow, Reservations
from .geography import Geography
from .pseudonym import Pseudonyms, family_of
from .tickets import Order, Standing, Tariffs, TicketIssuer

CROWD = "crowd"
"""The pool of those that hold an object in part."""
SMALL, NOT_HELD, BUSY, LIMITED, NO_TICKET = "small", "not-held", "busy", "limited", "no-ticket"
"""Why the origin serves: not worth a redirect; no device has it; none that has it may or can take it on; the consumer
was sent for enough; nobody pays, or no device has an address for this consumer."""
WHOLE_TICKETS = 4
"""So many whole objects may be fetched by the tickets of one plan."""


class LedgerLink(Reservations, Tariffs, Protocol):
    """What delivery needs of :class:`fallow_server.link.Link`."""


class DemandSink(Protocol):
    """Hears what is asked for; :class:`fallow_server.scheduling.demand.Demands`."""

    def note(self, object_id: str, place: Place, bytes_: int, now: float) -> None:
        """A consumer at ``place`` asked for so many bytes. ``now``: Unix seconds."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a request was sent: a consumer at ``place`` asked for ``asked_bytes`` of an object of ``size_bytes``.

    ``sources``: devices, with what each was booked with in bit/s. ``origin``: why there are none.
    """

    object_id: str
    size_bytes: int
    asked_bytes: int
    place: Place
    sources: Sequence[tuple[str, int]]
    origin: str | None


class RouteSink(Protocol):
    """Hears where requests were sent; :class:`fallow_server.recording.recorder.Recorder`."""

    def routed(self, routing: Routing) -> None: ...


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who asks, for as long as the request takes. ``address`` is an IP address as text."""

    address: str
    place: Place


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a consumer is to be sent to devices for.

    ``asked_bytes``: what the consumer wants of it. ``max_bytes``: what each ticket shall allow. ``jwk``: the key that
    confirms delivery, None for a consumer that does not. ``manifest``: the signed one, where the consumer may be sent
    to devices that hold the object in part.
    """

    held: HeldObject
    name: str
    asked_bytes: int
    max_bytes: int
    jwk: Jwk | None = None
    manifest: str | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """A device with the ticket to show it; ``url`` is without the ticket. ``rtt_ms``: what the round trip is likely to
    be, or None. ``booked_bps``: what it is reckoned to give. ``country``: as its place tells. ``stripe``: where it
    holds the object in part."""

    device_id: str
    url: str
    ticket: str
    rtt_ms: int | None
    booked_bps: int
    country: str | None
    stripe: Stripe | None = None

    @property
    def ticketed_url(self) -> str:
        return f"{self.url}?ticket={self.ticket}"


def ticket_bytes(length: int, sources: int) -> int:
    """What each ticket of a plan allows: many sources share the object, and what all of them together might serve is
    lent out of the escrow."""
    if sources <= WHOLE_TICKETS:
        return length
    return min(length, -(-WHOLE_TICKETS * length // sources // CHUNK_BYTES) * CHUNK_BYTES)


class Router:
    """:param draw: gives numbers in [0, 1). ``demand``: whoever wants to hear what is asked for; ``routes``: who
    hears where it is had from."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        link: LedgerLink,
        keys: SigningKeys,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._clock = clock
        self._draw = draw
        self.demand: DemandSink | None = None
        self.routes: list[RouteSink] = []
        self.geography = Geography(config.address_tables)
        self.devices = Devices(fleet, clock, self.geography.place_of, config.unmeasured_bps, config.rest_s)
        self.escrow = Escrow(config, link, clock)
        self.crowds = Crowds(fleet, self.devices, config.filters, config.public_url, clock)
        self._distances = Distances()
        self._pseudonyms = Pseudonyms(clock)
        self.issuer = TicketIssuer(
            config, keys, self.escrow, link, clock, standing_of=self._standing_of, pool_of=self._pseudonyms.pool
        )
        self._limit = ConsumerLimit(config, clock)
        self._last_sent = LastSent(config, clock)

    def consumer(self, address: str) -> Consumer:
        """:param address: as the connection or a trusted proxy says it."""
        address = address.partition("%")[0]
        try:
            return Consumer(address, self.geography.place_of(address))
        except ValueError:
            return Consumer("0.0.0.0", self.geography.place_of("0.0.0.0"))

    def learn(self, consumer: Consumer, waited: tuple[Waited, ...]) -> None:
        """What the consumer says of devices that it was sent to before."""
        for one in waited:
            self._distances.note(consumer.place, self.devices.place(one.device_id), one.ms)

    def charge(self, consumer: Consumer, tickets: int) -> None:
        """:raises ApiProblem: 429 when the consumer has asked for too much lately."""
        if not self._limit.allows(consumer.address, tickets):
            raise refusal(
                429, "too-many-tickets", "Too many requests from this address",
                remedy="Wait a little, or fetch the object with ?source=origin.",
                headers={"Retry-After": "5"},
            )  # fmt: skip

    async def route(self, consumer: Consumer, wanted: Wanted, count: int) -> list[Routed]:
        """At most ``count`` devices with a ticket each, near ones first; none where the origin has to serve.

        :raises ApiProblem: 429 when the consumer asks for too many tickets.
        """
        held = wanted.held
        self.crowds.note(held.object_id)
        self.devices.asked(family_of(consumer.address))
        if self.demand is not None:
            self.demand.note(held.object_id, consumer.place, wanted.asked_bytes, self._clock.now())
        found = await self._route(consumer, wanted, count)
        routed = [] if isinstance(found, str) else found
        routing = Routing(
            held.object_id,
            held.size,
            wanted.asked_bytes,
            consumer.place,
            [(one.device_id, one.booked_bps) for one in routed],
            found if isinstance(found, str) else None,
        )
        for sink in self.routes:
            sink.routed(routing)
        return routed

    async def _route(self, consumer: Consumer, wanted: Wanted, count: int) -> list[Routed] | str:
        """Why the origin has to serve, where there is no device."""
        held = wanted.held
        if wanted.max_bytes == 0 or held.size < self._config.redirect_bytes_min:
            return SMALL
        request = Request(held.object_id, family=family_of(consumer.address), shared=count > 1)
        in_crowd = wanted.manifest is not None and self.crowds.is_crowd(held.object_id)
        if in_crowd and wanted.manifest is not None:
            await self.crowds.spread(
                held.object_id, quoted(wanted.name), wanted.manifest, held.size,
                lambda: self._limit.allows_crowd(consumer.address),
            )  # fmt: skip
            count = max(count, self._config.crowd_sources_max)
        before = self._last_sent.device(consumer.address, held.object_id) if count == 1 else None
        chosen = self._choose(request, count, consumer, before)
        if not chosen and before is not None:
            chosen = self._choose(request, count, consumer)  # it is the only one
        if in_crowd and len(chosen) < count:
            chosen += self._holding_in_part(request, count - len(chosen))
        if not chosen:
            return BUSY if self.devices.holder_count(held.object_id) else NOT_HELD
        max_bytes = ticket_bytes(wanted.max_bytes, len(chosen)) if wanted.jwk is not None else wanted.max_bytes
        self.charge(consumer, len(chosen))
        if not self._limit.allows_bytes(consumer.address, max_bytes * len(chosen)):
            return LIMITED
        publisher, subject = held.publisher_of(wanted.name), self._pseudonyms.of(consumer.address)
        path = f"/o/{held.object_id}/{quoted(wanted.name)}"
        assumed = assumed_bps(wanted.max_bytes // len(chosen), HEARTBEAT_S, self._config.assumed_bps_max)
        stripes = self.crowds.stripes(held.object_id, -(-held.size // CHUNK_BYTES)) if in_crowd else {}
        routed = []
        for choice in chosen:
            device_id = choice.device.device_id
            url = url_for(choice.device, request.family)
            booked_bps = min(assumed, choice.device.remaining_up_bps)
            order = Order(
                held.object_id,
                publisher,
                subject,
                max_bytes,
                jwk=wanted.jwk,
                odds=choice.odds,
                pool=choice.pool,
                bps=booked_bps,
            )
            ticket = await self.issuer.issue(device_id, order)
            if url is None or ticket is None:
                break
            self.devices.note_routed(device_id, booked_bps)
            place = self.devices.place(device_id)
            round_trip_ms = self._distances.round_trip_ms(consumer.place, place)
            stripe = stripes.get(device_id) if choice.pool == CROWD else None
            routed.append(Routed(device_id, url + path, ticket, round_trip_ms, booked_bps, place.country, stripe))
        if count == 1 and routed:
            self._last_sent.note(consumer.address, held.object_id, routed[0].device_id)
        return routed or NO_TICKET

    def _holding_in_part(self, request: Request, count: int) -> list[Choice[ServingView]]:
        """Devices of a crowd's object, each of another line."""
        whole = replace(request, in_part=True)
        by_line: dict[str, ServingView] = {}
        now = self._clock.now()
        for view in views_of(self.crowds, self.devices, request.object_id, self._draw, now):
            if routing_refusal(view, whole, self._config.filters) is None:
                by_line.setdefault(self.devices.line(view.device_id) or view.device_id, view)
        fit = list(by_line.values())
        return [Choice(view, -(-1000 // len(fit)), CROWD) for view in fit[:count]]

    def _choose(
        self, request: Request, count: int, consumer: Consumer, without: str | None = None
    ) -> list[Choice[ServingView]]:
        near = self._distances.near(consumer.place)
        return self.devices.choose(
            request, count, self._config.filters, self._draw, consumer.place, near, without=without
        )

    async def run(self) -> None:
        """Follow the tables of addresses, until cancelled."""
        await self.geography.run(self.devices.place_anew)

    async def close(self) -> None:
        await self.crowds.close()
        await self.escrow.close()

    def _standing_of(self, device_id: str) -> Standing:
        line = self.devices.line(device_id)
        return Standing(
            line=None if line is None else self._pseudonyms.line(line),
            line_bps=self.devices.line_bps(device_id),
            region=self.devices.place(device_id).country,
            reach=self.devices.reach(device_id),
        )
