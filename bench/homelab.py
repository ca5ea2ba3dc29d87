"""Does the household notice? A home, its line and the internet in network namespaces, with the real programs.

    house – home – modem ===== isp – consumer
            agent        20M    |
                              sink

``home`` is the gateway, with the agent on it; ``modem`` is what its counters cannot see into: the line is shaped there
by tbf, once with a deep buffer and once with a shallow one. ``isp`` has the server. A consumer downloads from the
device, through the scheduler's redirect; the household's upload is a plain TCP sender in ``house`` to ``sink``.
Counters of interfaces are read every 10 ms: what we sent, before the modem; what the household got, behind the line.

``yield_ms``: from the upload's first byte until what we send is, over the next 100 ms, at most 10 % of the capacity.
``household_ratio``: bytes that the upload got in its time, by those of an upload just after it without a consumer.
``idle_used_ratio``: our rate on the idle line, by 85 % of the capacity. ``own_cpu_share``: of one core, meanwhile.

Needs root. There is no delay on the internet here and no address translation: the home's network is routed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import math
import os
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fallow_agent.line.budget import USABLE_SHARE, YIELD_SHARE
from harness import Figure, arguments, publish

BIN = Path(sys.executable).parent
HOUSE, HOME, MODEM, ISP, CONSUMER, SINK = NAMESPACES = tuple(
    f"fallow-lab-{os.getpid()}-{name}" for name in ("house", "home", "modem", "isp", "consumer", "sink")
)
LAN_URL = "http://192.168.77.1:32556"
DEVICE, SERVER, SINK_HOST, SINK_PORT = "198.51.100.2", "198.18.0.1", "192.0.2.2", 9000
SCHEDULER, LEDGER = f"http://{SERVER}:32550", f"http://{SERVER}:32551"
LINKS = (
    (HOUSE, "lan1", "192.168.77.2/24", HOME, "lan0", "192.168.77.1/24"),
    (HOME, "wan0", f"{DEVICE}/30", MODEM, "home0", "198.51.100.1/30"),
    (MODEM, "line0", "198.18.0.2/30", ISP, "isp0", f"{SERVER}/30"),
    (CONSUMER, "con1", "203.0.113.2/24", ISP, "con0", "203.0.113.1/24"),
    (SINK, "sink1", f"{SINK_HOST}/24", ISP, "sink0", "192.0.2.1/24"),
)
ROUTES = (
    *((HOUSE, "default", "192.168.77.1"), (HOME, "default", "198.51.100.1"), (MODEM, "default", SERVER)),
    *((CONSUMER, "default", "203.0.113.1"), (SINK, "default", "192.0.2.1")),
    *((MODEM, "192.168.77.0/24", DEVICE), (ISP, "192.168.77.0/24", "198.18.0.2")),
    (ISP, "198.51.100.0/30", "198.18.0.2"),
)
UP_MBPS, DOWN_MBPS = 20, 100
BUFFERS_MS = {"deep": 500, "shallow": 50}
OBJECT_BYTES = 64 * 2**20
SAMPLE_S = 0.010
WINDOW_S = 0.100
"""Our rate has gone down where it stays so for so long: a single sample may fall between two packets."""
WAIT_S = 60
SETTINGS = """
[policy]
ticket_idle_s = 3

# All programs share this computer: that it is busy says nothing of the device.
[tasks.filters]
spare_percent_min = 0

[delivery.filters]
spare_percent_min = 0
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds: until Fallow uses the line again, of an upload, between uploads, of the idle line's measurement."""

    onsets: int
    recovery_s: float
    upload_s: float
    pause_s: float
    idle_s: float
    buffers: tuple[str, ...]


FULL = Plan(onsets=20, recovery_s=6, upload_s=6, pause_s=1, idle_s=20, buffers=("deep", "shallow"))
QUICK = Plan(onsets=5, recovery_s=3.5, upload_s=1.5, pause_s=0.5, idle_s=3, buffers=("deep",))


# ------------------------------------------------------------------ what runs inside of the namespaces


def consume(url: str) -> None:
    """Download from the device again and again between the lines ``on`` and ``off``."""
    wanted = threading.Event()

    def download() -> None:
        while True:
            wanted.wait()
            with contextlib.suppress(OSError, http.client.HTTPException):
                asked = urlsplit(url)
                origin = http.client.HTTPConnection(asked.netloc, timeout=5)
                origin.request("GET", asked.path)
                location = origin.getresponse().getheader("Location", "")
                origin.close()
                # What the origin gives does not pass the line, and would be taken for ours.
                if urlsplit(location).hostname == DEVICE:
                    take(location)
            time.sleep(0.3)

    def take(location: str) -> None:
        parts = urlsplit(location)
        device = http.client.HTTPConnection(parts.netloc, timeout=60)
        device.request("GET", f"{parts.path}?{parts.query}")
        assert device.sock is not None
        device.sock.settimeout(0.1)
        with contextlib.closing(device):
            response_bytes = 1
            while response_bytes and wanted.is_set():
                try:
                    response_bytes = len(device.sock.recv(65536))
                except TimeoutError:
                    pass  # we are being held back; look whether we are to stop

    threading.Thread(target=download, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "on":
            wanted.set()
        else:
            wanted.clear()


def upload() -> None:
    """Send between the lines ``on`` and ``off``; tells when the first byte went."""
    stop = threading.Event()

    def send(connection: socket.socket) -> None:
        data = bytes(65536)
        with contextlib.suppress(OSError):
            while not stop.is_set():
                connection.sendall(data)

    for line in sys.stdin:
        if line.strip() != "on":
            continue
        stop.clear()
        connection = socket.create_connection((SINK_HOST, SINK_PORT), timeout=10)
        # What is queued at the end is thrown away.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sending = threading.Thread(target=send, args=(connection,))
        print(time.monotonic(), flush=True)
        sending.start()
        sys.stdin.readline()
        stop.set()
        connection.settimeout(0)
        sending.join()
        connection.close()


def take_all() -> None:
    def drain(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while connection.recv(2**20):
                pass

    with socket.create_server(("", SINK_PORT)) as listener:
        while True:
            threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()


def sample(path: str, *counters: str) -> None:
    """Write the time and the counters, such as ``wan0/tx``, every 10 ms until killed."""
    names = (counter.split("/") for counter in counters)
    files = [os.open(f"/sys/class/net/{name}/statistics/{way}_bytes", os.O_RDONLY) for name, way in names]
    due = time.monotonic()
    with Path(path).open("w", buffering=1) as out:
        while True:
            found = " ".join(str(int(os.pread(file, 32, 0))) for file in files)
            out.write(f"{time.monotonic():.4f} {found}\n")
            due = max(due + SAMPLE_S, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))


PARTS: dict[str, Callable[..., None]] = {"consume": consume, "upload": upload, "take-all": take_all, "sample": sample}


# ------------------------------------------------------------------ the laboratory


def run(namespace: str, *command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def call(namespace: str, method: str, url: str, body: Any = None, token: str = "", key: str = "") -> Any:
    """The JSON answer, by curl from inside of a namespace; None when there is none, or a refusal."""
    command = ["curl", "-sS", "--fail", "--max-time", "10", "-X", method, url]
    for header in (f"Authorization: Bearer {token}" * bool(token), f"Idempotency-Key: {key}" * bool(key)):
        command += ["-H", header] if header else []
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(["ip", "netns", "exec", namespace, *command], capture_output=True, text=True, check=False)
    return json.loads(done.stdout or "{}") if done.returncode == 0 else None


def until(what: str, probe: Any) -> Any:
    """Look until ``probe`` gives something; other processes cannot wake us."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {WAIT_S} s")


@contextlib.contextmanager
def namespaces() -> Iterator[None]:
    try:
        for namespace in NAMESPACES:
            subprocess.run(["ip", "netns", "add", namespace], check=True)
            off = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
            run(namespace, "sysctl", "-qw", *off, "net.ipv4.ip_forward=1")
            run(namespace, "ip", "link", "set", "lo", "up")
        for left, near, near_address, right, far, far_address in LINKS:
            link = ("ip", "link", "add", near, "netns", left, "type", "veth", "peer", "name", far, "netns", right)
            subprocess.run(link, check=True)
            for namespace, name, address in ((left, near, near_address), (right, far, far_address)):
                # Packets as they are on a real wire, and so counted with all their headers.
                run(namespace, "ip", "link", "set", name, "gso_max_segs", "1")
                run(namespace, "ip", "address", "add", address, "dev", name)
                run(namespace, "ip", "link", "set", name, "up")
        for namespace, to, gateway in ROUTES:
            run(namespace, "ip", "route", "add", to, "via", gateway)
        run(ISP, "tc", "qdisc", "add", "dev", "isp0", "root", "tbf", "rate", f"{DOWN_MBPS}mbit", "burst", "64k",
            "latency", "50ms")  # fmt: skip
        yield
    finally:
        for namespace in NAMESPACES:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def shape(buffer_ms: int) -> None:
    run(MODEM, "tc", "qdisc", "replace", "dev", "line0", "root", "tbf", "rate", f"{UP_MBPS}mbit", "burst", "16k",
        "latency", f"{buffer_ms}ms")  # fmt: skip


class Lab:
    """The processes, and what they say."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.sent, self.got = work / "sent", work / "got"
        self._started: list[subprocess.Popen[str]] = []
        self.agent_pid = 0
        self.lan_token = ""

    def start(self, namespace: str, *command: str) -> subprocess.Popen[str]:
        log = (self.work / f"process-{len(self._started)}.log").open("w")
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if "--part" in command else log,
            stderr=log,
            text=True,
            bufsize=1,
        )
        self._started.append(process)
        return process

    def part(self, namespace: str, name: str, *values: str) -> subprocess.Popen[str]:
        return self.start(namespace, sys.executable, __file__, "--part", name, *values)

    def stop(self) -> None:
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()

    def set_up(self) -> None:
        """Server, an activated device that holds an object, and everybody else."""
        server, agent = str(BIN / "fallow-server"), str(BIN / "fallow-agent")
        settings, content = self.work / "server.toml", self.work / "film.bin"
        settings.write_text(SETTINGS)
        flags = ("--config", str(settings), "--state-dir", str(self.work / "server"), "--scheduler-url", SCHEDULER,
                 "--ledger-url", LEDGER, "--allow-private-addresses")  # fmt: skip
        operator = next(word for word in run(ISP, server, "init", *flags).split() if word.startswith("fa_"))
        self.start(ISP, server, "run", *flags)
        state = str(self.work / "agent")
        # The household's programs run on this machine too; at home they have processors of their own.
        alone = ("env", "FALLOW_PROCESS_SPARE_PERCENT_MIN=0")
        self.agent_pid = self.start(HOME, *alone, agent, "run", "--state-dir", state, "--lan-interface", "lan0",
                                    "--up-mbps", str(UP_MBPS), "--down-mbps", str(DOWN_MBPS),
                                    "--advertise-address", DEVICE).pid  # fmt: skip
        until("the server", lambda: call(ISP, "GET", f"{SCHEDULER}/v1/health") is not None)
        until("the agent", lambda: call(HOUSE, "GET", f"{LAN_URL}/v1/device"))
        accounts = f"{SCHEDULER}/v1/accounts"
        owner, publisher = (
            call(ISP, "POST", accounts, {"role": role, "name": role}, operator) for role in ("owner", "publisher")
        )
        deposit = {"publisher": publisher["id"], "micro_points": 10**12}
        until("the deposit", lambda: call(ISP, "POST", f"{LEDGER}/v1/deposits", deposit, operator, "1"))
        claim = call(ISP, "POST", f"{SCHEDULER}/v1/claims", {}, owner["token"])
        activation = {
            "scheduler": SCHEDULER,
            "claim_token": claim["claim_token"],
            "setup_code": run(HOME, agent, "setup-code", "--state-dir", state).strip().splitlines()[-1],
            "consent": {"terms_version": "1", "accepted": True},
            "limits": {"upload_percent_max": 100},
        }
        self.lan_token = call(HOUSE, "POST", f"{LAN_URL}/v1/activation", activation)["lan_token"]
        until("the session", lambda: self.status()["uplink"]["connected"])
        content.write_bytes(os.urandom(OBJECT_BYTES))
        upload = ("curl", "-sS", "--fail", "-H", f"Authorization: Bearer {publisher['token']}", "--data-binary",
                  f"@{content}", f"{SCHEDULER}/v1/objects?name=film.bin&replicas=1")  # fmt: skip
        url = json.loads(run(ISP, *upload))["url"]
        until("the fill", lambda: self.status()["content"]["objects"])
        content.unlink()
        self.part(SINK, "take-all")
        self.part(HOME, "sample", str(self.sent), "wan0/tx", "lan0/rx")
        self.part(ISP, "sample", str(self.got), "con0/tx", "sink0/tx")
        self.upload = self.part(HOUSE, "upload")
        self.consumer = self.part(CONSUMER, "consume", url)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = call(HOUSE, "GET", f"{LAN_URL}/v1/status", token=self.lan_token)
        return found

    def say(self, to: subprocess.Popen[str], word: str) -> None:
        assert to.stdin is not None
        to.stdin.write(f"{word}\n")

    def bulk(self, seconds: float) -> float:
        """The household uploads for so long. :returns: when it began."""
        self.say(self.upload, "on")
        assert self.upload.stdout is not None
        onset = float(self.upload.stdout.readline())
        time.sleep(seconds)
        self.say(self.upload, "off")
        return onset

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.agent_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    own_bytes: int
    household_bytes: int


def read_samples(sent: Path, got: Path) -> tuple[list[Sample], list[Sample]]:
    """Before the modem, and behind the line. What leaves the home and did not come from the house is ours."""
    rows = [[line.split() for line in path.read_text().splitlines()] for path in (sent, got)]
    before = [Sample(float(at), int(wan) - int(lan), int(lan)) for at, wan, lan in rows[0]]
    return before, [Sample(float(at), int(own), int(household)) for at, own, household in rows[1]]


def between(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    return [found for found in samples if start <= found.at <= end]


def yield_ms(samples: Sequence[Sample], onset: float, upload_s: float) -> float:
    """See the module; the upload's whole time where we never yielded."""
    seen = between(samples, onset - SAMPLE_S, onset + upload_s)
    ahead = int(WINDOW_S / SAMPLE_S)
    for first, last in zip(seen, seen[ahead:], strict=False):
        rate_bps = (last.own_bytes - first.own_bytes) * 8 / (last.at - first.at)
        if rate_bps <= YIELD_SHARE * UP_MBPS * 1e6:
            return max(0.0, (first.at - onset) * 1000)
    return upload_s * 1000


def household_mbps(samples: Sequence[Sample], onset: float, seconds: float) -> float:
    seen = between(samples, onset, onset + seconds)
    return (seen[-1].household_bytes - seen[0].household_bytes) * 8 / (seen[-1].at - seen[0].at) / 1e6


def own_mbps(samples: Sequence[Sample], start: float, end: float) -> float:
    seen = between(samples, start, end)
    return (seen[-1].own_bytes - seen[0].own_bytes) * 8 / (seen[-1].at - seen[0].at) / 1e6


def measure(lab: Lab, plan: Plan, case: str) -> tuple[list[Figure], str]:
    """One buffer depth: the idle line first, then pairs of uploads, with and without a consumer."""
    lab.say(lab.consumer, "on")
    time.sleep(5)
    began, cpu = time.monotonic(), lab.cpu_s()
    time.sleep(plan.idle_s)
    idle_ended, cpu_share = time.monotonic(), (lab.cpu_s() - cpu) / (time.monotonic() - began)
    yields_before = lab.status()["today"]["yields"]
    shared, alone = [], []
    for _ in range(plan.onsets):
        # At any moment of the agent's steps.
        time.sleep(plan.recovery_s + random.random() * 0.2)
        shared.append(lab.bulk(plan.upload_s))
        lab.say(lab.consumer, "off")
        time.sleep(plan.pause_s)
        alone.append(lab.bulk(plan.upload_s))
        time.sleep(plan.pause_s)
        lab.say(lab.consumer, "on")
    yields = lab.status()["today"]["yields"] - yields_before
    lab.say(lab.consumer, "off")
    sent, got = read_samples(lab.sent, lab.got)

    before = [own_mbps(sent, onset - 1, onset) for onset in shared]
    times = sorted(yield_ms(sent, onset, plan.upload_s) for onset in shared)
    behind = sorted(yield_ms(got, onset, plan.upload_s) for onset in shared)
    rates = [[household_mbps(got, onset, plan.upload_s) for onset in onsets] for onsets in (shared, alone)]
    ratios = sorted(ours / without for ours, without in zip(*rates, strict=True))
    used = [own_mbps(sent, at, at + 1) / (USABLE_SHARE * UP_MBPS) for at in range(int(began) + 1, int(idle_ended))]
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    median, idle = statistics.median(ratios), statistics.fmean(used)
    low_ms, high_ms, low, high = times[0], times[-1], ratios[0], ratios[-1]
    against = "without sharing"
    p50 = statistics.median(times)
    figures = [
        Figure(f"yield_p50_ms.{case}", p50, "ms", low_ms, high_ms, "<= 200", p50 <= 200),
        Figure(f"yield_p95_ms.{case}", p95, "ms", low_ms, high_ms, "<= 500", p95 <= 500),
        Figure(f"household_ratio_median.{case}", median, "ratio", low, high, ">= 0.98", median >= 0.98, against),
        Figure(f"household_ratio_worst.{case}", low, "ratio", low, high, ">= 0.95", low >= 0.95, against),
        Figure(f"idle_used_ratio.{case}", idle, "ratio", min(used), max(used), ">= 0.90", idle >= 0.90),
        Figure(f"own_cpu_share.{case}", cpu_share, "cores", cpu_share, cpu_share, "<= 0.05", cpu_share <= 0.05),
    ]
    note = (
        f"{case}: {plan.onsets} onsets, the agent counted {yields} yields; our rate in the second before an onset was "
        f"{min(before):.1f} to {max(before):.1f} Mbit/s; behind the modem it was down after {behind[0]:.0f} to "
        f"{behind[-1]:.0f} ms; an upload alone got {statistics.median(rates[1]):.1f} Mbit/s."
    )
    return figures, note


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--onsets", type=int, help="per case, instead of 20")
    parser.add_argument("--buffer", choices=BUFFERS_MS, action="append", help="only this depth; may be repeated")
    parser.add_argument("--keep", type=Path, help="copy samples and logs to this folder")
    options = parser.parse_args()
    if options.part:
        with contextlib.suppress(KeyboardInterrupt):
            PARTS[options.part[0]](*options.part[1:])
        return
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc", "curl"))):
        raise SystemExit("homelab needs root, to make network namespaces, and ip, tc and curl")
    plan = QUICK if options.quick else FULL
    plan = dataclasses.replace(plan, onsets=options.onsets or plan.onsets)
    work = Path(tempfile.mkdtemp(prefix="fallow-homelab-"))
    lab = Lab(work)
    figures: list[Figure] = []
    notes = ["Shaped by the kernel's tbf; no delay on the internet, so uploads find their speed at once."]
    try:
        with namespaces():
            try:
                lab.set_up()
                for name in options.buffer or plan.buffers:
                    shape(BUFFERS_MS[name])
                    found, note = measure(lab, plan, f"up{UP_MBPS}_{name}")
                    figures += found
                    notes.append(note)
            finally:
                lab.stop()
    finally:
        if options.keep:
            shutil.copytree(work, options.keep, dirs_exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
    publish("homelab", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
