"""A crowd: many consumers want the same object at once. Homes, consumers and one origin in network namespaces.

The origin has 20 Mbit/s up, each of 20 homes 10 Mbit/s, and 60 consumers (50 down, 2 up) want the same 27 MB. In the
case ``placed`` each home holds a copy since the quiet hours, in ``cold`` only the origin does. All consumers are
started, wait, and are released at one instant, so that no program's start is measured. Compared in the same run: nginx
on the origin alone; BitTorrent by transmission, with the origin as web seed, where consumers upload too; Fallow with
``fallow fetch`` and with aria2 by Metalink.

``p95_over_bound``: completion of the 57th of 60, by the time in which the origin and the homes, all full all the time,
could have sent what all consumers got; a cold object must reach the homes too, once. ``origin_share``: bytes that left
the origin from the release on, with all headers, by bytes that consumers got.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from harness import Figure, arguments, publish
from lab.fallow import Device, Place, Server
from lab.network import GATEWAY_LAN, SERVER_HOST, Home, Line, Network, missing_programs, sweep
from lab.processes import Part, Processes, until
from lab.swarm import TRACKER_PORT, peer_command, torrent
from lab.town import ORIGIN_DOWN_MBPS, Guest, add_origin, add_town, clear, sent_bytes, usage_note
from lab.watch import Watch

PLACED, COLD = "placed", "cold"
NGINX, BITTORRENT, FETCH, METALINK = "nginx", "bittorrent", "fetch", "aria2"
NAMES = {
    NGINX: "nginx alone",
    BITTORRENT: "BitTorrent (transmission)",
    FETCH: "fallow fetch",
    METALINK: "Fallow, aria2 by Metalink",
}
PROGRAMS = {
    NGINX: {"nginx": "nginx-light", "curl": "curl"},
    BITTORRENT: {"nginx": "nginx-light", "transmission-cli": "transmission-cli"},
    METALINK: {"aria2c": "aria2"},
    FETCH: {},
}
"""What each needs, and the Debian packages."""
WEB_PORT = 8080
BUFFER_MS = 100
WIRE = 1514 / 1448
"""Bytes on the wire for each byte of content: the headers of Ethernet, IPv4 and TCP with time stamps."""
TICKET_IDLE_S = 120
"""As servers have it: a consumer of many devices comes back to each after a while."""
SETTLE_S = 2.0
"""Between two crowds: queues are empty then, and heartbeats have told that the lines are idle."""
AGENT_PROCESS = "nice = 0\n"
"""A home's device has a processor of its own. Here it must read its counters in time beside all consumers, or takes its
own bytes for the household's."""

NGINX_SETTINGS = """
worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/nginx.err;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {work}/nginx; proxy_temp_path {work}/nginx; fastcgi_temp_path {work}/nginx;
    uwsgi_temp_path {work}/nginx; scgi_temp_path {work}/nginx;
    server {{ listen {port}; root {web}; }}
}}
"""


HOME, GUEST = Line(10, 100, BUFFER_MS), Line(2, 50, BUFFER_MS)


@dataclass(frozen=True, slots=True)
class Plan:
    """Rates in Mbit/s. ``nginx_s``: after so long the origin alone is stopped, and its completion projected."""

    homes: int = 20
    guests: int = 60
    size: int = 27_000_000
    origin_up: int = 20
    home: Line = HOME
    guest: Line = GUEST
    nginx_s: float = 30
    seconds_max: float = 300

    def bound_s(self, case: str, *, guests_upload: bool = False) -> float:
        """No distribution by TCP completes before: all that can send is full all the time.

        A consumer's own line, and the one copy that a cold origin must send at least, are bounds too.
        """
        wire_mbit = self.size * 8 * WIRE / 1e6
        copies = self.guests + (case == COLD)
        up = self.origin_up + self.homes * self.home.up_mbps + guests_upload * self.guests * self.guest.up_mbps
        alone = wire_mbit / self.guest.down_mbps
        return max(copies * wire_mbit / up, alone, wire_mbit / self.origin_up if case == COLD else 0)

    def divided(self, by: int) -> Plan:
        """The same with fewer sites: each has to carry as much, and this computer less."""
        return replace(self, homes=self.homes // by, guests=self.guests // by, origin_up=max(1, self.origin_up // by))


FULL = Plan()
QUICK = Plan(homes=4, guests=12, size=5_000_000, origin_up=10, nginx_s=3, seconds_max=60)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one crowd. ``seconds``: of each consumer who has all, sorted; projected ones for nginx."""

    system: str
    case: str
    seconds: tuple[float, ...]
    guests: int
    intact: int
    origin_bytes: int
    got_bytes: int
    note: str

    def quantile_s(self, share: float) -> float:
        """Nearest rank; never, where too few have completed."""
        rank = math.ceil(share * self.guests)
        return self.seconds[rank - 1] if rank <= len(self.seconds) else math.inf

    @property
    def origin_share(self) -> float:
        return self.origin_bytes / max(1, self.got_bytes)


@dataclass(frozen=True, slots=True)
class Busy:
    """What this computer's processors have done: seconds busy and in all, of all cores."""

    busy: int
    total: int

    @classmethod
    def now(cls) -> Busy:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
        idle = ticks[3] + ticks[4]
        return cls(sum(ticks) - idle, sum(ticks))

    def share(self) -> float:
        """Busy since then."""
        now = Busy.now()
        return (now.busy - self.busy) / max(1, now.total - self.total)


class Town:
    """The network, and what runs in it all the time."""

    def __init__(self, plan: Plan, work: Path) -> None:
        self.plan, self.work = plan, work
        self.homes = [Home(number, plan.home) for number in range(plan.homes)]
        self.guests = [Guest(number, plan.guest) for number in range(plan.guests)]
        self.got, self.web = work / "got", work / "web"
        self._stack = ExitStack()
        for folder in (self.got, self.web, work / "nginx", *map(self.folder, self.guests)):
            folder.mkdir()

    def __enter__(self) -> Town:
        with self._stack:
            self.network = self._stack.enter_context(Network())
            add_origin(self.network, self.plan.origin_up, BUFFER_MS)
            add_town(self.network, self.homes, self.guests)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def shape_origin(self, up_mbps: int) -> None:
        self.network.shape("core", "wan0", up_mbps, BUFFER_MS)

    def make_content(self, name: str) -> Path:
        """Bytes that nobody has seen yet, and nobody can compress."""
        path = self.web / name
        path.write_bytes(random.Random(name).randbytes(self.plan.size))
        return path

    def release(
        self, system: str, case: str, content: Path, commands: Sequence[list[str]], crowd: Part, began: float
    ) -> Outcome:
        """Let the crowd go and see what becomes of it. :param began: monotonic s of when its start began."""
        started_s = time.monotonic() - began
        time.sleep(SETTLE_S)
        origin, homes = sent_bytes(self.network, "core"), [
            sent_bytes(self.network, home.name("house")) for home in self.homes
        ]  # fmt: skip
        at, busy = time.monotonic(), Busy.now()
        with Watch(self.network, self.homes) as watch:
            told = crowd.ask(True)
        lasted = time.monotonic() - at
        watch.write(self.work / f"lines-{system}-{case}.log")
        note = f"homes' lines used to {usage_note(self.network, self.homes, homes, lasted)}, {lasted:.0f} s in all"
        note += f", tenth by tenth {watch.note()}"
        note += f"; this computer was busy to {busy.share():.0%}, the consumers took {told['cpu_s']:.0f} s of that"
        origin_bytes = sent_bytes(self.network, "core") - origin
        wanted = hashlib.sha256(content.read_bytes()).digest()
        seconds, intact, got = [], 0, 0
        for guest, (took, code) in zip(self.guests, told["members"], strict=True):
            path = self.folder(guest) / content.name
            have = path.stat().st_size if path.exists() else 0
            got += have
            if system == NGINX and code != 0 and have:
                seconds.append(took * self.plan.size / have)
            elif code == 0 and have == self.plan.size:
                intact += hashlib.sha256(path.read_bytes()).digest() == wanted
                seconds.append(took)
        if system != NGINX and len(seconds) < len(commands):
            note += f", {len(commands) - len(seconds)} did not complete"
        note += f"; the crowd took {started_s:.0f} s to start"
        return Outcome(system, case, tuple(sorted(seconds)), len(commands), intact, origin_bytes, got, note)

    def crowd(
        self, system: str, case: str, content: Path, commands: Sequence[list[str]], limit_s: float = 0
    ) -> Outcome:
        """One crowd from its start to its end. Each command is a consumer's."""
        members = [
            {
                "namespace": self.network.path(guest.name),
                "command": command,
                "log": str(self.work / f"{guest.name}.log"),
            }
            for guest, command in zip(self.guests, commands, strict=True)
        ]
        spec = self.work / f"crowd-{system}-{case}.json"
        spec.write_text(json.dumps({"members": members, "seconds_max": limit_s or self.plan.seconds_max}))
        began = time.monotonic()
        with Processes(self.network, self.work) as processes:
            crowd = processes.part(None, "crowd", str(spec))
            crowd.hear()
            outcome = self.release(system, case, content, commands, crowd, began)
        for guest in self.guests:
            clear(self.folder(guest))
        return outcome

    def folder(self, guest: Guest) -> Path:
        return self.got / guest.name


# ------------------------------------------------------------------ the systems


def run_nginx(town: Town, case: str) -> Outcome:
    content = town.make_content("nginx.bin")
    url = f"http://{SERVER_HOST}:{WEB_PORT}/{content.name}"
    commands = [["curl", "-sS", "-o", str(town.folder(guest) / content.name), url] for guest in town.guests]
    with Processes(town.network, town.work) as processes:
        serve_web(town, processes)
        return town.crowd(NGINX, case, content, commands, town.plan.nginx_s)


def serve_web(town: Town, processes: Processes) -> None:
    settings = town.work / "nginx.conf"
    settings.write_text(NGINX_SETTINGS.format(work=town.work, web=town.web, port=WEB_PORT))
    processes.start("core", "nginx", "-p", str(town.work), "-c", str(settings))
    url = f"http://{SERVER_HOST}:{WEB_PORT}/"
    probe = town.network.inside("core", "curl", "-s", "-o", "/dev/null", url)
    until("nginx", lambda: runs(probe))


def runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run_bittorrent(town: Town, case: str) -> Outcome:
    """Homes seed, or join when the crowd does and stay; consumers leave when they have it."""
    content = town.make_content(f"swarm-{case}.bin")
    described, host = town.work / f"{content.name}.torrent", f"http://{SERVER_HOST}"
    tracker, web_seed = f"{host}:{TRACKER_PORT}/announce", f"{host}:{WEB_PORT}/{content.name}"
    described.write_bytes(torrent(content, tracker, web_seed))
    commands = [peer_command(town.work, guest.name, town.folder(guest), described) for guest in town.guests]
    with Processes(town.network, town.work) as processes:
        serve_web(town, processes)
        processes.part("core", "track")
        for home in town.homes:
            folder = town.work / f"seed{home.number}"
            folder.mkdir(exist_ok=True)
            if case == PLACED:
                shutil.copy(content, folder / content.name)
            house = home.name("house")
            processes.start(house, *peer_command(town.work, house, folder, described, stay=True))
        return town.crowd(BITTORRENT, case, content, commands)


class Fallow:
    """Server and devices, for as long as the block lasts."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self._processes = Processes(town.network, town.work)

    def __enter__(self) -> Fallow:
        began = time.monotonic()
        self.server = Server(self.town.network, self._processes, self.town.work, TICKET_IDLE_S)
        self.devices = [
            Device(
                self.town.network, self._processes, self.town.work, home,
                Place(home.name("house"), GATEWAY_LAN, "lan0"), self.server, AGENT_PROCESS,
            )
            for home in self.town.homes
        ]  # fmt: skip
        tell(f"{len(self.devices)} devices are connected after {time.monotonic() - began:.0f} s")
        self._placed = 0
        return self

    def __exit__(self, *error: object) -> None:
        self._processes.__exit__(*error)

    def run(self, system: str, case: str) -> Outcome:
        town = self.town
        content = town.make_content(f"{system}-{case}.bin")
        began, sent = time.monotonic(), sent_bytes(town.network, "core")
        if case == PLACED:
            town.shape_origin(ORIGIN_DOWN_MBPS)  # the quiet hours are long; here they are short
        url = self.server.publish(content, replicas=len(self.devices) if case == PLACED else 0)
        note = ""
        if case == PLACED:
            self._placed += 1
            for device in self.devices:
                device.wait_filled(self._placed)
            mb = (sent_bytes(town.network, "core") - sent) / 1e6
            note = f"; placed in {time.monotonic() - began:.0f} s with {mb:.0f} MB from the origin"
            town.shape_origin(town.plan.origin_up)
        outputs = [str(town.folder(guest) / content.name) for guest in town.guests]
        commands = [self._command(system, url, output) for output in outputs]
        outcome = town.crowd(system, case, content, commands)
        return Outcome(**{**{name: getattr(outcome, name) for name in outcome.__slots__}, "note": outcome.note + note})

    def _command(self, system: str, url: str, output: str) -> list[str]:
        if system == FETCH:
            return ["fallow", "fetch", url, "-o", output, "--quiet"]
        many = ("--split=16", "--min-split-size=1M", "--max-connection-per-server=1", "--follow-metalink=mem")
        folder = str(Path(output).parent)
        return ["aria2c", "--quiet", "--file-allocation=none", *many, "-d", folder, f"{url}.meta4"]


# ------------------------------------------------------------------ figures


def figures_of(plan: Plan, outcomes: Sequence[Outcome]) -> list[Figure]:
    """Each system's times and shares, with the goals for ``fallow fetch``. Pure."""
    found = []
    by = {(one.system, one.case): one for one in outcomes}
    for one in outcomes:
        name = f"{one.case}_{one.system}"
        first, last = (one.seconds[0], one.seconds[-1]) if one.seconds else (math.inf, math.inf)
        found += [
            Figure(f"completion_p50_s.{name}", one.quantile_s(0.5), "s", first, last),
            Figure(f"completion_p95_s.{name}", one.quantile_s(0.95), "s", first, last),
        ]
        if one.system == NGINX:
            continue
        share, goal = one.origin_share, one.system == FETCH
        found.append(Figure(f"intact.{name}", one.intact, "consumers", one.intact, one.intact, f">= {one.guests}",
                            one.intact >= one.guests))  # fmt: skip
        found.append(
            Figure(f"origin_share.{name}", share, "share", share, share, "<= 0.10" * goal,
                   share <= 0.10 if goal else None)
        )  # fmt: skip
        bound = plan.bound_s(one.case)
        over = one.quantile_s(0.95) / bound
        found.append(
            Figure(f"p95_over_bound.{name}", over, "ratio", first / bound, last / bound, "<= 1.25" * goal,
                   over <= 1.25 if goal else None, f"{bound:.1f} s")
        )  # fmt: skip
        peer = by.get((BITTORRENT, one.case))
        if peer is not None and one.system != BITTORRENT:
            ratio = one.quantile_s(0.95) / peer.quantile_s(0.95)
            found.append(
                Figure(f"p95_over_bittorrent.{name}", ratio, "ratio", ratio, ratio, "< 1" * goal,
                       ratio < 1 if goal else None, NAMES[BITTORRENT])
            )  # fmt: skip
    return found


def tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def end(*_: object) -> None:
    """Leave by way of all clean-up, which a second request may not interrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit("ended")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--case", nargs="+", choices=(PLACED, COLD), default=(PLACED, COLD), help="only these")
    parser.add_argument("--system", nargs="+", choices=NAMES, help="only these; with --quick nginx and fetch")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy logs to this folder")
    parser.add_argument("--divide", type=int, default=1, metavar="N", help="a N-th of homes, consumers, origin's line")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL.divided(max(1, options.divide))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if lacking := missing_programs():
        raise SystemExit(f"crowd: {lacking}")
    systems = []
    for system in options.system or ((NGINX, FETCH) if options.quick else tuple(NAMES)):
        lacking = missing_programs(PROGRAMS[system])
        if lacking:
            print(f"{NAMES[system]} is left out: {lacking}")
        else:
            systems.append(system)
    sweep()
    # In memory: each home has a disk of its own, and here they would all wait for one.
    work = Path(tempfile.mkdtemp(prefix="fallow-crowd-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    work.chmod(0o755)  # nginx's worker runs as another user
    try:
        outcomes = run(plan, work, systems, options.case)
        show(plan, outcomes, options.quick)
    finally:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            for path in work.glob("*.log"):
                shutil.copy(path, options.keep)
        shutil.rmtree(work, ignore_errors=True)


def run(plan: Plan, work: Path, systems: Sequence[str], cases: Sequence[str]) -> list[Outcome]:
    outcomes = []
    with Town(plan, work) as town:
        tell(f"{plan.homes} homes and {plan.guests} consumers are connected")
        if NGINX in systems:
            outcomes.append(run_nginx(town, "origin"))
            tell(f"{NGINX}: {outcomes[-1].note}")
        for case in cases:
            if BITTORRENT in systems:
                outcomes.append(run_bittorrent(town, case))
                tell(f"{BITTORRENT}, {case}: {outcomes[-1].note}")
        ours = [system for system in (FETCH, METALINK) if system in systems]
        if ours:
            with Fallow(town) as fallow:
                for case in cases:
                    for system in ours:
                        outcomes.append(fallow.run(system, case))
                        tell(f"{system}, {case}: {outcomes[-1].note}")
    return outcomes


def show(plan: Plan, outcomes: Sequence[Outcome], quick: bool) -> None:
    notes = [f"{NAMES[one.system]}, {one.case}: {one.note}." for one in outcomes]
    for case in dict.fromkeys(one.case for one in outcomes if one.system != NGINX):
        free = plan.bound_s(case, guests_upload=True)
        notes.append(f"{case}: bound {plan.bound_s(case):.1f} s; {free:.1f} s if consumers uploaded all they can.")
    if any(one.system == NGINX for one in outcomes):
        notes.append(f"nginx alone was stopped after {plan.nginx_s:.0f} s, and its completion projected.")
    publish("crowd", figures_of(plan, outcomes), quick=quick, notes=notes)


if __name__ == "__main__":
    main()
