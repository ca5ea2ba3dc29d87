"""How many devices one scheduler carries, and what each costs it.

The server is ``fallow-server`` with both roles and SQLite, one process bound to one core; everything else runs on
another.

**Over sockets**: devices of their own keys and loopback addresses hold WebSocket sessions, say their hello with a real
signature, report 20 objects each, beat every 30 s, ping as agents do and answer dial-backs; 100,000 devices stand in
the registry. ``session_kib`` is the growth of the server's resident memory per session, with all that it keeps of a
device. ``heartbeat_us`` is all its processor time over a window by the heartbeats in it, pings and what runs once a
minute included. Its peer is a bare WebSocket of aiohttp that the same devices talk to. Then the server is killed, and
all come back.

**In process**: of so many sockets no machine of two cores has the other end, so the fleet of 100,000 is made of devices
without a socket, of which the server knows, keeps and indexes the same. ``.in_process`` figures are those, and the
routing of consumers is measured with that fleet: over HTTP, and in process.

``loop_block_ms`` is the longest time for which the event loop was held: lateness of a tick each millisecond, but no
more than the processor time of the process meanwhile, for this core may be busy with others.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from footprint import call, wait_for
from harness import Figure, arguments, publish
from load import population
from load.consumers import Consumers, Seen
from load.parts import Part, many_files

BIN = Path(sys.executable).parent
HOST, PORT, BARE_PORT = "127.0.0.1", 22550, 22560
OBJECT_BYTES = 2048
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORE = CORES[-1], CORES[0]

SESSION_KIB_MAX = 24
HEARTBEAT_US_MAX = 150
HEARTBEAT_OVER_BARE_MAX = 1.36
"""150 ÷ 110, what the goal is above a bare WebSocket where both were first measured."""
ROUTE_P99_MS_MAX = 2
ROUTE_PER_S_MIN = 3000
LOOP_BLOCK_MS_MAX = 20
PLACEMENT_S_MAX = 5
GROWTH_MAX = 1.3
STEADY_S = 35
"""Until connections have sent their second heartbeat and what a start leaves is gone."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done. ``cadence_s``: of heartbeats over sockets."""

    sessions: int
    registry: int
    objects: int
    cadence_s: int
    settle_s: float
    window_s: float
    route_s: float
    small: int = 1000
    large: int = 100_000
    beats: int = 20_000


FULL = Size(10_000, 100_000, 1000, 30, 35, 60, 10)
QUICK = Size(1000, 10_000, 50, 6, 2, 6, 2, large=10_000, beats=4000)


@dataclass(slots=True)
class Bench:
    """Figures as they are found, and the world that they are found in."""

    size: Size
    work: Path
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    objects: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, goal: str = "", met: bool | None = None, **more: Any) -> None:
        low, high = more.get("low", value), more.get("high", value)
        self.figures.append(Figure(name, value, unit, low, high, goal, met, more.get("against", "")))
        # A whole run takes ten minutes: what is known is told at once.
        print(f"{name} {value:.4g} {unit}", file=sys.stderr, flush=True)

    def at_most(self, name: str, value: float, unit: str, limit: float, **more: Any) -> None:
        self.add(name, value, unit, f"<= {limit}", value <= limit, **more)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{PORT}"

    def server(self) -> Part:
        """Starts it, and gives it when it answers."""
        part = Part("server", str(self.work / "state"), str(PORT), core=SERVER_CORE, log=self.work / "server.log")
        wait_for("the server", lambda: call("GET", f"{self.url}/v1/health"))
        return part

    def devices(self, port: int = PORT) -> Part:
        ids = json.dumps([object_id for object_id, _ in self.objects])
        return Part(
            "devices", HOST, str(port), ids, str(self.size.cadence_s), core=OTHER_CORE, log=self.work / "devices.log"
        )

    def consumers(self) -> Consumers:
        return Consumers((HOST, PORT), self.objects)


# ------------------------------------------------------------------ the world


def prepare(bench: Bench) -> None:
    """A state directory with the registry, an account that pays, and its objects."""
    state = bench.work / "state"
    init = (str(BIN / "fallow-server"), "init", "--state-dir", str(state))
    told = subprocess.run(init, capture_output=True, text=True, check=True).stdout
    operator = next(line.strip() for line in told.splitlines() if line.strip().startswith("fa_"))
    population.register(state / "scheduler.sqlite", bench.size.registry)
    with bench.server():
        publisher = call("POST", f"{bench.url}/v1/accounts", {"role": "publisher", "name": "scale"}, operator)
        deposit, ledger = {"publisher": publisher["id"], "micro_points": 10**15}, f"http://{HOST}:{PORT + 1}"
        wait_for("the ledger", lambda: call("POST", f"{ledger}/v1/deposits", deposit, operator, "scale"))
        for number in range(bench.size.objects):
            name = f"object-{number}.bin"
            # No copies are asked for: those that devices have are what is measured.
            address = f"{bench.url}/v1/objects?name={name}&replicas=0"
            upload = urllib.request.Request(address, os.urandom(OBJECT_BYTES), method="POST")
            upload.add_header("Authorization", f"Bearer {publisher['token']}")
            with urllib.request.urlopen(upload, timeout=60) as response:
                bench.objects.append((json.loads(response.read())["id"], name))


# ------------------------------------------------------------------ over sockets


def connect(bench: Bench, server: Part, devices: Part) -> float:
    """All of them; gives the processor time of the server for each, dial-back included."""
    used = server.processor_s()
    devices.ask("add", count=bench.size.sessions)
    devices.ask("all", within_s=300)
    reachable(bench, server)
    return (server.processor_s() - used) / bench.size.sessions


def reachable(bench: Bench, server: Part) -> None:
    """Wait until all have answered a dial-back."""
    wait_for("the dial-backs", lambda: server.ask("counts")["reachable"] == bench.size.sessions, 300)


def beaten(server: Part, devices: Part, window_s: float) -> float:
    """Processor time of the server for each heartbeat over the window, s."""
    before, used = devices.ask("counts"), server.processor_s()
    time.sleep(window_s)
    return (server.processor_s() - used) / (devices.ask("counts")["heartbeats"] - before["heartbeats"])


def dialled(bench: Bench, server: Part, devices: Part, heartbeat_s: float) -> float:
    """Processor time of the server for one dial-back, less that of the heartbeats meanwhile, s."""
    before, used = devices.ask("counts"), server.processor_s()
    count = server.ask("dial_back", count=bench.size.sessions // 4)
    wait_for("the dial-backs", lambda: devices.ask("counts")["dial_backs"] >= before["dial_backs"] + count, 120)
    beats = devices.ask("counts")["heartbeats"] - before["heartbeats"]
    return (server.processor_s() - used - beats * heartbeat_s) / count


def over_sockets(bench: Bench) -> None:
    size, against = bench.size, f"{bench.size.sessions} sessions"
    with bench.server() as server, bench.devices() as devices:
        empty_kib = server.resident_kib()
        bench.notes.append(f"Without a device the server keeps {empty_kib / 1024:.0f} MiB.")
        server.ask("watch")
        bench.add("connect_us", connect(bench, server, devices) * 1e6, "µs", against="with one dial-back")
        blocks(bench, "arriving", server.ask("blocks"))
        time.sleep(size.settle_s)
        heartbeat_us = beaten(server, devices, size.window_s) * 1e6
        session_kib = (server.resident_kib() - empty_kib) / size.sessions
        bench.add("dial_back_us", dialled(bench, server, devices, heartbeat_us / 1e6) * 1e6, "µs", against="each 300 s")
        asyncio.run(bench.consumers().at_rate(50, 1))  # until the ledger has lent what the first ones wait for
        server.ask("watch")
        seen = asyncio.run(bench.consumers().at_rate(200, size.route_s))
        blocks(bench, "steady", server.ask("blocks"))
        routed(bench, "route_p99_ms.beside_sessions", seen, None)
        storm(bench, server, devices)
    session_bare_kib, heartbeat_bare_us = bare(bench)
    bench.at_most("session_kib", session_kib, "KiB", SESSION_KIB_MAX, against=against)
    bench.add("session_kib.bare", session_bare_kib, "KiB")
    bench.at_most("heartbeat_us", heartbeat_us, "µs", HEARTBEAT_US_MAX, against=f"every {size.cadence_s} s")
    bench.add("heartbeat_us.bare", heartbeat_bare_us, "µs")
    bench.at_most(
        "heartbeat_over_bare",
        heartbeat_us / heartbeat_bare_us,
        "ratio",
        HEARTBEAT_OVER_BARE_MAX,
        against="bare aiohttp",
    )


def bare(bench: Bench) -> tuple[float, float]:
    """Memory and processor time of the peer, KiB and µs."""
    log = bench.work / "bare.log"
    with Part("bare", str(BARE_PORT), core=SERVER_CORE, log=log) as server, bench.devices(BARE_PORT) as devices:
        server.ask("ready")
        empty_kib = server.resident_kib()
        devices.ask("add", count=bench.size.sessions)
        devices.ask("all", within_s=300)
        time.sleep(bench.size.settle_s)
        # Nothing of the peer's runs once a minute.
        heartbeat_s = beaten(server, devices, bench.size.window_s / 2)
        return (server.resident_kib() - empty_kib) / bench.size.sessions, heartbeat_s * 1e6


def storm(bench: Bench, server: Part, devices: Part) -> None:
    """The server dies without a word, and starts again at once."""
    server.end(signal.SIGKILL)
    wait_for("the devices' loss", lambda: devices.ask("counts")["connected"] == 0)
    began = time.monotonic()
    with bench.server() as again:
        started = time.monotonic()
        again.ask("watch")
        devices.ask("all", within_s=300)
        bench.add("storm_s", time.monotonic() - started, "s", against="from the first answer to the last device back")
        bench.notes.append(f"The server answered {started - began:.1f} s after it was started again.")
        blocks(bench, "storm", again.ask("blocks"))
        reachable(bench, again)
        bench.add("storm_s.reachable", time.monotonic() - started, "s", against="and to the last dial-back")
        counts = again.ask("counts")
        lost = bench.size.sessions - min(counts["connected"], counts["reporting"], counts["holding"])
        bench.at_most("storm_lost_devices", lost, "devices", 0)


def blocks(bench: Bench, case: str, told: dict[str, Any]) -> None:
    longest = told["longest_s"][0] * 1000
    bench.at_most(f"loop_block_ms.{case}", longest, "ms", LOOP_BLOCK_MS_MAX, low=told["longest_s"][-1] * 1000)
    bench.notes.append(
        f"{case}: {told['over_20ms']} blocks over 20 ms; garbage by generation at most "
        + ", ".join(f"{value * 1000:.1f}" for value in told["garbage_s"]) + " ms"
    )  # fmt: skip


def routed(bench: Bench, name: str, seen: Seen, limit: float | None) -> None:
    ordered = sorted(seen.latencies_s)
    value = ordered[-(-len(ordered) * 99 // 100) - 1] * 1000
    share = seen.redirected / len(ordered)
    if seen.failed:
        raise SystemExit(f"{name}: {seen.failed} requests of {len(ordered)} failed")
    goal, met = ("", None) if limit is None else (f"<= {limit}", value <= limit)
    bench.add(name, value, "ms", goal, met, against=f"wall time; {share:.0%} redirected", low=ordered[0] * 1000)


# ------------------------------------------------------------------ in process


def in_process(bench: Bench) -> None:
    size, ids = bench.size, [object_id for object_id, _ in bench.objects]
    with bench.server() as server:
        cost: dict[int, dict[str, list[float]]] = {}
        for count in (size.small, size.large):
            before_kib, before = server.resident_kib(), server.ask("counts")["connected"]
            filled = server.ask("fill", upto=count, objects=ids)
            kib = (server.resident_kib() - before_kib) / (count - before)
            time.sleep(2)
            routes = server.ask("routes", count=size.beats, objects=bench.objects)
            cost[count] = {"heartbeat": server.ask("heartbeats", count=size.beats), "route": routes["rounds"]}
            bench.notes.append(
                f"{count} devices: {kib:.1f} KiB each, {filled['processor_s'] / (count - before) * 1e6:.0f} µs to come"
            )
        asyncio.run(bench.consumers().flat_out(1))  # warms
        used = server.processor_s()
        seen = asyncio.run(bench.consumers().flat_out(size.route_s))
        each = (server.processor_s() - used) / len(seen.latencies_s)
        bench.add(
            "route_per_s",
            1 / each,
            "1/s",
            f">= {ROUTE_PER_S_MIN}",
            1 / each >= ROUTE_PER_S_MIN,
            against=f"over HTTP, {size.large} devices, by processor time",
        )
        server.ask("watch")
        seen = asyncio.run(bench.consumers().at_rate(300, size.route_s))
        routed(bench, "route_p99_ms", seen, ROUTE_P99_MS_MAX)
        blocks(bench, "routing", server.ask("blocks"))
        server.ask("watch")
        walks = server.ask("walks")
        blocks(bench, "walks", server.ask("blocks"))
        bench.notes.append(f"All devices looked at: {walks}")
        server.ask("want", objects=bench.objects)
        server.ask("watch")
        made = server.ask("place")
        bench.at_most("placement_s", made["seconds"], "s", PLACEMENT_S_MAX, against="one core for all; wall time")
        bench.notes.append(f"Placed: {made}")
        blocks(bench, "placing", server.ask("blocks"))
    p99_ms = routes["p99"] * 1000
    bench.at_most("route_p99_ms.in_process", p99_ms, "ms", ROUTE_P99_MS_MAX, against="processor time, without HTTP")
    for name in ("heartbeat", "route"):
        values = [value * 1e6 for value in cost[size.large][name]]
        spread = {"low": min(values), "high": max(values)}
        bench.add(f"{name}_us.in_process", statistics.median(values), "µs", against=f"{size.large} devices", **spread)
        base = statistics.median(cost[size.small][name]) * 1e6
        spread = {"low": min(values) / base, "high": max(values) / base}
        bench.at_most(
            f"growth.{name}", statistics.median(values) / base, "ratio", GROWTH_MAX,
            against=f"{size.large} ÷ {size.small} devices", **spread,
        )  # fmt: skip


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--part", choices=("sockets", "process"), action="append", help="measure only this part")
    options = parser.parse_args()
    parts = options.part or ["sockets", "process"]
    many_files()
    os.sched_setaffinity(0, {OTHER_CORE})
    bench = Bench(QUICK if options.quick else FULL, Path(tempfile.mkdtemp(prefix="fallow-scale-")))
    try:
        prepare(bench)
        if "sockets" in parts:
            over_sockets(bench)
        if "process" in parts:
            in_process(bench)
    except BaseException:
        for log in bench.work.glob("*.log"):
            print(f"--- {log.name}", log.read_text()[-3000:], sep="\n", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    publish("scale", bench.figures, quick=options.quick, notes=bench.notes)


if __name__ == "__main__":
    main()
