"""What is true of the devices: lines, households, when they are on-line, and what they foresee. SYNTHETIC homes.

Shapes, churn, countries, ways in and round trips are of the recordings; how homes differ from one another is made up
here: lines, mean use, habits of the hour, evenings that are busier than others, and uploads that fill a line for hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .outlook import SLOTS, Outlook
from .recordings import HOURS, Floats, Integers, Recordings

STEP_S = 30
"""Of simulated time, and the cadence of heartbeats."""
BLOCK_S = 300
"""The household's use and its line change so often."""
HOUR_S = 3600
BLOCKS_AN_HOUR = HOUR_S // BLOCK_S
TAUGHT_WEEKS = 3
"""Devices have been at it for three weeks: the forecast knows its hours."""

OFFICE_SHARE = 0.10
UP_MBPS = ((2, 0.15), (5, 0.30), (10, 0.30), (20, 0.15), (40, 0.10))
"""Assumed mix of upload lines, DSL to fibre."""
USABLE_SHARE = 0.90
"""Of the line, when the household uses nothing."""
USE_SHARE_MEDIAN, USE_SHARE_SIGMA = 0.06, 0.7
"""Mean use of a line, headroom included, as a share of it: log-normal over homes."""
HABIT_SIGMA = 0.5
"""Of a home's own hours of the week around the shape."""
MOOD_SIGMA, MOOD_LASTING = 0.6, 0.6
"""Of an hour around its habit, and how much of that lasts to the next hour."""
BURSTS_A_WEEK, BURST_STAYS = 4.0, 0.4
"""Uploads that take from half of the line to all of it, for 1.7 hours on average."""
FLICKER_SHAPE = 4.0
"""Use of five minutes around its hour: gamma of this shape, of mean 1."""
MAPPED_SHARE = 0.50
"""Assumed: of homes behind a translator without IPv6, whose router opens a port (UPnP IGD, PCP, NAT-PMP or by hand)."""
DISK_GIB = ((8, 0.35), (16, 0.35), (32, 0.20), (64, 0.10))
DOWN_OVER_UP, DOWN_MBPS_MAX = 4, 100
"""What of the down line a fill takes: homes have more down than up."""
TWO_OF_OWNER_SHARE = 0.05
"""Devices whose owner has another one."""
NETWORKS_A_COUNTRY = 2
ACCESS_MS = 8.0
"""Round trip between two homes of one network."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Providers: ``country`` [g], ``zone_h`` [g] hours ahead of UTC, ``share`` [g] of homes, ``rtt_ms`` [g, g]."""

    country: tuple[str, ...]
    zone_h: Integers
    share: Floats
    rtt_ms: Floats


@dataclass(frozen=True, slots=True)
class Homes:
    """Rates in bit/s; times from Monday 00:00 UTC of the simulated week.

    ``network`` [n], ``owner`` [n], ``reachable`` [n], ``quota_bytes`` [n], ``usable_bps`` [n], ``down_bps`` [n].
    ``idle_bps`` [blocks, n]: what the household leaves; 0 while off-line. ``online`` [blocks, n].
    ``foreseen_bps`` [hours, 24, n]: what the device foresees at the beginning of the hour. ``online_share`` [n]: of the
    time before.
    """

    networks: Networks
    network: Integers
    owner: Integers
    reachable: NDArray[np.bool_]
    quota_bytes: Integers
    usable_bps: Floats
    down_bps: Floats
    idle_bps: NDArray[np.float32]
    online: NDArray[np.bool_]
    foreseen_bps: NDArray[np.float32]
    online_share: Floats

    def __len__(self) -> int:
        return len(self.network)

    @property
    def hours(self) -> int:
        return len(self.foreseen_bps)

    def idle_bytes(self) -> Floats:
        """True idle upload by hour, of devices that consumers can reach: hours × devices."""
        blocks = self.idle_bps.reshape(self.hours, BLOCKS_AN_HOUR, len(self)).sum(axis=1, dtype=np.float64)
        return np.asarray(blocks * self.reachable * (BLOCK_S / 8))


def networks_of(recordings: Recordings) -> Networks:
    """Providers of each country; the host of each is found by order: countries by longitude, hosts by the first
    principal coordinate of their round trips, so that neighbours in the one are neighbours in the other."""
    countries = sorted(recordings.countries, key=lambda country: country[1])
    rtt_ms = recordings.rtt_ms
    centred = rtt_ms**2 - (rtt_ms**2).mean(axis=0) - (rtt_ms**2).mean(axis=1)[:, None] + (rtt_ms**2).mean()
    _, vectors = np.linalg.eigh(-centred / 2)
    hosts = np.argsort(vectors[:, -1])
    free = np.ones(len(hosts), dtype=np.bool_)
    chosen: list[int] = []
    for anchor in hosts[np.linspace(0, len(hosts) - 1, len(countries)).astype(np.int64)]:
        # The providers of a country are hosts that are near to one another.
        near = [int(host) for host in np.argsort(rtt_ms[anchor]) if free[host]][:NETWORKS_A_COUNTRY]
        free[near] = False
        chosen += near
    between = rtt_ms[np.ix_(chosen, chosen)].copy()
    np.fill_diagonal(between, 0.0)
    zones = [round(longitude / 15) for _, longitude, _ in countries for _ in range(NETWORKS_A_COUNTRY)]
    shares = np.array([homes / NETWORKS_A_COUNTRY for *_, homes in countries for _ in range(NETWORKS_A_COUNTRY)])
    names = tuple(code for code, *_ in countries for _ in range(NETWORKS_A_COUNTRY))
    return Networks(names, np.array(zones), shares / shares.sum(), between + ACCESS_MS)


def homes_of(recordings: Recordings, devices: int, hours: int, seed: int) -> Homes:
    """``devices`` homes and offices over ``hours``."""
    draw = np.random.default_rng([seed, 1])
    networks = networks_of(recordings)
    network = draw.choice(len(networks.share), devices, p=networks.share)
    owner = np.arange(devices)
    second = np.flatnonzero(draw.random(devices) < TWO_OF_OWNER_SHARE)
    owner[second] = owner[np.maximum(second - 1, 0)]
    direct, six, _ = recordings.inbound
    reachable = draw.random(devices) < direct + six + (1 - direct - six) * MAPPED_SHARE
    capacity = _mixed(draw, UP_MBPS, devices) * 1e6
    usable = capacity * USABLE_SHARE
    use = _use(recordings, draw, capacity, networks.zone_h[network], TAUGHT_WEEKS * SLOTS + hours)
    week = np.repeat(use[-hours:], BLOCKS_AN_HOUR, axis=0)
    week *= draw.gamma(FLICKER_SHAPE, 1 / FLICKER_SHAPE, week.shape).astype(np.float32)
    online, online_share = _online(recordings, draw, devices, len(week))
    idle = np.where(online, np.maximum(0, usable - week), 0).astype(np.float32)
    spent = np.minimum(week, usable).reshape(hours, BLOCKS_AN_HOUR, devices).mean(axis=1)
    taught = np.concatenate([np.minimum(use[:-hours], usable), spent])
    foreseen = _foreseen(taught, hours, usable, networks.zone_h[network])
    quota = (_mixed(draw, DISK_GIB, devices) * 2**30).astype(np.int64)
    down = np.minimum(DOWN_OVER_UP * capacity, DOWN_MBPS_MAX * 1e6)
    return Homes(
        networks, network, owner, reachable, quota, usable, down, idle, online, foreseen, online_share
    )  # fmt: skip


def _mixed(draw: np.random.Generator, mix: tuple[tuple[int, float], ...], count: int) -> Floats:
    return draw.choice([float(value) for value, _ in mix], count, p=[share for _, share in mix])


def _use(
    recordings: Recordings, draw: np.random.Generator, capacity: Floats, zone_h: Integers, hours: int
) -> NDArray[np.float32]:
    """Mean use of each hour, hours × devices; the last one ends the simulated time."""
    devices = len(capacity)
    office = draw.random(devices) < OFFICE_SHARE
    level = capacity * USE_SHARE_MEDIAN * draw.lognormal(0, USE_SHARE_SIGMA, devices)
    habits = draw.lognormal(-(HABIT_SIGMA**2) / 2, HABIT_SIGMA, (SLOTS, devices)).astype(np.float32)
    shift = np.rint(draw.normal(0, 1.5, devices)).astype(np.int64)
    found = np.empty((hours, devices), dtype=np.float32)
    mood, bursting = draw.normal(0, MOOD_SIGMA, devices), np.zeros(devices, dtype=np.bool_)
    fresh = np.sqrt(1 - MOOD_LASTING**2) * MOOD_SIGMA
    for hour in range(hours):
        slot = (hour + zone_h) % SLOTS
        shape = np.where(office, recordings.office_shape[slot], recordings.home_shape[(slot - shift) % SLOTS])
        mood = MOOD_LASTING * mood + draw.normal(0, fresh, devices)
        starts = BURSTS_A_WEEK / SLOTS * shape
        bursting = draw.random(devices) < np.where(bursting, BURST_STAYS, starts)
        burst = np.where(bursting, capacity * draw.uniform(0.5, 1.0, devices), 0)
        found[hour] = level * shape * habits[slot, np.arange(devices)] * np.exp(mood - MOOD_SIGMA**2 / 2) + burst
    return found


def _online(
    recordings: Recordings, draw: np.random.Generator, devices: int, blocks: int
) -> tuple[NDArray[np.bool_], Floats]:
    """Each device is on-line as a recorded home was, from a random moment of its record on, the record repeated."""
    record = recordings.online[draw.integers(0, len(recordings.online), devices)]
    slots = record.shape[1]
    at = draw.integers(0, slots, devices)[:, None] + np.arange(blocks // 6 + 1)
    repeated = np.take_along_axis(record, at % slots, axis=1)
    return np.repeat(repeated, 6, axis=1)[:, :blocks].T.copy(), record.mean(axis=1)


def _foreseen(use: NDArray[np.float32], hours: int, usable: Floats, zone_h: Integers) -> NDArray[np.float32]:
    """At the beginning of each of the last ``hours``, from all hours before."""
    found = np.empty((hours, HOURS, len(usable)), dtype=np.float32)
    whole = np.rint(use).astype(np.int64)
    for zone in np.unique(zone_h):
        there = np.flatnonzero(zone_h == zone)
        outlook = Outlook(len(there))
        for hour in range(len(use)):
            slot = int(hour + zone) % SLOTS
            at = hour - (len(use) - hours)
            if at >= 0:
                found[at][:, there] = outlook.coming(slot, usable[there])
            outlook.learn(slot, whole[hour, there])
    return found
