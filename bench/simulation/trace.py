"""A week as a scheduler saw it and what it decided: a line of JSON each, gzipped, so that it is written as it happens.

| line | members |
|---|---|
| the first | ``fallow_trace`` (1), ``hours``, ``synthetic`` |
| device, as others refer to it | ``device``, ``owner``, ``country``, ``asn``, ``quota_bytes``, ``down_bps`` |
| hour | ``hour``; of each device ``idle_up_bps``, ``foreseen_up_bps`` (of this hour), ``present_permille`` |
| request | ``at_ms``, ``object``, ``bytes``, ``country``, ``asn``, ``devices`` it was sent to, ``booked_bps`` of each |
| copy | ``at_ms``, ``object``, and ``fill`` or ``drop``: the device |
| round trip | ``from``, ``to`` (countries), ``rtt_ms`` |

Times are from the beginning. Nothing in it names a consumer: a country and an AS are all that decisions look at.
Within an hour a device is taken to have its mean, and to be present at its beginning for the recorded share. Of coming
hours it is taken to have foreseen what it reported when they came: a little better than it truly did.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .demand import Requests
from .homes import BLOCK_S, BLOCKS_AN_HOUR, HOUR_S, Homes, Networks
from .recordings import HOURS
from .week import Moves, Policy, Sight

VERSION = 1
RTT_MS_UNKNOWN = 100.0
BYTES_A_LINE_MAX = 64 * 2**20
"""An hour of a million devices; a longer line is no trace."""


@dataclass(frozen=True, slots=True)
class Trace:
    """``chosen`` [r]: devices of each request with what they were booked with. ``moves``: of each hour."""

    homes: Homes
    requests: Requests
    chosen: list[list[tuple[int, float]]]
    moves: list[Moves]
    synthetic: bool


class Recorder:
    """A policy that does as another one, and keeps what it did."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.chosen: list[list[tuple[int, float]]] = []
        self.moves: list[Moves] = []
        self._at_s = -1.0

    def place(self, sight: Sight) -> Moves:
        moves = self._policy.place(sight)
        self.moves.append(moves)
        return moves

    def route(self, sight: Sight, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]:
        plan = self._policy.route(sight, at_s, wanted, network)
        # Who asks again, at the beginning of a step, is not another request.
        if at_s != sight.at_s:
            self.chosen.append(plan)
        return plan


class Recorded:
    """Decides as the trace says."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._next = 0

    def place(self, sight: Sight) -> Moves:
        return self._trace.moves[int(sight.at_s // HOUR_S)]

    def route(self, sight: Sight, at_s: float, wanted: int, network: int) -> list[tuple[int, float]]:
        if at_s == sight.at_s:
            return []
        plan = self._trace.chosen[self._next]
        self._next += 1
        return [(device, rate) for device, rate in plan if sight.present[device]]


def write(path: Path, homes: Homes, requests: Requests, record: Recorder) -> None:
    """What the simulated scheduler saw, labelled synthetic."""
    networks = homes.networks
    idle = homes.idle_bps.reshape(homes.hours, BLOCKS_AN_HOUR, len(homes))
    online = homes.online.reshape(idle.shape) & homes.reachable
    share = online.mean(axis=1)
    mean = np.divide((idle * online).mean(axis=1), share, out=np.zeros_like(share), where=share > 0)

    def lines() -> Iterator[dict[str, Any]]:
        yield {"fallow_trace": VERSION, "hours": homes.hours, "synthetic": True}
        for device, network in enumerate(homes.network.tolist()):
            yield {
                "device": str(device), "owner": str(homes.owner[device]), "country": networks.country[network],
                "asn": network, "quota_bytes": int(homes.quota_bytes[device]), "down_bps": int(homes.down_bps[device]),
            }  # fmt: skip
        for one, country in enumerate(networks.country):
            for other, far in enumerate(networks.country):
                yield {"from": country, "to": far, "rtt_ms": round(float(networks.rtt_ms[one, other]), 1)}
        for hour in range(homes.hours):
            yield {
                "hour": hour, "idle_up_bps": mean[hour].astype(int).tolist(),
                "foreseen_up_bps": homes.foreseen_bps[hour, 0].astype(int).tolist(),
                "present_permille": np.rint(share[hour] * 1000).astype(int).tolist(),
            }  # fmt: skip
            for kind, pairs in (("drop", record.moves[hour].drops), ("fill", record.moves[hour].fills)):
                for wanted, device in pairs:
                    yield {"at_ms": hour * HOUR_S * 1000, "object": str(wanted), kind: device}
        for at_s, wanted, network, plan in zip(
            requests.at_s.tolist(), requests.object.tolist(), requests.network.tolist(), record.chosen, strict=True
        ):
            yield {
                "at_ms": int(at_s * 1000), "object": str(wanted), "bytes": int(requests.size_bytes[wanted]),
                "country": networks.country[network], "asn": network, "devices": [device for device, _ in plan],
                "booked_bps": [int(rate) for _, rate in plan],
            }  # fmt: skip

    with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
        for line in lines():
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read(path: Path) -> Trace:
    """:raises SystemExit: naming the line that is wrong."""
    reader = _Reader()
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            while text := file.readline(BYTES_A_LINE_MAX):
                number += 1
                reader.take(json.loads(text))
        return reader.trace()
    except (KeyError, ValueError, TypeError, IndexError, EOFError, OSError) as wrong:
        raise SystemExit(f"{path}, line {number}: not a trace of version {VERSION} ({wrong!r})") from None


class _Reader:
    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._devices: list[dict[str, Any]] = []
        self._hours: list[dict[str, Any]] = []
        self._requests: list[tuple[int, int, int]] = []
        self._chosen: list[list[tuple[int, float]]] = []
        self._copies: list[dict[str, Any]] = []
        self._networks: dict[tuple[str, int], int] = {}
        self._objects: dict[str, int] = {}
        self._sizes: list[int] = []
        self._rtt_ms: dict[tuple[str, str], float] = {}

    def take(self, line: dict[str, Any]) -> None:
        if not self._head:
            if line["fallow_trace"] != VERSION:
                raise ValueError("another version")
            self._head = line
        elif "device" in line:
            self._network(line)
            self._devices.append(line)
        elif "hour" in line:
            if line["hour"] != len(self._hours):
                raise ValueError("hours are not in order")
            self._hours.append(line)
        elif "rtt_ms" in line:
            pair = (line["from"], line["to"])
            self._rtt_ms[pair] = min(self._rtt_ms.get(pair, float("inf")), float(line["rtt_ms"]))
        elif "fill" in line or "drop" in line:
            self._copies.append(line)
        else:
            wanted = self._objects.setdefault(line["object"], len(self._objects))
            if wanted == len(self._sizes):
                self._sizes.append(int(line["bytes"]))
            self._requests.append((int(line["at_ms"]), wanted, self._network(line)))
            self._chosen.append(
                [(int(one), float(bps)) for one, bps in zip(line["devices"], line["booked_bps"], strict=True)]
            )

    def _network(self, line: dict[str, Any]) -> int:
        return self._networks.setdefault((line["country"], int(line["asn"])), len(self._networks))

    def trace(self) -> Trace:
        hours, count = int(self._head["hours"]), len(self._devices)
        if len(self._hours) != hours or not self._requests or not count:
            raise ValueError("it ends before its last hour, or has no devices or requests")
        idle, foreseen, share = (
            np.array([hour[name] for hour in self._hours], dtype=np.float32).reshape(hours, count)
            for name in ("idle_up_bps", "foreseen_up_bps", "present_permille")
        )
        block = np.arange(BLOCKS_AN_HOUR)[None, :, None]
        online = (block < np.rint(share[:, None] / 1000 * BLOCKS_AN_HOUR)).reshape(-1, count)
        ahead = np.minimum(np.arange(hours)[:, None] + np.arange(HOURS), hours - 1)
        owners = {owner: number for number, owner in enumerate(dict.fromkeys(one["owner"] for one in self._devices))}
        homes = Homes(
            networks=self._places(),
            network=np.array([self._network(one) for one in self._devices]),
            owner=np.array([owners[one["owner"]] for one in self._devices]),
            reachable=np.ones(count, dtype=np.bool_),
            quota_bytes=np.array([int(one["quota_bytes"]) for one in self._devices]),
            usable_bps=idle.max(axis=0).astype(float),
            down_bps=np.maximum(1.0, [float(one["down_bps"]) for one in self._devices]),
            idle_bps=np.where(online, np.repeat(idle, BLOCKS_AN_HOUR, axis=0), 0).astype(np.float32),
            online=online,
            foreseen_bps=foreseen[ahead],
            online_share=share.mean(axis=0).astype(float) / 1000,
        )
        assert len(online) * BLOCK_S == hours * HOUR_S
        order = np.argsort([at for at, *_ in self._requests], kind="stable")
        at_ms, wanted, network = (np.array(column)[order] for column in zip(*self._requests, strict=True))
        # Copies of what nobody asked for are left out.
        copies: dict[str, list[list[tuple[int, int]]]] = {kind: [[] for _ in range(hours)] for kind in ("fill", "drop")}
        for line in self._copies:
            kind = "fill" if "fill" in line else "drop"
            known = self._objects.get(line["object"])
            if known is not None:
                copies[kind][min(hours - 1, int(line["at_ms"]) // (HOUR_S * 1000))].append((known, int(line[kind])))
        moves = [Moves(fills, drops) for fills, drops in zip(copies["fill"], copies["drop"], strict=True)]
        requests = Requests(at_ms / 1000, wanted, network, np.array(self._sizes), hours)
        chosen = [self._chosen[row] for row in order]
        return Trace(homes, requests, chosen, moves, bool(self._head["synthetic"]))

    def _places(self) -> Networks:
        names = list(self._networks)
        rtt = [[self._rtt_ms.get((one, other), RTT_MS_UNKNOWN) for other, _ in names] for one, _ in names]
        zeros = np.zeros(len(names), dtype=np.int64)
        return Networks(tuple(country for country, _ in names), zeros, zeros + 1.0 / len(names), np.array(rtt))
