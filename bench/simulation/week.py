"""Plays a week: consumers come one by one, a policy says who serves them and who holds what, bytes flow in steps.

A request is sent to the devices that the policy names, and to the origin, at once: it takes from each what the device
has for it, and from the origin only what is missing to be done within ``DONE_S``. The device gives its true idle
upload, shared evenly, and never more: that is its controller's work, and belongs to the truth here, not to a policy.

What a policy *books* is the rate that it reckoned with when it chose the device, from then until the request is done or
the device is gone, whatever the device then gave. An hour in which a device was booked for more bytes than it truly had
idle is an overrun: without its controller the household would have noticed.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .demand import Requests
from .homes import BLOCK_S, HOUR_S, STEP_S, Homes
from .recordings import Floats, Integers

DEVICES_A_PLAN = 4
DONE_S = 1800
"""A consumer watches or waits: what devices lack for this pace comes from the origin."""
CONSUMER_BPS = 50e6
REQUEST_BPS_MIN = 256_000
"""A device with less for another request answers 503."""
PLANS_A_REQUEST = 3
"""A consumer without any device asks again at most so often."""
ROUNDS_S = HOUR_S
"""Between rounds of placement; the server's are every five minutes, which would take hours here."""
TIMED_EVERY = 16
"""Of the decisions about requests: so many are not timed for each one that is."""
LEFT_BITS_MIN = 8.0
"""Less is what floating point leaves of a request that is done."""


@dataclass(slots=True)
class Sight:
    """What a scheduler knows: the last heartbeats, what it did since, and where copies are. Rates in bit/s, [n].

    ``idle_bps``, ``flows_seen`` (requests under way): of the last heartbeat; ``flows``: by now.
    ``present``: connected and reachable. ``foreseen_bps`` [24, n]: as reported at the beginning of this hour.
    ``room_bytes``, ``filling_bytes``: left of the disk, and fills under way, which are taken off. ``holders``: of each
    object, devices with a whole copy; ``whole``: the same by device, ``changed`` since the policy cleared it.
    ``held`` [objects, n]: those copies and the ones under way.
    """

    homes: Homes
    at_s: float
    idle_bps: Floats
    flows: Integers
    flows_seen: Integers
    present: NDArray[np.bool_]
    foreseen_bps: NDArray[np.float32]
    room_bytes: Integers
    holders: list[list[int]]
    whole: list[set[int]]
    held: NDArray[np.bool_]
    filling_bytes: Integers
    changed: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Moves:
    """Of one round: pairs of object and device, to be filled and to be dropped; the drops happen first."""

    fills: Sequence[tuple[int, int]] = ()
    drops: Sequence[tuple[int, int]] = ()


class Policy(Protocol):
    """``place`` once a round, ``route`` for each request: at most ``DEVICES_A_PLAN`` devices with the rate that each
    is reckoned to give."""

    def place(self, sight: Sight) -> Moves: ...

    def route(self, sight: Sight, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]: ...


@dataclass(slots=True)
class Outcome:
    """Bytes; ``served_bytes`` [n] by devices, ``by_hour`` [hours] of them, ``took_s`` of requests that are done.

    ``found``: requests for which some device had a copy. ``rtt_ms``: to the first device of each plan.
    """

    requests: Requests
    served_bytes: Floats
    by_hour: Floats
    booked_by_hour: Floats
    origin_bytes: float = 0.0
    fill_bytes: float = 0.0
    fills: int = 0
    found: int = 0
    served_requests: int = 0
    refusals: int = 0
    asked: int = 0
    overruns: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    took_s: list[NDArray[np.float64]] = field(default_factory=list)
    rtt_ms: list[float] = field(default_factory=list)
    route_us: list[float] = field(default_factory=list)
    round_s: list[float] = field(default_factory=list)

    @property
    def demand_bytes(self) -> float:
        return float(self.requests.bytes_asked().sum())

    @property
    def net_bytes(self) -> float:
        """Served by devices, less what was fetched from the origin so that they could."""
        return float(self.served_bytes.sum()) - self.fill_bytes


class _Flows:
    """Requests under way, a row each: what is left of it, and its devices; -1 is none."""

    def __init__(self) -> None:
        self.left = np.zeros(0)
        self.pace = np.zeros(0)
        self.began = np.zeros(0)
        self.wanted = np.zeros(0, dtype=np.int64)
        self.network = np.zeros(0, dtype=np.int64)
        self.plans = np.zeros(0, dtype=np.int64)
        self.device = np.full((0, DEVICES_A_PLAN), -1, dtype=np.int64)
        self.booked = np.zeros((0, DEVICES_A_PLAN))

    def extend(
        self, began: list[float], wanted: list[int], network: list[int], bits: Floats,
        chosen: list[list[tuple[int, float]]],
    ) -> None:  # fmt: skip
        count = len(began)
        device = np.full((count, DEVICES_A_PLAN), -1, dtype=np.int64)
        booked = np.zeros((count, DEVICES_A_PLAN))
        for row, plan in enumerate(chosen):
            for column, (one, rate) in enumerate(plan):
                device[row, column], booked[row, column] = one, rate
        self.left = np.concatenate([self.left, bits])
        self.pace = np.concatenate([self.pace, bits / DONE_S])
        self.began = np.concatenate([self.began, began])
        self.wanted = np.concatenate([self.wanted, np.array(wanted, dtype=np.int64)])
        self.network = np.concatenate([self.network, np.array(network, dtype=np.int64)])
        self.plans = np.concatenate([self.plans, np.ones(count, dtype=np.int64)])
        self.device = np.concatenate([self.device, device])
        self.booked = np.concatenate([self.booked, booked])

    def keep(self, rows: NDArray[np.bool_]) -> None:
        for name in ("left", "pace", "began", "wanted", "network", "plans", "device", "booked"):
            setattr(self, name, getattr(self, name)[rows])


def play(homes: Homes, requests: Requests, policy: Policy, held: Iterable[tuple[int, int]] = ()) -> Outcome:
    """The week of ``homes`` and ``requests`` under ``policy``. ``held``: object and device, of copies that are there at
    the beginning."""
    week = Week(homes, requests, policy)
    for wanted, device in held:
        week.hold(wanted, device)
    while week.hours_left:
        week.play_hour()
    return week.end()


class Week:
    """One that is under way; between hours it may be pickled, and be gone on with elsewhere."""

    def __init__(self, homes: Homes, requests: Requests, policy: Policy) -> None:
        count = len(homes)
        self._homes, self._requests, self._policy = homes, requests, policy
        self._sight = Sight(
            homes, 0.0, np.zeros(count), np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_), homes.foreseen_bps[0],
            homes.quota_bytes.copy(),
            [[] for _ in range(requests.objects)], [set() for _ in range(count)],
            np.zeros((requests.objects, count), dtype=np.bool_), np.zeros(count, dtype=np.int64),
        )  # fmt: skip
        self._flows = _Flows()
        self._fills: list[tuple[float, int, int]] = []
        self._disk_free_at = np.zeros(count)
        self._bits = requests.bytes_asked() * 8
        self._outcome = Outcome(requests, np.zeros(count), np.zeros(homes.hours), np.zeros(homes.hours))
        self._outcome.overruns = np.zeros(count, dtype=np.int64)
        self._idle = np.zeros(count)
        self._booked_bytes, self._idle_bytes = np.zeros(count), np.zeros(count)
        self._next = 0
        self._hour = 0

    @property
    def hours_left(self) -> int:
        return self._homes.hours - self._hour

    def hold(self, wanted: int, device: int) -> None:
        """A copy that is there at the beginning."""
        self._sight.held[wanted, device] = True
        self._sight.room_bytes[device] -= self._requests.size_bytes[wanted]
        self._copied(wanted, device)

    def _copied(self, wanted: int, device: int) -> None:
        self._sight.holders[wanted].append(device)
        self._sight.whole[device].add(wanted)
        self._sight.changed.add(device)

    def play_hour(self) -> None:
        self._sight.foreseen_bps = self._homes.foreseen_bps[self._hour]
        for at_s in range(self._hour * HOUR_S, (self._hour + 1) * HOUR_S, STEP_S):
            self._sight.at_s = float(at_s)
            if at_s % BLOCK_S == 0:
                self._truth(at_s // BLOCK_S)
            self._sight.idle_bps = self._idle.copy()
            self._end_fills()
            if at_s % ROUNDS_S == 0:
                self._place()
            self._plan_again()
            self._arrivals(at_s + STEP_S)
            self._flow(self._hour)
        self._end_of_hour()
        self._hour += 1

    def end(self) -> Outcome:
        """What is under way comes from the origin."""
        self._outcome.origin_bytes += float(self._flows.left.sum()) / 8
        return self._outcome

    def _truth(self, block: int) -> None:
        """Households and lines change; what a device had under way when it went is lost."""
        self._idle = self._homes.idle_bps[block].astype(float)
        online = self._homes.online[block]
        self._sight.present = online & self._homes.reachable
        device, booked = self._flows.device, self._flows.booked
        gone = (device >= 0) & ~online[device]
        device[gone], booked[gone] = -1, 0

    def _place(self) -> None:
        sight, outcome = self._sight, self._outcome
        began = time.perf_counter()
        moves = self._policy.place(sight)
        outcome.round_s.append(time.perf_counter() - began)
        size_bytes = self._requests.size_bytes
        for wanted, device in moves.drops:
            if wanted in sight.whole[device]:
                sight.holders[wanted].remove(device)
                sight.whole[device].remove(wanted)
                sight.changed.add(device)
                sight.held[wanted, device] = False
                sight.room_bytes[device] += size_bytes[wanted]
        for wanted, device in moves.fills:
            size = int(size_bytes[wanted])
            if sight.held[wanted, device] or sight.room_bytes[device] < size or not sight.present[device]:
                continue
            done_at = max(sight.at_s, self._disk_free_at[device]) + size * 8 / self._homes.down_bps[device]
            self._disk_free_at[device] = done_at
            sight.held[wanted, device] = True
            sight.room_bytes[device] -= size
            sight.filling_bytes[device] += size
            heapq.heappush(self._fills, (done_at, wanted, device))
            outcome.fills += 1
            outcome.fill_bytes += size

    def _end_fills(self) -> None:
        sight = self._sight
        while self._fills and self._fills[0][0] <= sight.at_s:
            _, wanted, device = heapq.heappop(self._fills)
            size = self._requests.size_bytes[wanted]
            sight.filling_bytes[device] -= size
            if sight.present[device]:
                self._copied(wanted, device)
            else:
                # It went away while filling: the bytes are spent, the task fails and is placed anew.
                sight.held[wanted, device] = False
                sight.room_bytes[device] += size

    def _arrivals(self, until_s: float) -> None:
        requests, sight, outcome = self._requests, self._sight, self._outcome
        end = int(np.searchsorted(requests.at_s, until_s))
        if end == self._next:
            return
        rows = slice(self._next, end)
        began, asked = requests.at_s[rows].tolist(), requests.object[rows].tolist()
        network = requests.network[rows].tolist()
        chosen = [self._plan(at, one, of) for at, one, of in zip(began, asked, network, strict=True)]
        outcome.found += sum(bool(sight.holders[one]) for one in asked)
        outcome.served_requests += sum(bool(plan) for plan in chosen)
        bits = self._bits[rows]
        self._flows.extend(began, asked, network, bits, chosen)
        self._next = end

    def _plan(self, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]:
        """The devices that take the request; those without room for it refuse."""
        sight, outcome = self._sight, self._outcome
        timed = (self._next + len(outcome.rtt_ms)) % TIMED_EVERY == 0
        began = time.perf_counter() if timed else 0.0
        plan = self._policy.route(sight, at_s, wanted, network)
        if timed:
            outcome.route_us.append((time.perf_counter() - began) * 1e6)
        taken = []
        for device, rate in plan:
            outcome.asked += 1
            if self._idle[device] < REQUEST_BPS_MIN * (sight.flows[device] + 1):
                outcome.refusals += 1
                continue
            sight.flows[device] += 1
            taken.append((device, rate))
        if taken:
            outcome.rtt_ms.append(float(self._homes.networks.rtt_ms[network, self._homes.network[taken[0][0]]]))
        return taken

    def _plan_again(self) -> None:
        """Consumers whose devices all went ask for another plan."""
        flows = self._flows
        for row in np.flatnonzero((flows.device < 0).all(axis=1) & (flows.plans < PLANS_A_REQUEST)):
            flows.plans[row] += 1
            plan = self._plan(self._sight.at_s, int(flows.wanted[row]), int(flows.network[row]))
            for column, (device, rate) in enumerate(plan):
                flows.device[row, column], flows.booked[row, column] = device, rate

    def _flow(self, hour: int) -> None:
        """One step of all transfers, and the heartbeats at its end."""
        flows, sight, outcome = self._flows, self._sight, self._outcome
        count = len(self._homes)
        there = flows.device >= 0
        at = np.where(there, flows.device, 0)
        sharing = np.bincount(flows.device[there], minlength=count)
        share = self._idle / np.maximum(1, sharing)
        rate = np.where(there, np.minimum(share[at], CONSUMER_BPS), 0)
        total = rate.sum(axis=1)
        slowed = np.minimum(1, CONSUMER_BPS / np.maximum(total, 1))
        rate *= slowed[:, None]
        total *= slowed
        origin = np.maximum(0, flows.pace - total)
        part = np.minimum(1, flows.left / np.maximum(1, (total + origin) * STEP_S))
        sent = np.bincount(flows.device[there], (rate * part[:, None])[there], count)
        outcome.served_bytes += sent * (STEP_S / 8)
        outcome.by_hour[hour] += sent.sum() * (STEP_S / 8)
        outcome.origin_bytes += float((origin * part).sum()) * (STEP_S / 8)
        booked = np.bincount(flows.device[there], flows.booked[there], count)
        self._booked_bytes += booked * (STEP_S / 8)
        self._idle_bytes += self._idle * (STEP_S / 8)
        flows.left = flows.left - (total + origin) * part * STEP_S
        done = flows.left <= LEFT_BITS_MIN
        if done.any():
            outcome.took_s.append(sight.at_s + STEP_S * part[done] - np.minimum(flows.began[done], sight.at_s))
            flows.keep(~done)
        there = flows.device >= 0
        sight.flows = np.bincount(flows.device[there], minlength=count)
        # What a heartbeat now would show.
        sight.flows_seen = sight.flows.copy()

    def _end_of_hour(self) -> None:
        # A megabyte an hour is the rounding of steps, not an overrun.
        self._outcome.overruns += self._booked_bytes > self._idle_bytes + 2**20
        self._outcome.booked_by_hour[self._hour] = self._booked_bytes.sum()
        self._booked_bytes[:], self._idle_bytes[:] = 0, 0
