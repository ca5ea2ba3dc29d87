"""Who decides: the server's own placement and routing, with what they may know or without, and simpler peers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from fallow_server.delivery.config import Config as DeliveryConfig
from fallow_server.scheduling import costs, regions
from fallow_server.scheduling.bookings import Bookings, bookable_bps
from fallow_server.scheduling.demand import Config as DemandConfig
from fallow_server.scheduling.demand import Demands
from fallow_server.scheduling.distances import Distances
from fallow_server.scheduling.filters import Config as Filters
from fallow_server.scheduling.gathering import Gathering
from fallow_server.scheduling.holders import Holders
from fallow_server.scheduling.placement import place
from fallow_server.scheduling.places import Place
from fallow_server.scheduling.routing import assumed_bps, choose
from fallow_server.scheduling.unpacking import Columns, columns
from fallow_server.scheduling.views import DeviceView

from .demand import Requests
from .homes import HOUR_S, STEP_S, Homes
from .recordings import HOURS, Floats, Integers
from .week import CONSUMER_BPS, DEVICES_A_PLAN, Moves, Sight

PLAN_BPS = CONSUMER_BPS / DEVICES_A_PLAN
MONDAY_S = 4 * 86_400
"""Unix time of a Monday 00:00 UTC."""
FIRST_AS = 65_000
SPARE_COPIES = 1.5
"""Of the simple peers: capacity of the copies over what was asked for in the last hour."""
SERVICES = frozenset({"object"})


@dataclass(slots=True)
class Device:
    """A candidate of routing, as ``DeviceView`` has it. ``share_up_bps``: of its idle line, for one consumer more."""

    number: int
    remaining_up_bps: int
    lasting_up_bps: int
    share_up_bps: int


class Ours:
    """The server's placement and routing.

    ``foreseen``: whether the devices' forecast is used; without it the idle upload of the last heartbeat is taken to
    last. With ``clairvoyant`` both idle upload and demand of all coming hours are known.
    """

    def __init__(
        self, homes: Homes, requests: Requests, seed: int, *, foreseen: bool = True, clairvoyant: bool = False,
        prices: costs.Config | None = None,
    ) -> None:  # fmt: skip
        networks = homes.networks
        self._homes, self._requests = homes, requests
        self._places = [Place(FIRST_AS + number, country) for number, country in enumerate(networks.country)]
        self._foreseen = foreseen
        self._truth = _Truth(homes, requests, self._places) if clairvoyant else None
        self._demands = Demands(DemandConfig())
        self._distances = Distances()
        self._assumed_bps_max = DeliveryConfig().assumed_bps_max
        self._draw: Callable[[], float] = random.Random(seed).random
        self._seed = seed
        self._prices = costs.Config() if prices is None else prices
        self._filters = Filters()
        self._ids = [str(device) for device in range(len(homes))]
        self._names = [str(wanted) for wanted in range(requests.objects)]
        self._sizes: list[int] = requests.size_bytes.tolist()
        none = np.zeros(requests.objects, np.int64)
        self._replicas: list[int] = (none if requests.replicas is None else requests.replicas).tolist()
        self._index = Holders()
        for device, network in enumerate(homes.network.tolist()):
            self._index.join(self._ids[device], self._places[network], None)
        self._bookings = Bookings()
        self._heard_at = [-1.0] * len(homes)

    # -------------------------------------------------------------- placement

    def place(self, sight: Sight) -> Moves:
        self._hold(sight)
        asked = columns(self._gathered(sight).question(self._demands.saved(), MONDAY_S + sight.at_s), regions.Config())
        if self._truth is not None:
            asked = self._truth.instead(asked, int(sight.at_s // HOUR_S))
        plan = place(asked.fleet, asked.objects, asked.copies, self._prices, self._seed + int(sight.at_s))
        return Moves(
            list(zip(plan.fill_object.tolist(), plan.fill_device.tolist(), strict=True)),
            list(zip(plan.drop_object.tolist(), plan.drop_device.tolist(), strict=True)),
        )

    def _gathered(self, sight: Sight) -> Gathering:
        """As the server's driver asks, all devices in their order, those that are away too."""
        homes, gathering = self._homes, Gathering(self._filters, len(self._homes))
        for name, size, replicas in zip(self._names, self._sizes, self._replicas, strict=True):
            gathering.add_object(name, size, replicas)
        forecast = self._forecast(sight).astype(np.int64).tolist()
        columns_of = (
            sight.present.tolist(), sight.idle_bps.astype(np.int64).tolist(), homes.owner.tolist(),
            (sight.room_bytes + sight.filling_bytes).tolist(), homes.quota_bytes.tolist(),
            sight.filling_bytes.tolist(), homes.online_share.tolist(), homes.network.tolist(),
        )  # fmt: skip
        for number, (present, idle, owner, free, quota, filling, share, network) in enumerate(
            zip(*columns_of, strict=True)
        ):
            view = DeviceView(
                device_id=self._ids[number], owner=str(owner), state="active" if present else "paused",
                heartbeat_age_s=0.0, service_urls=("https://192.0.2.1",), services=SERVICES, idle_up_bps=idle,
                own_up_bps=0, forecast_idle_up_bps=tuple(forecast[number]), disk_free_bytes=free,
                disk_quota_bytes=quota, spare_percent=100, connections=0, connections_max=100,
                held=self._index.held_by(self._ids[number]), committed_bytes=filling, place=self._places[network],
            )  # fmt: skip
            gathering.add_device(view, share, None)
        for wanted, name in enumerate(self._names):
            coming = np.flatnonzero(sight.held[wanted]) if sight.filling_bytes.any() else ()
            gathering.add_task(name, [self._ids[device] for device in coming if wanted not in sight.whole[device]], ())
        return gathering

    def _forecast(self, sight: Sight) -> Floats:
        """Of each device, devices × 24."""
        if self._truth is not None:
            return self._truth.idle_bps(int(sight.at_s // HOUR_S))
        if not self._foreseen:
            return np.repeat(sight.idle_bps[:, None], HOURS, axis=1)
        return sight.foreseen_bps.T.astype(float)

    # -------------------------------------------------------------- routing

    def route(self, sight: Sight, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]:
        self._sight = sight
        self._hold(sight)
        consumer = self._places[network]
        self._demands.note(self._names[wanted], consumer, self._sizes[wanted], MONDAY_S + at_s)
        found = choose(
            self._index, self._names[wanted], DEVICES_A_PLAN, self._free, self._draw, consumer,
            self._distances.near(consumer), self._full,
        )  # fmt: skip
        assumed = assumed_bps(self._sizes[wanted] // max(1, len(found)), STEP_S, self._assumed_bps_max)
        plan = []
        for choice in found:
            number, rate = choice.device.number, min(assumed, choice.device.remaining_up_bps)
            self._bookings.book(self._ids[number], rate)
            plan.append((number, float(rate)))
        if plan:
            # What the consumer then measures.
            served_by = int(self._homes.network[plan[0][0]])
            rtt_ms = round(float(self._homes.networks.rtt_ms[network, served_by]))
            self._distances.note(consumer, self._places[served_by], rtt_ms)
        return plan

    def _free(self, device_id: str) -> Device | None:
        """A device of which enough is left for one consumer more."""
        device = self._device(device_id)
        return device if device is not None and device.remaining_up_bps >= self._filters.request_bps_min else None

    def _full(self, device_id: str) -> Device | None:
        """One that may be named where too few are free."""
        device = self._device(device_id)
        return device if device is not None and device.share_up_bps >= self._filters.shared_bps_min else None

    def _device(self, device_id: str) -> Device | None:
        number, sight = int(device_id), self._sight
        if not sight.present[number]:
            return None
        idle, serves = int(sight.idle_bps[number]), int(sight.flows_seen[number])
        if self._heard_at[number] != sight.at_s:
            # Its last heartbeat, looked at when it matters.
            self._heard_at[number] = sight.at_s
            self._bookings.heard(device_id, serves, idle, sight.at_s)
        booked = self._bookings.booked(device_id)
        share = idle // (1 + serves + booked.fresh)
        if sight.at_s < booked.rests_until:
            return Device(number, 0, 0, share)
        left = max(0, bookable_bps(idle) - booked.bps)
        foreseen = int(self._now[number]) if self._foreseen else idle
        return Device(number, left, min(left, max(0, bookable_bps(foreseen) - booked.bps)), share)

    def _hold(self, sight: Sight) -> None:
        """Keep the index, and the forecast for the hour under way."""
        for device in sight.changed:
            self._index.hold(self._ids[device], frozenset(map(self._names.__getitem__, sight.whole[device])))
        sight.changed.clear()
        self._now = sight.foreseen_bps[0] if self._truth is None else self._truth.now


class _Truth:
    """Of every hour: idle upload in bit/s, and what consumers will ask for."""

    def __init__(self, homes: Homes, requests: Requests, places: list[Place]) -> None:
        self._idle = np.asarray(homes.idle_bps).reshape(homes.hours, -1, len(homes)).mean(axis=1)
        self.now = self._idle[0]
        self._requests = requests
        self._places = places

    def idle_bps(self, hour: int) -> Floats:
        self.now = self._idle[hour]
        found = self._idle[hour : hour + HOURS].T
        return np.pad(found, ((0, 0), (0, HOURS - found.shape[1])), mode="edge").astype(float)

    def instead(self, asked: Columns, hour: int) -> Columns:
        """The same with the true demand of the coming hours, by object, wherever consumers are."""
        requests = self._requests
        first, end = np.searchsorted(requests.at_s, (hour * HOUR_S, (hour + HOURS) * HOUR_S))
        rows = slice(int(first), int(end))
        coming = (requests.at_s[rows] // HOUR_S).astype(np.int64) - hour
        counts = np.bincount(requests.object[rows] * HOURS + coming, minlength=requests.objects * HOURS)
        demand = (counts.reshape(-1, HOURS) * requests.size_bytes[:, None]).astype(np.float32)
        objects = replace(
            asked.objects,
            first_row=np.arange(requests.objects + 1, dtype=np.int32),
            region=np.zeros(requests.objects, np.int32),
            demand_bytes=demand,
            nearness=np.ones_like(asked.objects.nearness),
        )
        return replace(asked, objects=objects)


class _Simple:
    """As many copies as carry the last hour's requests and half as many again."""

    def __init__(self, homes: Homes, requests: Requests, seed: int) -> None:
        self._homes, self._requests = homes, requests
        self._draw = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._network_of = homes.network
        self._asked = np.zeros((requests.objects, len(homes.networks.share)))

    def place(self, sight: Sight) -> Moves:
        able = float((sight.idle_bps * sight.present).sum() / max(1, sight.present.sum())) * HOUR_S / 8
        size_bytes = self._requests.size_bytes
        bytes_asked = self._asked.sum(axis=1) * size_bytes
        copies = np.ceil(SPARE_COPIES * bytes_asked / max(1.0, able)).astype(np.int64)
        held = sight.held.sum(axis=1)
        fills: list[tuple[int, int]] = []
        room = sight.room_bytes.copy()
        for wanted in np.argsort(-bytes_asked):
            missing = int(copies[wanted] - held[wanted])
            if missing > 0:
                may = np.flatnonzero(sight.present & (room >= size_bytes[wanted]) & ~sight.held[wanted])
                chosen = self._choose(may, missing, int(wanted))
                room[chosen] -= size_bytes[wanted]
                fills += [(int(wanted), int(device)) for device in chosen]
        self._asked[:] = 0
        return Moves(fills)

    def _choose(self, may: Integers, count: int, wanted: int) -> Integers:
        return self._numbers.choice(may, min(count, len(may)), replace=False)


class Random(_Simple):
    """Copies anywhere; each request to four holders drawn at random."""

    def route(self, sight: Sight, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]:
        self._asked[wanted, network] += 1
        holders = sight.holders[wanted]
        chosen = self._draw.sample(holders, min(DEVICES_A_PLAN, len(holders)))
        return [(device, min(PLAN_BPS, float(sight.idle_bps[device]))) for device in chosen if sight.present[device]]


class Nearest(_Simple):
    """Copies in the networks where the consumers are; each request to the four holders of the shortest round trips."""

    def _choose(self, may: Integers, count: int, wanted: int) -> Integers:
        weights = self._asked[wanted][self._network_of[may]] + 1e-9
        count = min(count, len(may))
        return may[np.argsort(-np.log(self._numbers.random(len(may))) / weights)[:count]]

    def route(self, sight: Sight, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]:
        self._asked[wanted, network] += 1
        holders = np.array(sight.holders[wanted], dtype=np.int64)
        holders = holders[sight.present[holders]]
        rtt_ms = self._homes.networks.rtt_ms[network, self._network_of[holders]]
        nearest = holders[np.argsort(rtt_ms, kind="stable")[:DEVICES_A_PLAN]]
        return [(int(device), min(PLAN_BPS, float(sight.idle_bps[device]))) for device in nearest]
