"""The live fleet as placement and routing see it, with what they decided since the last heartbeats."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

from fallow_wire.session import Heartbeat, TaskStatus
from fallow_wire.tickets import BPS_MAX

from ..clock import Clock
from ..fleet.live import Fleet, LiveDevice
from ..scheduling.bookings import REST_S, Bookings
from ..scheduling.filters import Config, Request, routing_refusal
from ..scheduling.holders import Draw, Holders
from ..scheduling.places import NOWHERE, Place
from ..scheduling.reached import Reached
from ..scheduling.routing import Choice, choose
from ..scheduling.views import DeviceView, ServingView
from .capacity import Capacities
from .pseudonym import family_of, home_of, line_of

PLACED_AT_ONCE = 100
"""Devices that get a new place before others have their turn: some ms where each holds a hundred objects."""


class Devices:
    """Views of connected devices, an index of who holds what, and the requests that they were promised to.

    ``committed``: bytes of unfinished fills by device; ``tasks`` writes it.

    :param place_of: where an address is.
    :param unmeasured_bps: what a line is believed to carry at most before anybody has measured it.
    :param rest_s: how long nobody is sent to a device whose household took back what was promised.
    """

    def __init__(
        self,
        fleet: Fleet,
        clock: Clock,
        place_of: Callable[[str], Place] = lambda address: NOWHERE,
        unmeasured_bps: int = BPS_MAX,
        rest_s: float = REST_S,
    ) -> None:
        self.fleet = fleet
        self.committed: dict[str, int] = {}
        self._clock = clock
        self._place_of = place_of
        self._holders = Holders()
        self._places: dict[str, Place] = {}
        self.capacities = Capacities(unmeasured_bps)
        self._reached = Reached()
        self._bookings = Bookings(rest_s)
        self._heartbeats: dict[str, Heartbeat | None] = {}
        fleet.observers.append(self)

    def view(self, device: LiveDevice) -> DeviceView | None:
        """None before the first heartbeat."""
        beat = device.heartbeat
        if beat is None:
            return None
        booked, now = self._bookings.booked(device.device_id), self._clock.now()
        believed_bps = self.capacities.believed_bps(device.device_id)
        return DeviceView(
            device_id=device.device_id,
            owner=device.owner,
            state=beat.state,
            heartbeat_age_s=max(0, now - device.last_seen),
            service_urls=device.service_urls,
            reachability=device.reachability,
            services=beat.services,
            idle_up_bps=min(beat.line.idle_up_bps, believed_bps),
            own_up_bps=beat.line.own_up_bps,
            forecast_idle_up_bps=beat.forecast_idle_up_bps,
            disk_free_bytes=max(0, min(beat.disk.free_bytes, beat.disk.quota_bytes - beat.disk.used_bytes)),
            disk_quota_bytes=beat.disk.quota_bytes,
            spare_percent=beat.processor.spare_percent,
            connections=beat.connections,
            connections_max=beat.connections_max,
            temperature_c=beat.processor.temperature_c,
            held=device.content,
            committed_bytes=self.committed.get(device.device_id, 0),
            routed_bps=booked.bps,
            routed_requests=booked.fresh,
            rests=now < booked.rests_until,
            place=self.place(device.device_id),
            line_up_bps=believed_bps,
        )

    def serving(self, device: LiveDevice, now: int) -> ServingView | None:
        """The same, with what routing asks for. :param now: Unix seconds."""
        beat = device.heartbeat
        if beat is None:
            return None
        booked, believed_bps = self._bookings.booked(device.device_id), self.capacities.believed_bps(device.device_id)
        return ServingView(
            device_id=device.device_id,
            state=beat.state,
            heartbeat_age_s=max(0, now - device.last_seen),
            service_urls=device.service_urls,
            services=beat.services,
            idle_up_bps=min(beat.line.idle_up_bps, believed_bps),
            forecast_idle_up_bps=beat.forecast_idle_up_bps,
            connections=beat.connections,
            connections_max=beat.connections_max,
            held=device.content,
            routed_bps=booked.bps,
            routed_requests=booked.fresh,
            rests=now < booked.rests_until,
            line_up_bps=believed_bps,
        )

    def place(self, device_id: str) -> Place:
        """Where a connected device's session comes from."""
        return self._places.get(device_id, NOWHERE)

    def line(self, device_id: str) -> str | None:
        """The public line of a connected device; None where its address is private."""
        return self._holders.line_of(device_id)

    def measured(self, device_id: str, bps: int) -> None:
        """Somebody else than the device saw it send so much."""
        self.capacities.note(device_id, bps, self._clock.monotonic())

    def line_bps(self, device_id: str) -> int | None:
        """What all devices of its line may be paid for, by what others saw; None where the line is not known."""
        line = self.line(device_id)
        return None if line is None else self.capacities.line_bps(line)

    def asked(self, family: str) -> None:
        """A consumer of ``family`` asked for something."""
        self._reached.asked(family)

    def reach(self, device_id: str) -> int | None:
        """‰ of its latest time online in which consumers could reach the device."""
        return self._reached.permille(device_id, self._clock.monotonic())

    def forget(self) -> None:
        """What is remembered of devices that are away for long."""
        now = self._clock.monotonic()
        self._reached.forget(now)
        self.capacities.forget(now)

    def holder_ids(self, object_id: str) -> frozenset[str]:
        """Connected devices that hold the object; takes as long as there are."""
        return frozenset(self._holders.devices_of(object_id))

    def some_holders(self, object_id: str, count: int) -> list[str]:
        """At most ``count`` of them."""
        return list(islice(self._holders.devices_of(object_id), count))

    def holder_count(self, object_id: str) -> int:
        return self._holders.count(object_id)

    def choose(
        self,
        request: Request,
        count: int,
        config: Config,
        draw: Draw,
        place: Place = NOWHERE,
        near: Sequence[str] = (),
        without: str | None = None,
    ) -> list[Choice[ServingView]]:
        """At most ``count`` devices for a request from ``place``: :func:`~..scheduling.routing.choose`.

        :param without: a device that is not to be chosen.
        """

        fleet, now = self.fleet, self._clock.now()

        def fit_for(request: Request) -> Callable[[str], ServingView | None]:
            def candidate(device_id: str) -> ServingView | None:
                device = fleet.get(device_id) if device_id != without else None
                view = self.serving(device, now) if device is not None else None
                return view if view is not None and routing_refusal(view, request, config) is None else None

            return candidate

        if not request.shared:
            return choose(self._holders, request.object_id, count, fit_for(request), draw, place, near)
        free, full = fit_for(replace(request, shared=False)), fit_for(request)
        return choose(self._holders, request.object_id, count, free, draw, place, near, full)

    def owners(self, device_ids: Iterable[str]) -> set[str]:
        """Of those that are connected."""
        return {device.owner for name in device_ids if (device := self.fleet.get(name)) is not None}

    def sources_for(
        self, device: LiveDevice, object_id: str, count: int, config: Config, draw: Draw
    ) -> list[Choice[ServingView]]:
        """At most ``count`` devices that ``device`` may fill from: near ones first, those of one pool in random order.

        A device that fills takes the first source that serves. So each must be the first with the chance that its
        ticket says, and not the strongest always.
        """
        request = Request(object_id, "fill", family_of(device.remote_address))
        place = self.place(device.device_id)
        chosen = self.choose(request, count, config, draw, place, without=device.device_id)
        pools = list(dict.fromkeys(choice.pool for choice in chosen))
        return sorted(chosen, key=lambda choice: (pools.index(choice.pool), draw()))

    def note_routed(self, device_id: str, bps: int) -> None:
        """A consumer was sent to the device; it counts until heartbeats show that it is over."""
        self._bookings.book(device_id, bps)

    async def place_anew(self) -> None:
        """Find again where every device is: what is known of addresses changed."""
        for number, device in enumerate(list(self.fleet.devices()), 1):
            if self.fleet.get(device.device_id) is device:
                held = self._holders.held_by(device.device_id)
                self._join(device)
                self._holders.hold(device.device_id, held)
            if number % PLACED_AT_ONCE == 0:
                await asyncio.sleep(0)

    # -------------------------------------------------------------- as observer of the fleet

    async def connected(self, device_id: str) -> None:
        self._forget(device_id)
        device = self.fleet.get(device_id)
        if device is not None:
            self._join(device)

    async def lost(self, device_id: str) -> None:
        self._forget(device_id)
        self._reached.lost(device_id, self._clock.monotonic())

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        return

    async def content_changed(self, device_id: str) -> None:
        device = self.fleet.get(device_id)
        if device is not None:
            self._holders.hold(device_id, frozenset(device.content))

    async def reported(self, device_id: str) -> None:
        device = self.fleet.get(device_id)
        if device is not None and device.reach is not None:
            self._reached.online(device_id, device.service_urls, self._clock.monotonic())
        heartbeat = device.heartbeat if device is not None else None
        # A dial-back reports too, and shows nothing of the line.
        if heartbeat is not self._heartbeats.get(device_id):
            self._heartbeats[device_id] = heartbeat
            if heartbeat is not None:
                idle_bps = heartbeat.line.idle_up_bps
                self._bookings.heard(device_id, heartbeat.connections, idle_bps, self._clock.now())

    def _join(self, device: LiveDevice) -> None:
        place = self._place_of(device.remote_address)
        self._places[device.device_id] = place
        line = _public_line_of(device.remote_address)
        self._holders.join(device.device_id, place, line)
        self.capacities.join(device.device_id, line, home_of(device.remote_address))

    def _forget(self, device_id: str) -> None:
        self._holders.leave(device_id)
        self.capacities.leave(device_id)
        self._places.pop(device_id, None)
        self._bookings.forget(device_id)
        self._heartbeats.pop(device_id, None)


def _public_line_of(address: str) -> str | None:
    """The line that a device at ``address`` shares; None for a private address: behind one may be a test network."""
    return line_of(address) if ipaddress.ip_address(address.partition("%")[0]).is_global else None
