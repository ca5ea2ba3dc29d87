"""Which devices shall hold which objects over the coming day.

The value of a copy is what its device is expected to serve of the demand that no other copy serves, hour by hour,
within what the device foresees to have idle and has not been booked with; less what the copy costs. Every copy lowers
the value of all others, of the same object and on the same device, and none ever raises one. So the best next copy is
found lazily: a value reckoned earlier is a bound, and only the highest bounds are reckoned anew (Minoux, 1978).

Values are bytes: one that is served to a consumer next door is worth 1.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .booking import ASKED_SHARE_MIN, Books, open_books
from .columns import Copies, Flags, Fleet, Floats, Ints, Objects, Pairs, no_pairs
from .costs import PARTS, Config

__all__ = ["PARTS", "Config", "Plan", "place", "price_of_filling", "wanted_replicas"]

BLOCK = 8
"""Bounds reckoned anew at once: one costs as much as eight, and the best is nearly always among them."""
NEARNESS_POWER = 8
"""How much rather devices near to the demand are looked at; a hundredth of the chance at 0.56."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Copies to make, the most valuable first, and to drop; row numbers.

    ``parts`` [f, 5]: of each value, as :data:`PARTS` names them. ``minimum`` [f]: made because publishers want so many
    or so many are safe, whatever it is worth. ``unplaced`` [m]: copies of that kind for which there is no device.
    ``books``: as the plan leaves them.
    """

    fill_object: Ints
    fill_device: Ints
    parts: Floats
    minimum: Flags
    drop_object: Ints
    drop_device: Ints
    unplaced: Ints
    books: Books


def wanted_replicas(objects: Objects, config: Config) -> Ints:
    """The fewest copies of each object: as many as its publishers want, and more of what is asked for often."""
    asked = np.bincount(objects.object_of_row(), objects.demand_bytes.sum(axis=1), len(objects))
    often = asked >= config.often_requests * objects.size_bytes
    few = np.where(often & (asked > 0), config.often_replicas, 0)
    return np.maximum(objects.replicas, few).astype(np.int32)


def price_of_filling(objects: Objects, config: Config) -> float:
    """Of a byte that fills a copy in this hour: less, the quieter it is against the busiest of the coming ones."""
    hours = objects.demand_bytes.sum(axis=0, dtype=np.float64)
    busy = float(hours[0] / hours.max()) if len(hours) and hours.max() > 0 else 0.0
    return config.fill_price * (1 - config.quiet_discount * (1 - busy))


def place(
    fleet: Fleet, objects: Objects, copies: Copies, config: Config, seed: int, refused: Pairs | None = None
) -> Plan:
    """One round. The same arguments give the same plan.

    No device gets a copy that it has, that it failed at, for which it has no room, or that a filter refuses; none is
    booked with more than ``booked_share`` of any hour's forecast.
    """
    books = open_books(fleet, objects, copies, config)
    refused = no_pairs() if refused is None else refused
    return _Round(fleet, objects, copies, refused, books, config, seed).plan()


class _Pool:
    """The candidates of one object, with a bound on the value of each; those that are taken or unfit have none."""

    __slots__ = ("bounds", "devices", "found", "homes", "reckoned", "second")

    def __init__(self, devices: NDArray[np.int64], homes: Ints) -> None:
        self.devices = devices
        self.homes = homes
        self.reckoned = False
        # The best one as last reckoned, and how many copies its device had got by then.
        self.found: tuple[_Candidate, int] | None = None
        self.bounds = np.full(len(devices), np.inf)
        # In a home that has a copy already: only for what publishers want, and only when no other home is left.
        self.second: list[int] = []


@dataclass(frozen=True, slots=True)
class _Candidate:
    """``place``: in its pool. ``value``: of a copy there, of these ``parts``."""

    place: int
    value: float
    parts: NDArray[np.float64]


class _Round:
    def __init__(
        self, fleet: Fleet, objects: Objects, copies: Copies, refused: Pairs, books: Books, config: Config, seed: int
    ) -> None:
        self._fleet = fleet
        self._objects = objects
        self._copies = copies
        self._refused = refused
        self._books = books
        self._config = config
        self._draw = np.random.default_rng(seed)
        self._room = fleet.room_bytes.copy()
        self._waiting = fleet.waiting_bytes.copy()
        self._got = np.zeros(len(fleet), np.int32)
        self._fill_price = price_of_filling(objects, config)
        order = np.argsort(copies.object, kind="stable")
        self._holders = copies.device[order]
        self._first_holder = np.searchsorted(copies.object[order], np.arange(len(objects) + 1))
        order = np.argsort(refused.object, kind="stable")
        self._refusing = refused.device[order]
        self._first_refusing = np.searchsorted(refused.object[order], np.arange(len(objects) + 1))
        self._missing = wanted_replicas(objects, config) - np.diff(self._first_holder)
        bookable = books.bookable
        # Who is left out of a pool is marked for a moment: to look for everybody in a list takes long.
        self._marked = np.zeros(len(fleet), np.bool_)
        self._marked_homes = np.zeros(int(fleet.home.max(initial=0)) + 1, np.bool_)
        self._per_bookable = np.divide(1, bookable, out=np.zeros_like(bookable), where=bookable > 0)
        self._pools: dict[int, _Pool] = {}
        self._made: list[tuple[int, int, NDArray[np.float64], bool]] = []
        self._strength_in_order()

    def _strength_in_order(self) -> None:
        """Devices sorted by region, with running sums of what they can give, to draw from by chance."""
        fleet = self._fleet
        strength = fleet.online_share * self._books.left.sum(axis=1) * fleet.fit
        # A line that is booked out may still hold what nobody asks for yet.
        strength += fleet.fit * np.float32(1 + strength.mean() / 100 if len(strength) else 1)
        regions = len(self._objects.nearness)
        self._by_region = np.argsort(fleet.region, kind="stable")
        self._strength = np.concatenate(([0.0], np.cumsum(strength[self._by_region], dtype=np.float64)))
        self._first_of_region = np.searchsorted(fleet.region[self._by_region], np.arange(regions + 1))

    # -------------------------------------------------------------- the greedy

    def plan(self) -> Plan:
        heap = [(*self._key(one, np.inf), one) for one in range(len(self._objects)) if self._may_want(one)]
        heapq.heapify(heap)
        while heap and len(self._made) < self._config.copies_max:
            _, _, one = heapq.heappop(heap)
            pool = self._pool(one)
            best = self._best(one, pool)
            if best is None or (best.value <= 0 and self._missing[one] <= 0):
                continue
            now = self._key(one, best.value)
            if heap and now > heap[0][:2]:
                heapq.heappush(heap, (*now, one))
                continue
            self._take(one, pool, best)
            heapq.heappush(heap, (*self._key(one, best.value), one))
        return self._plan()

    def _key(self, one: int, value: float) -> tuple[bool, float]:
        """Smaller comes first: what publishers want, then by value."""
        return bool(self._missing[one] <= 0), -value

    def _may_want(self, one: int) -> bool:
        # Less than a byte is rounding.
        return bool(self._missing[one] > 0 or self._books.wanted[self._objects.rows(one)].sum() >= 1)

    def _best(self, one: int, pool: _Pool) -> _Candidate | None:
        """The candidate of most value by now; None when none is left."""
        if pool.found is not None:
            best, copies = pool.found
            # All others can only have lost since.
            if self._got[pool.devices[best.place]] == copies:
                return best
        best_now = self._reckoned(one, pool)
        if best_now is not None:
            pool.found = best_now, int(self._got[pool.devices[best_now.place]])
        return best_now

    def _reckoned(self, one: int, pool: _Pool) -> _Candidate | None:
        bounds, size = pool.bounds, len(pool.bounds)
        while True:
            if size > BLOCK and pool.reckoned:
                block = np.argpartition(bounds, size - BLOCK)[size - BLOCK :]
            else:
                block, pool.reckoned = np.arange(size), True
            block = block[bounds[block] > -np.inf]
            if not len(block):
                return self._second(one, pool)
            devices = pool.devices[block]
            parts = self._parts(one, devices)
            values = parts[:, 0] - parts[:, 1:].sum(axis=1)
            ranks = values + self._promise(one, devices)
            ranks[self._room[devices] < self._objects.size_bytes[one]] = -np.inf
            bounds[block] = ranks
            first = int(ranks.argmax())
            # Not whose bound is the highest: of many that are equal it may never be in the block.
            if ranks[first] > -np.inf and ranks[first] >= bounds.max():
                return _Candidate(int(block[first]), float(values[first]), parts[first])

    def _second(self, one: int, pool: _Pool) -> _Candidate | None:
        """Of homes that have a copy already, once no other is left."""
        if self._missing[one] <= 0:
            return None
        size = self._objects.size_bytes[one]
        places = [place for place in pool.second if self._room[pool.devices[place]] >= size]
        if not places:
            return None
        devices = pool.devices[places]
        parts = self._parts(one, devices)
        values = parts[:, 0] - parts[:, 1:].sum(axis=1)
        best = int(np.argmax(values + self._promise(one, devices)))
        return _Candidate(places[best], float(values[best]), parts[best])

    def _take(self, one: int, pool: _Pool, best: _Candidate) -> None:
        device = int(pool.devices[best.place])
        size = int(self._objects.size_bytes[one])
        self._made.append((one, device, best.parts, bool(self._missing[one] > 0)))
        self._book(one, device)
        self._room[device] -= size
        self._waiting[device] += size
        self._got[device] += 1
        self._missing[one] -= 1
        pool.found = None
        pool.bounds[best.place] = -np.inf
        if best.place in pool.second:
            pool.second.remove(best.place)
        same = np.flatnonzero((pool.homes == self._fleet.home[device]) & (pool.bounds > -np.inf))
        pool.bounds[same] = -np.inf
        pool.second += same.tolist()

    def _book(self, one: int, device: int) -> None:
        left = self._books.left[device]
        able = left * self._books.asked[one]
        online = self._fleet.online_share[device]
        for row in self._rows(one, self._fleet.region[[device]])[0]:
            wanted = self._books.wanted[row]
            taken = np.minimum(wanted, able)
            able -= taken
            left -= taken
            wanted -= online * taken

    def _rows(self, one: int, regions: Ints) -> NDArray[np.int64]:
        """For devices of each region, rows of the object's demand, the nearest first."""
        objects = self._objects
        rows = np.arange(objects.first_row[one], objects.first_row[one + 1])
        if len(rows) < 2:
            return np.broadcast_to(rows, (len(regions), len(rows)))
        near = objects.nearness[regions[:, None], objects.region[rows]]
        return rows[np.argsort(-near, axis=1, kind="stable")]

    # -------------------------------------------------------------- what a copy is worth

    def _parts(self, one: int, devices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Parts of the value of a copy on each device, as :data:`PARTS` names them."""
        fleet, objects, books, config = self._fleet, self._objects, self._books, self._config
        size = float(objects.size_bytes[one])
        parts = np.zeros((len(devices), len(PARTS)))
        parts[:, 3] = size * self._fill_price
        used = 1 - self._room[devices] / np.maximum(1, fleet.quota_bytes[devices])
        parts[:, 4] = config.disk_price * size * used.clip(0, 1) ** 2
        regions = fleet.region[devices]
        left = books.left[devices]
        able = left * books.asked[one]
        served = np.zeros_like(left)
        for rows in self._rows(one, regions).T:
            taken = np.minimum(books.wanted[rows], able)
            able -= taken
            served += taken
            far = 1 - objects.nearness[regions, objects.region[rows]]
            parts[:, 1] += taken.sum(axis=1) * far
        full = 1 - (left - served) * self._per_bookable[devices]
        online = fleet.online_share[devices]
        parts[:, 0] = online * served.sum(axis=1)
        parts[:, 1] *= online
        parts[:, 2] = config.overrun_price * online * (served * full * full).sum(axis=1)
        return parts

    def _promise(self, one: int, devices: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the line could give and the disk take, beyond what is asked for now: decides among equals, and where an
        object is new. What waits to be filled makes the next one wait."""
        fleet = self._fleet
        size = max(1, int(self._objects.size_bytes[one]))
        room = (self._room[devices] / np.maximum(1, fleet.quota_bytes[devices])).clip(0, 1)
        idle = fleet.online_share[devices] * self._books.left[devices].sum(axis=1)
        found: NDArray[np.float64] = idle * room / (1 + self._waiting[devices] / size)
        return found if self._missing[one] > 0 else found * 1e-6

    # -------------------------------------------------------------- candidates

    def _pool(self, one: int) -> _Pool:
        pool = self._pools.get(one)
        if pool is None:
            pool = self._pools[one] = self._new_pool(one)
        return pool

    def _new_pool(self, one: int) -> _Pool:
        fleet, objects = self._fleet, self._objects
        holders = self._holders[self._first_holder[one] : self._first_holder[one + 1]]
        refusing = self._refusing[self._first_refusing[one] : self._first_refusing[one + 1]]
        size = objects.size_bytes[one]
        looked_at = self._looked_at(one)
        everybody = looked_at >= len(fleet)
        devices = np.arange(len(fleet)) if everybody else self._drawn(one, looked_at)
        found = self._eligible(devices, holders, refusing, size)
        if not everybody and len(found) < min(self._missing[one], looked_at):
            # Few have room for it: nobody is left out then.
            found = self._eligible(np.arange(len(fleet)), holders, refusing, size)[: self._config.looked_at_max]
        pool = _Pool(found, fleet.home[found])
        if len(holders):
            homes = fleet.home[holders]
            self._marked_homes[homes] = True
            same = np.flatnonzero(self._marked_homes[pool.homes])
            self._marked_homes[homes] = False
            pool.bounds[same] = -np.inf
            pool.second = same.tolist()
        return pool

    def _eligible(self, devices: NDArray[np.int64], holders: Ints, refusing: Ints, size: int) -> NDArray[np.int64]:
        good = self._fleet.fit[devices] & (self._room[devices] >= size)
        for others in (holders, refusing):
            self._marked[others] = True
        good &= ~self._marked[devices]
        for others in (holders, refusing):
            self._marked[others] = False
        return devices[good]

    def _looked_at(self, one: int) -> int:
        """Four for each copy that the demand may take, and some."""
        config, books = self._config, self._books
        copies = max(0, int(self._missing[one]))
        total = self._strength[-1]
        if total > 0:
            usual = total / max(1, int(self._fleet.fit.sum()))
            # Of what is wanted while somebody asks.
            at_once = books.wanted[self._objects.rows(one)] / np.maximum(books.asked[one], ASKED_SHARE_MIN)
            copies += int(at_once.sum(dtype=np.float64) / usual)
        return min(config.looked_at_max, max(config.looked_at_min, 4 * copies))

    def _drawn(self, one: int, count: int) -> NDArray[np.int64]:
        """Devices by chance: strong lines rather than weak ones, near ones rather than far ones."""
        objects = self._objects
        edges = self._strength[self._first_of_region]
        of_region = np.diff(edges)
        rows = objects.rows(one)
        asked = self._books.wanted[rows].sum(axis=1)
        if asked.any():
            near = objects.nearness[:, objects.region[rows]].astype(np.float64) ** NEARNESS_POWER
            of_region = of_region * (near @ asked)
        sums = np.concatenate(([0.0], np.cumsum(of_region)))
        if sums[-1] <= 0:
            return np.empty(0, np.int64)
        draws = self._draw.random(count) * sums[-1]
        region = np.searchsorted(sums, draws, side="right").clip(1, len(of_region)) - 1
        within = (draws - sums[region]) / np.maximum(of_region[region], 1e-300)
        places = np.searchsorted(self._strength, edges[region] + within * np.diff(edges)[region], side="right") - 1
        return np.unique(self._by_region[places.clip(0, len(self._by_region) - 1)])

    # -------------------------------------------------------------- what is no longer worth its disk

    def _drops(self) -> NDArray[np.int64]:
        """Copies on crowded disks that earn nothing: places in ``copies``, the least earning of each object first."""
        fleet, copies, config = self._fleet, self._copies, self._config
        objects, held = self._objects, copies.object
        if not len(held):
            return np.empty(0, np.int64)
        used = 1 - fleet.room_bytes / np.maximum(1, fleet.quota_bytes)
        crowded = np.flatnonzero(copies.settled & (used >= config.crowded_share)[copies.device])
        earned = self._books.shares.earned(held[crowded], copies.device[crowded])
        idle = earned < config.idle_share * objects.size_bytes[held[crowded]]
        found, earned = crowded[idle], earned[idle]
        surplus = np.bincount(held[copies.settled], minlength=len(objects)) - wanted_replicas(objects, config)
        may = np.ceil(np.maximum(0, surplus) * config.drop_share).astype(np.int64)
        found = found[np.lexsort((earned, held[found]))]
        rank = np.arange(len(found)) - np.searchsorted(held[found], held[found])
        few: NDArray[np.int64] = found[rank < may[held[found]]]
        return few

    def _plan(self) -> Plan:
        drops = self._drops()
        return Plan(
            fill_object=np.array([one for one, *_ in self._made], np.int32),
            fill_device=np.array([device for _, device, *_ in self._made], np.int32),
            parts=np.array([parts for _, _, parts, _ in self._made], np.float32).reshape(-1, len(PARTS)),
            minimum=np.array([minimum for *_, minimum in self._made], np.bool_),
            drop_object=self._copies.object[drops].astype(np.int32),
            drop_device=self._copies.device[drops].astype(np.int32),
            unplaced=np.maximum(0, self._missing).astype(np.int32),
            books=self._books,
        )
