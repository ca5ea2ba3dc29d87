"""A speed test over a shaped line: ``home`` (the device, the home's router) – ``modem`` – ``server``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import call, hosts, inside, marks, names, run, until

pytestmark = marks("tc", "curl")

BIN = Path(sys.executable).parent
HOME, MODEM, ISP = NAMESPACES = names("home", "modem", "server")
LINKS = (
    (HOME, "wan0", "198.51.101.2/24", MODEM, "modem0", "198.51.101.1/24"),
    (MODEM, "line0", "198.51.100.2/24", ISP, "isp0", "198.51.100.1/24"),
)
SCHEDULER, LEDGER = "http://198.51.100.1:32550", "http://198.51.100.1:32551"
DEVICE = "http://127.0.0.1:32556"
UP_BPS, DOWN_BPS = 20_000_000, 60_000_000
HOUSEHOLD_BPS = 6_000_000
TOLERANCE = 0.15

# Datagrams at an even pace, to where nobody listens: a camera of the home.
HOUSEHOLD = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
at = time.monotonic()
while True:
    sock.sendto(bytes(1200), ("198.51.100.1", 9))
    at += 1242 * 8 / int(sys.argv[1])
    time.sleep(max(0, at - time.monotonic()))
"""


def shape(namespace: str, device: str, bps: int) -> None:
    """A queue of 200 ms in front of so much."""
    limits = ("rate", f"{bps}bit", "burst", "5000", "limit", str(bps // 8 // 5 + 5000))
    run(namespace, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *limits)


@pytest.fixture
def line() -> Iterator[None]:
    with hosts(NAMESPACES, LINKS, ipv6=True):
        run(MODEM, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run(HOME, "ip", "route", "add", "default", "via", "198.51.101.1")
        run(ISP, "ip", "route", "add", "default", "via", "198.51.100.2")
        shape(MODEM, "line0", UP_BPS)
        shape(ISP, "isp0", DOWN_BPS)
        yield


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(namespace: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"process-{len(started)}.log").open("wb")
        process = subprocess.Popen(inside(namespace, *command), stdout=log, stderr=log, env=os.environ | environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(20)


def activated(start: Callable[..., Any], tmp_path: Path) -> str:
    """A server, and an active device that was told nothing of its line; gives the lan token."""
    server, agent = str(BIN / "fallow-server"), str(BIN / "fallow-agent")
    flags = ("--state-dir", str(tmp_path / "server"), "--scheduler-url", SCHEDULER, "--ledger-url", LEDGER)
    operator = next(word for word in run(ISP, server, "init", *flags).split() if word.startswith("fa_"))
    start(ISP, server, "run", *flags)
    until(lambda: call(ISP, "GET", f"{SCHEDULER}/v1/health")[0] == 200)
    owner = call(ISP, "POST", f"{SCHEDULER}/v1/accounts", {"role": "owner", "name": "owner"}, operator)[1]
    claim = call(ISP, "POST", f"{SCHEDULER}/v1/claims", {}, owner["token"])[1]["claim_token"]
    state = ("--state-dir", str(tmp_path / "agent"))
    start(HOME, agent, "run", *state, FALLOW_PROCESS_SPARE_PERCENT_MIN="0")
    until(lambda: call(HOME, "GET", f"{DEVICE}/v1/device")[0] == 200)
    code = run(HOME, agent, "setup-code", *state).strip().splitlines()[-1]
    consent = {"terms_version": "1", "accepted": True}
    activation = {"scheduler": SCHEDULER, "claim_token": claim, "setup_code": code, "consent": consent}
    status, answer = call(HOME, "POST", f"{DEVICE}/v1/activation", activation)
    assert status == 202, answer
    token = str(answer["lan_token"])
    until(lambda: "line" in status_of(token))
    return token


def status_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = call(HOME, "GET", f"{DEVICE}/v1/status", token=token)[1]
    return found


def measure(token: str, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and result of the owner's command."""
    command = inside(HOME, str(BIN / "fallow"), "speedtest", "--device", DEVICE, "--json")
    environ = {**os.environ, "FALLOW_LAN_TOKEN": token, "FALLOW_HOME": str(tmp_path / "client")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_line_is_measured(line: None, processes: Callable[..., Any], tmp_path: Path) -> None:
    code, found = measure(activated(processes, tmp_path), tmp_path)
    assert (code, found["household"], found["counts"]) == (0, "quiet", True)
    assert found["up_bps"] == pytest.approx(UP_BPS, rel=TOLERANCE)
    assert found["down_bps"] == pytest.approx(DOWN_BPS, rel=TOLERANCE)


def test_a_household_on_the_line_is_noticed(line: None, processes: Callable[..., Any], tmp_path: Path) -> None:
    token = activated(processes, tmp_path)
    processes(HOME, sys.executable, "-c", HOUSEHOLD, str(HOUSEHOLD_BPS))
    code, found = measure(token, tmp_path)
    assert (code, found["household"], found["counts"]) == (1, "used", False)
    assert found["up_bps"] < (UP_BPS - HOUSEHOLD_BPS) * (1 + TOLERANCE)
