"""Recordings that shape the simulation, read from a folder, or made up by a seeded generator where it is absent."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HOURS, DAYS = 24, 7
SLOT_S = 1800
"""Of the churn campaign: a ping each half hour."""
PRESENT_SHARE = 0.5
"""A slot counts where more than half of all probes answered: the campaign itself was under way."""
SLOTS_ANSWERED_MIN = 0.5
"""A home that answered less was no home with a device that is left on."""
HOME_TECHS = ("home_wifi", "home_wired")
RTT_MS_MAX = 1000.0
SYNTHETIC_SEED = 4
SHAPES, PINGS, PROBES = "household_shapes/profiles.csv", "home_churn/home_probe_pings.csv.gz", "home_churn/probes.csv"
ROUND_TRIPS, REQUESTS = "rtt/PlanetLabData_1.gz", "web_traces/web07.trace.xz"
FILES = (SHAPES, PINGS, PROBES, ROUND_TRIPS, REQUESTS)
"""All that is read of a folder of recordings."""
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Recordings:
    """``home_shape``, ``office_shape``: use by the hour of the week from Monday 00:00, of mean 1. ``online``: homes ×
    half hours, whether each answered. ``countries``: code, degrees of longitude and number of homes.
    ``inbound``: shares of homes that are reached directly, by IPv6 alone, and only by a port of the router.
    ``rtt_ms``: hosts × hosts. ``requests``: object numbers, most requested first, in order of time.
    ``recorded``: False where all of it is SYNTHETIC.
    """

    home_shape: Floats
    office_shape: Floats
    online: NDArray[np.bool_]
    countries: tuple[tuple[str, float, int], ...]
    inbound: tuple[float, float, float]
    rtt_ms: Floats
    requests: Integers
    recorded: bool


def read(folder: Path | None) -> Recordings:
    """Of ``folder`` with ``household_shapes``, ``home_churn``, ``rtt`` and ``web_traces``; all or none of them."""
    if folder is None:
        return synthetic()
    try:
        homes, offices = _shapes(folder / SHAPES)
        online = _online(folder / PINGS)
        countries, inbound = _probes(folder / PROBES)
        rtt_ms = _round_trips(folder / ROUND_TRIPS)
        requests = _requests(folder / REQUESTS)
    except FileNotFoundError as missing:
        raise SystemExit(f"{missing.filename} is missing: --data takes a folder that has it, or leave it out") from None
    return Recordings(homes, offices, online, countries, inbound, rtt_ms, requests, recorded=True)


def synthetic() -> Recordings:
    """SYNTHETIC stand-ins of the same form."""
    draw = np.random.default_rng(SYNTHETIC_SEED)
    hours = np.arange(HOURS)
    evening = 0.35 + np.exp(-(((hours - 20.5 + 12) % 24 - 12) ** 2) / 18) + 0.5 * (hours > 8) * (hours < 19)
    office = 0.1 + np.exp(-((hours - 14.0) ** 2) / 18)
    home_shape = np.tile(evening, DAYS) / evening.mean()
    office_shape = np.concatenate([office] * 5 + [0.15 * office] * 2)
    online = np.ones((150, 98), dtype=np.bool_)
    for row in online[::10]:
        at, length = draw.integers(0, 90), draw.integers(1, 8)
        row[at : at + length] = False
    points = draw.uniform(0, 120, (200, 2))
    rtt_ms = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + draw.uniform(4, 30, (200, 200))
    weights = 1 / np.arange(1, 4001) ** 0.8
    requests = draw.choice(len(weights), 60_000, p=weights / weights.sum())
    countries = tuple((f"{chr(65 + k)}{chr(65 + k)}", 15.0 * k - 60, 20 - k) for k in range(16))
    return Recordings(
        home_shape, office_shape / office_shape.mean(), online, countries, (0.2, 0.25, 0.55), rtt_ms,
        _ranked(requests), recorded=False,
    )  # fmt: skip


def _shapes(path: Path) -> tuple[Floats, Floats]:
    """Weeks by the hour, from ten-minute slots."""
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))

    def week(place: str) -> Floats:
        days = [np.array([float(row[f"thp_{day}_xu17_{place}"]) for row in rows]) for day in WEEK]
        shape = np.concatenate([day.reshape(HOURS, -1).mean(axis=1) for day in days])
        return np.asarray(shape / shape.mean())

    return week("residential"), week("office")


def _online(path: Path) -> NDArray[np.bool_]:
    answered: dict[str, set[int]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["campaign"] == "short30m" and row["tech"] in HOME_TECHS and float(row["rcvd"] or 0) > 0:
                answered.setdefault(row["probe"], set()).add(int(row["ts"]) // SLOT_S)
    seen = sorted(set().union(*answered.values()))
    slots = [slot for slot in seen if sum(slot in one for one in answered.values()) > PRESENT_SHARE * len(answered)]
    table = np.array([[slot in one for slot in slots] for one in answered.values()])
    return np.asarray(table[table.mean(axis=1) >= SLOTS_ANSWERED_MIN])


def _probes(path: Path) -> tuple[tuple[tuple[str, float, int], ...], tuple[float, float, float]]:
    """Countries of homes, and how homes are reached; those that do not say count as behind a translator."""
    found: dict[str, list[float]] = {}
    direct = six = total = 0
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            tags = set(row["tags"].split("|"))
            if "home" not in tags or not row["lon"]:
                continue
            found.setdefault(row["country"], []).append(float(row["lon"]))
            total += 1
            direct += "no-nat" in tags
            six += "no-nat" not in tags and "system-ipv6-works" in tags
    countries = tuple((code, sum(lons) / len(lons), len(lons)) for code, lons in sorted(found.items()))
    return countries, (direct / total, six / total, (total - direct - six) / total)


def _round_trips(path: Path) -> Floats:
    with gzip.open(path, "rt", encoding="ascii") as lines:
        table = np.loadtxt(io.StringIO(lines.read()))
    return np.asarray(np.clip((table + table.T) / 2, 0, RTT_MS_MAX))


def _requests(path: Path) -> Integers:
    with lzma.open(path) as file:
        return _ranked(np.frombuffer(file.read(), dtype=">i4").astype(np.int64))


def _ranked(objects: Integers) -> Integers:
    """The same requests, objects numbered by how often they are requested, from 0."""
    _, inverse, counts = np.unique(objects, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.asarray(rank[inverse])
