"""What the agent costs the device: memory and processor time of the real program, activated and idle.

``agent_rss_mb`` is ``Rss`` of ``/proc/<pid>/smaps_rollup``, in MB of 10^6 bytes, after the settling time: it counts
every page that is mapped and present, shared libraries in full. ``private`` is what would come free if the process
ended; ``busy`` the highest Rss while an object is filled and then served, ``after`` the Rss soon after that.
``agent_cpu_share`` is user and system time over the window, as a share of one core. The agent is activated at a real
``fallow-server`` on this machine, connected, with mDNS on, and nobody looks at it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import Figure, arguments, publish

sys.path.insert(0, str(Path(__file__).parent.parent / "demo"))
from network import outward_interface

RSS_MB_MAX = 45
CPU_SHARE_MAX = 0.005
SCHEDULER, LEDGER, LAN, SERVICE = 21550, 21551, 21556, 21557
SETTLE_S, WINDOW_S = 20.0, 60.0
QUICK_SETTLE_S, QUICK_WINDOW_S = 10.0, 25.0
SAMPLES = 5
OBJECT_BYTES = 64 * 2**20
BIN = Path(sys.executable).parent
CODE = "AB01CD11"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "FALLOW_SETUP_CODE": CODE}
ENVIRONMENT["FALLOW_SERVER_CANARIES_INTERVAL_S"] = "0"  # idle is what is measured
ENVIRONMENT["FALLOW_PROCESS_SPARE_PERCENT_MIN"] = "0"  # the server and the consumer share the processor here
"""What a service manager gives. (A bundle of certificates named by SSL_CERT_FILE would be loaded whole: 2 MB.)"""


def call(method: str, url: str, body: Any = None, token: str | None = None, idempotency_key: str | None = None) -> Any:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if idempotency_key:
        request.add_header("Idempotency-Key", idempotency_key)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def wait_for(what: str, condition: Any, within_s: float = 30.0) -> Any:
    """Look until ``condition`` gives something; other processes cannot wake us."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except OSError:
            pass  # not there yet
        time.sleep(0.1)
    raise SystemExit(f"{what} did not come within {within_s:.0f} s")


@contextlib.contextmanager
def running(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def activate(operator: str) -> str:
    """Bind the agent to a new owner; gives the LAN token."""
    scheduler, lan = f"http://127.0.0.1:{SCHEDULER}", f"http://127.0.0.1:{LAN}"
    owner = call("POST", f"{scheduler}/v1/accounts", {"role": "owner", "name": "bench"}, operator)
    claim = call("POST", f"{scheduler}/v1/claims", {}, owner["token"])
    body = {
        "scheduler": scheduler,
        "claim_token": claim["claim_token"],
        "setup_code": CODE,
        "consent": {"terms_version": "1", "accepted": True},
    }
    token: str = call("POST", f"{lan}/v1/activation", body)["lan_token"]
    wait_for("the session", lambda: call("GET", f"{lan}/v1/status", token=token)["uplink"]["connected"])
    return token


def memory_mb(pid: int) -> dict[str, float]:
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024 / 1e6
    return found


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, settle_s: float, window_s: float) -> tuple[list[dict[str, float]], list[float]]:
    """Memory samples, and the processor's share in each part of the window."""
    time.sleep(settle_s)
    samples, shares = [], []
    for _ in range(SAMPLES):
        began, before = time.monotonic(), cpu_s(pid)
        time.sleep(window_s / SAMPLES)
        shares.append((cpu_s(pid) - before) / (time.monotonic() - began))
        samples.append(memory_mb(pid))
    return samples, shares


def busy_mb(pid: int, operator: str, lan_token: str, size: int) -> tuple[float, float]:
    """The highest memory while an object of ``size`` bytes is filled and served twice, and memory after it."""
    scheduler, peak = f"http://127.0.0.1:{SCHEDULER}", 0.0
    publisher = call("POST", f"{scheduler}/v1/accounts", {"role": "publisher", "name": "bench"}, operator)
    deposit = {"publisher": publisher["id"], "micro_points": 10**12}
    ledger = f"http://127.0.0.1:{LEDGER}"
    wait_for("the publisher at the ledger", lambda: call("POST", f"{ledger}/v1/deposits", deposit, operator, "bench"))
    upload = urllib.request.Request(f"{scheduler}/v1/objects?name=bench.bin", os.urandom(size), method="POST")
    upload.add_header("Content-Type", "application/octet-stream")
    upload.add_header("Authorization", f"Bearer {publisher['token']}")
    with urllib.request.urlopen(upload, timeout=60) as response:
        found = json.loads(response.read())
    call("POST", f"{scheduler}/v1/tasks", {"kind": "fill", "object": found["id"], "replicas": 1}, publisher["token"])

    def filled() -> bool:
        nonlocal peak
        peak = max(peak, memory_mb(pid)["Rss"])
        status = call("GET", f"http://127.0.0.1:{LAN}/v1/status", token=lan_token)
        return bool(status["content"]["objects"])

    wait_for("the fill", filled, 60)
    for _ in range(2):
        with urllib.request.urlopen(found["url"], timeout=60) as response:
            if urlsplit(response.url).port != SERVICE:
                raise SystemExit("the origin served what the device should have")
            while response.read(2**20):
                peak = max(peak, memory_mb(pid)["Rss"])
    time.sleep(3)
    return peak, memory_mb(pid)["Rss"]


def figure(name: str, values: list[float], unit: str, limit: float | None = None) -> Figure:
    value = sum(values) / len(values)
    goal, met = ("", None) if limit is None else (f"<= {limit}", value <= limit)
    return Figure(name, value, unit, min(values), max(values), goal, met)


@contextlib.contextmanager
def programs(work: Path) -> Iterator[tuple[int, str]]:
    """A server and a dormant agent, both of which answer; gives the agent's process and the operator's token."""
    server_flags = (
        *("--state-dir", str(work / "server"), "--host", "127.0.0.1", "--allow-private-addresses"),
        *("--scheduler-port", str(SCHEDULER), "--ledger-port", str(LEDGER)),
        *("--scheduler-url", f"http://127.0.0.1:{SCHEDULER}", "--ledger-url", f"http://127.0.0.1:{LEDGER}"),
    )
    interface = outward_interface()
    agent_flags = (
        # Without a LAN there is nobody to announce to, and the announcement would not be measured.
        *(("--lan-interface", interface) if interface else ()),
        *("--state-dir", str(work / "agent"), "--config", os.devnull, "--advertise-address", "127.0.0.1"),
        *("--lan-port", str(LAN), "--service-port", str(SERVICE), "--up-mbps", "1000"),
    )
    init = (str(BIN / "fallow-server"), "init", "--state-dir", str(work / "server"))
    told = subprocess.run(init, capture_output=True, text=True, check=True).stdout
    operator = next(line.strip() for line in told.splitlines() if line.strip().startswith("fa_"))
    server_program, agent_program = str(BIN / "fallow-server"), str(BIN / "fallow-agent")
    with (
        running(server_program, *server_flags, log=work / "server.log"),
        running(agent_program, *agent_flags, log=work / "agent.log") as agent,
    ):
        wait_for("the agent", lambda: call("GET", f"http://127.0.0.1:{LAN}/v1/device"))
        wait_for("the server", lambda: call("GET", f"http://127.0.0.1:{SCHEDULER}/v1/health"))
        yield agent.pid, operator


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    settle_s, window_s = (QUICK_SETTLE_S, QUICK_WINDOW_S) if options.quick else (SETTLE_S, WINDOW_S)
    work = Path(tempfile.mkdtemp(prefix="fallow-footprint-"))
    interface = outward_interface()
    try:
        with programs(work) as (pid, operator):
            dormant = memory_mb(pid)
            lan_token = activate(operator)
            samples, shares = measure(pid, settle_s, window_s)
            peak, after = busy_mb(pid, operator, lan_token, OBJECT_BYTES)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    figures = [
        figure("agent_rss_mb", [sample["Rss"] for sample in samples], "MB", RSS_MB_MAX),
        figure("agent_rss_mb.private", [sample["Private_Dirty"] + sample["Private_Clean"] for sample in samples], "MB"),
        figure("agent_rss_mb.pss", [sample["Pss"] for sample in samples], "MB"),
        figure("agent_rss_mb.anonymous", [sample["Anonymous"] for sample in samples], "MB"),
        figure("agent_rss_mb.busy", [peak], "MB"),
        figure("agent_rss_mb.after", [after], "MB"),
        figure("agent_rss_mb.dormant", [dormant["Rss"]], "MB"),
        figure("agent_cpu_share", shares, "cores", CPU_SHARE_MAX),
    ]
    publish(
        "footprint",
        figures,
        quick=options.quick,
        notes=[
            "Rss counts shared libraries in full; see the docstring.",
            f"mDNS on {interface}." if interface else "no interface with a route: mDNS was not running.",
        ],
    )


if __name__ == "__main__":
    main()
