"""A week as a scheduler saw it and what it decided: lines of JSON, gzipped. Servers write a file for each day and each
of their starts (``server/fallow_server/recording``); a trace is one file or a directory of them.

| line | members |
|---|---|
| the first of a file | ``fallow_trace`` (2), ``synthetic`` |
| device | ``device``, ``id``, ``owner``, ``country``, ``asn``, ``quota_bytes``, ``down_bps`` |
| object | ``object``, ``id``, ``size`` in bytes; when first mentioned: ``held`` by which devices, ``replicas`` wanted |
| hour | ``hour`` since 1970, ``samples``, ``first``, ``present`` in so many, ``idle_up_bps``, ``foreseen_up_bps`` |
| request | ``at_ms``, ``object``, ``bytes``, ``country``, ``asn``, ``devices`` it was sent to, ``booked_bps`` of each |
| copy | ``at_ms``, ``object``, and ``fill`` or ``drop``: the device |
| round trip | ``from``, ``to`` (countries), ``rtt_ms`` |

``device``, ``object`` and ``owner`` are numbers of their file. A request with ``one_in`` stands for so many. ``origin``
says why a request was sent to no device, ``own_up_bps`` what a device sent for us: they are for people to read.
Times are Unix milliseconds. Lists of an hour are of the devices from ``first`` on. Devices and objects are described
before anything else names them, but in ``held``; a later line about a device takes over. Countries and numbers of AS
are null where they are not known. Devices come and go: whoever is not in an hour was not there. Several lines may be
about one hour.

Nothing in it names a consumer: a country and an AS are all that decisions look at. Within an hour a device is taken to
have its mean, and to be present at its beginning for the recorded share. Of coming hours it is taken to have foreseen
what it reported when they came: a little better than it truly did. What it held when an object was first mentioned it
is taken to have held from the beginning. Policies take each request to be for a whole object.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .demand import Requests
from .homes import BLOCK_S, BLOCKS_AN_HOUR, HOUR_S, Homes, Networks
from .recordings import HOURS
from .week import Moves, Policy, Sight

VERSION = 2
RTT_MS_UNKNOWN = 100.0
BYTES_A_LINE_MAX = 64 * 2**20
"""Of a simulated hour of a million devices; a longer line is no trace."""
HOURS_MAX = 31 * 24
"""A clock that was wrong would else take all of the memory."""
REPEATS_MAX = 2**16
REPEAT_S = 1.0
"""Between the requests that one stands for."""
HOUR_MS = HOUR_S * 1000
MONDAY_H = 4 * 24
"""When simulated weeks begin, hours since 1970: a Monday, 00:00 UTC."""
UNKNOWN_ASN = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """``chosen`` [r]: devices of each request with what they were booked with. ``moves``: of each hour. ``held``: pairs
    of object and device at the beginning."""

    homes: Homes
    requests: Requests
    chosen: list[list[tuple[int, float]]]
    moves: list[Moves]
    held: list[tuple[int, int]]
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
    present = online.sum(axis=1)
    mean = np.divide((idle * online).sum(axis=1), present, out=np.zeros(present.shape), where=present > 0)

    def lines() -> Iterator[dict[str, Any]]:
        yield {"fallow_trace": VERSION, "synthetic": True}
        for device, network in enumerate(homes.network.tolist()):
            yield {
                "device": device, "id": str(device), "owner": int(homes.owner[device]),
                "country": networks.country[network], "asn": network + 1,
                "quota_bytes": int(homes.quota_bytes[device]), "down_bps": int(homes.down_bps[device]),
            }  # fmt: skip
        for wanted, size in enumerate(requests.size_bytes.tolist()):
            yield {"object": wanted, "id": str(wanted), "size": size, "held": [], "replicas": 0}
        for one, country in enumerate(networks.country):
            for other, far in enumerate(networks.country):
                yield {"from": country, "to": far, "rtt_ms": round(float(networks.rtt_ms[one, other]), 1)}
        for hour in range(homes.hours):
            yield {
                "hour": MONDAY_H + hour, "samples": BLOCKS_AN_HOUR, "first": 0,
                "present": present[hour].tolist(), "idle_up_bps": mean[hour].astype(int).tolist(),
                "foreseen_up_bps": homes.foreseen_bps[hour, 0].astype(int).tolist(),
            }  # fmt: skip
            for kind, pairs in (("drop", record.moves[hour].drops), ("fill", record.moves[hour].fills)):
                for wanted, device in pairs:
                    yield {"at_ms": (MONDAY_H + hour) * HOUR_MS, "object": wanted, kind: device}
        for at_s, wanted, network, plan in zip(
            requests.at_s.tolist(), requests.object.tolist(), requests.network.tolist(), record.chosen, strict=True
        ):
            yield {
                "at_ms": MONDAY_H * HOUR_MS + int(at_s * 1000), "object": wanted,
                "bytes": int(requests.size_bytes[wanted]), "country": networks.country[network], "asn": network + 1,
                "devices": [device for device, _ in plan], "booked_bps": [int(rate) for _, rate in plan],
            }  # fmt: skip

    with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
        for line in lines():
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read(path: Path) -> Trace:
    """Of a file, or of all files of a directory.

    :raises SystemExit: naming the line that is wrong.
    """
    files = sorted(path.glob("*.jsonl.gz")) if path.is_dir() else [path]
    reader = _Reader()
    where = f"{path}"
    try:
        for file in files:
            reader.begin()
            for number, text in enumerate(_lines(file), 1):
                where = f"{file}, line {number}"
                reader.take(json.loads(text))
        if not reader.playable:
            raise SystemExit(
                f"{path}: it has no hour that is over, or no requests; an hour is written when it, or the server, ends"
            )
        return reader.trace()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError) as wrong:
        raise SystemExit(f"{where}: not a trace of version {VERSION} ({wrong!r})") from None


def _lines(path: Path) -> Iterator[str]:
    """All that are whole: a server that was killed may have left the last ones cut off."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        try:
            while (text := file.readline(BYTES_A_LINE_MAX)).endswith("\n"):
                yield text
        except (EOFError, zlib.error):
            return


class _Reader:
    """Devices, objects and owners have numbers of their file; rows are of all files."""

    def __init__(self) -> None:
        self._synthetic = False
        self._devices: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, int] = {}
        self._owners: list[int] = []
        self._hours: list[dict[str, Any]] = []
        self._requests: list[tuple[float, int, int, int]] = []
        self._chosen: list[list[tuple[int, float]]] = []
        self._copies: list[tuple[int, str, int, int]] = []
        self._held: set[tuple[int, int]] = set()
        # Objects that this file mentions first, with the numbers of devices.
        self._holders: list[tuple[int, list[int]]] = []
        self._networks: dict[tuple[str, int], int] = {}
        self._objects: dict[str, int] = {}
        self._sizes: list[int] = []
        self._replicas: list[int] = []
        self._rtt_ms: dict[tuple[str, str], float] = {}
        self.begin()

    def begin(self) -> None:
        """Another file comes."""
        self._settle_held()
        self._headed = False
        self._device_rows: dict[int, int] = {}
        self._object_rows: dict[int, int] = {}
        self._owner_rows: dict[int, int] = {}

    def _settle_held(self) -> None:
        for wanted, devices in self._holders:
            self._held.update((wanted, self._device_rows[device]) for device in devices)
        self._holders.clear()

    def take(self, line: dict[str, Any]) -> None:
        if not self._headed:
            if line["fallow_trace"] != VERSION:
                raise ValueError("another version")
            self._headed = True
            self._synthetic |= bool(line["synthetic"])
        elif "device" in line:
            self._device(line)
        elif "held" in line:
            self._object(line)
        elif "hour" in line:
            self._hour(line)
        elif "rtt_ms" in line:
            pair = (line["from"], line["to"])
            self._rtt_ms[pair] = min(self._rtt_ms.get(pair, float("inf")), float(line["rtt_ms"]))
        elif "fill" in line or "drop" in line:
            kind = "fill" if "fill" in line else "drop"
            device = self._device_rows[line[kind]]
            self._copies.append((int(line["at_ms"]), kind, self._object_rows[line["object"]], device))
        else:
            self._request(line)

    def _device(self, line: dict[str, Any]) -> None:
        name = str(line["id"])
        row = self._device_rows[line["device"]] = self._rows.setdefault(name, len(self._rows))
        if row == len(self._owners):
            # Of one who is known already by another device, which another file may have said.
            self._owners.append(self._owner_rows.get(line["owner"], row))
        self._owner_rows.setdefault(line["owner"], self._owners[row])
        self._network(line)
        self._devices[name] = line

    def _object(self, line: dict[str, Any]) -> None:
        row = self._objects.setdefault(str(line["id"]), len(self._objects))
        self._object_rows[line["object"]] = row
        if row == len(self._sizes):
            self._sizes.append(int(line["size"]))
            self._replicas.append(int(line.get("replicas", 0)))
            self._holders.append((row, line["held"]))

    def _hour(self, line: dict[str, Any]) -> None:
        first, count = int(line["first"]), len(line["present"])
        rows = [self._device_rows[device] for device in range(first, first + count)]
        columns = {
            name: np.array(line[name], dtype=np.float64) for name in ("present", "idle_up_bps", "foreseen_up_bps")
        }
        if any(len(column) != len(rows) for column in columns.values()):
            raise ValueError("columns are not of one length")
        self._hours.append({"hour": int(line["hour"]), "samples": int(line["samples"]), "rows": rows, **columns})

    def _request(self, line: dict[str, Any]) -> None:
        plan = [
            (self._device_rows[one], float(bps)) for one, bps in zip(line["devices"], line["booked_bps"], strict=True)
        ]
        wanted, network = self._object_rows[line["object"]], self._network(line)
        for number in range(min(int(line.get("one_in", 1)), REPEATS_MAX)):
            # Half a millisecond later than it was, and so never at the very beginning of a step.
            at_s = int(line["at_ms"]) / 1000 + 0.0005 + number * REPEAT_S
            self._requests.append((at_s, wanted, network, int(line["bytes"])))
            self._chosen.append(plan)

    def _network(self, line: dict[str, Any]) -> int:
        asn = line["asn"] if line["asn"] is not None else UNKNOWN_ASN
        return self._networks.setdefault((line["country"] or "", int(asn)), len(self._networks))

    @property
    def playable(self) -> bool:
        return bool(self._hours and self._requests)

    def trace(self) -> Trace:
        self._settle_held()
        first = min(min(one["hour"] for one in self._hours), int(min(at for at, *_ in self._requests) // HOUR_S))
        last = max(max(one["hour"] for one in self._hours), int(max(at for at, *_ in self._requests) // HOUR_S))
        hours = last - first + 1
        if hours > HOURS_MAX:
            raise ValueError(f"it is of {hours} hours")
        order = np.argsort([at for at, *_ in self._requests], kind="stable")
        at_s, wanted, network, part = (np.array(column)[order] for column in zip(*self._requests, strict=True))
        requests = Requests(
            at_s - first * HOUR_S, wanted, network, np.array(self._sizes), hours, part, np.array(self._replicas)
        )
        copies: dict[str, list[list[tuple[int, int]]]] = {kind: [[] for _ in range(hours)] for kind in ("fill", "drop")}
        for at_ms, kind, row, device in self._copies:
            copies[kind][min(max(0, at_ms // HOUR_MS - first), hours - 1)].append((row, device))
        moves = [Moves(fills, drops) for fills, drops in zip(copies["fill"], copies["drop"], strict=True)]
        chosen = [self._chosen[row] for row in order]
        return Trace(self._homes(first, hours), requests, chosen, moves, sorted(self._held), self._synthetic)

    def _homes(self, first: int, hours: int) -> Homes:
        count = len(self._rows)
        samples = np.zeros((hours, count))
        present, idle, foreseen = np.zeros((3, hours, count))
        for one in self._hours:
            hour, rows = one["hour"] - first, one["rows"]
            present[hour, rows] += one["present"]
            idle[hour, rows] += one["idle_up_bps"] * one["present"]
            foreseen[hour, rows] = one["foreseen_up_bps"]
            samples[hour, rows] += one["samples"]
        share = np.divide(present, samples, out=np.zeros_like(present), where=samples > 0)
        idle = np.divide(idle, present, out=np.zeros_like(idle), where=present > 0).astype(np.float32)
        block = np.arange(BLOCKS_AN_HOUR)[None, :, None]
        online = (block < np.rint(share[:, None] * BLOCKS_AN_HOUR)).reshape(-1, count)
        ahead = np.minimum(np.arange(hours)[:, None] + np.arange(HOURS), hours - 1)
        devices = list(self._devices.values())
        assert len(online) * BLOCK_S == hours * HOUR_S
        return Homes(
            networks=self._places(),
            network=np.array([self._network(one) for one in devices], dtype=np.int64),
            owner=np.array(self._owners, dtype=np.int64),
            reachable=np.ones(count, dtype=np.bool_),
            quota_bytes=np.array([int(one["quota_bytes"]) for one in devices], dtype=np.int64),
            usable_bps=idle.max(axis=0, initial=0).astype(float),
            down_bps=np.maximum(1.0, [float(one["down_bps"]) for one in devices]),
            idle_bps=np.where(online, np.repeat(idle, BLOCKS_AN_HOUR, axis=0), 0).astype(np.float32),
            online=online,
            foreseen_bps=foreseen.astype(np.float32)[ahead],
            online_share=share.mean(axis=0),
        )

    def _places(self) -> Networks:
        names = list(self._networks)
        rtt = [[self._rtt_ms.get((one, other), RTT_MS_UNKNOWN) for other, _ in names] for one, _ in names]
        zeros = np.zeros(len(names), dtype=np.int64)
        return Networks(tuple(country for country, _ in names), zeros, zeros + 1.0 / len(names), np.array(rtt))
