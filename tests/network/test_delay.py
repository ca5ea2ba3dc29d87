"""Round-trip times and packet trains over real ICMP, across network namespaces with a shaped line.

device – router ===== provider – scheduler
 (LAN)    (home)  line
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from fallow_agent.clock import Clock
from fallow_agent.line import train
from fallow_agent.line.delay_probe import DelayProbe
from namespaces import WAIT_S, hosts, inside, marks, names, run

pytestmark = marks("tc")

DEVICE, HOME, ISP, SCHEDULER = NAMESPACES = names("device", "home", "isp", "scheduler")
ROUTER, PROVIDER, TARGET = "192.168.77.1", "100.64.0.1", "198.18.0.2"
LINKS = (
    (DEVICE, "lan1", "192.168.77.2/24", HOME, "lan0", f"{ROUTER}/24"),
    (HOME, "line0", "100.64.0.2/24", ISP, "isp0", f"{PROVIDER}/24"),
    (ISP, "isp1", "198.18.0.1/24", SCHEDULER, "sched0", f"{TARGET}/24"),
)
LOAD_BPS = 30_000_000
UNPRIVILEGED = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
unprivileged = pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")


# ------------------------------------------------------------------ what runs on the device


async def watch() -> None:
    """Tell each reading as a line of JSON; ends with standard input."""
    probe = DelayProbe(lambda: TARGET, Clock())
    probe.active(True)
    running = asyncio.get_running_loop().create_task(probe.run())
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ended.done():
        tell(probe)
        await asyncio.wait([ended], timeout=0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    tell(probe)
    probe.close()


def tell(probe: DelayProbe) -> None:
    print(json.dumps(dataclasses.asdict(probe.reading) | {"wire_bytes": probe.wire_bytes()}), flush=True)


async def measure() -> None:
    """Tell what a few trains say; a busy computer spoils some of those that are sent in a day."""
    train.SPACING_S = 0.0  # type: ignore[misc]
    probe = DelayProbe(lambda: TARGET, Clock())
    end = time.monotonic() + WAIT_S
    while probe.trains.bps is None and probe.trains.due(time.monotonic()) and time.monotonic() < end:
        await probe.step()
        await probe.train(lambda: (0, 0))
        await asyncio.sleep(0.05)
    print(json.dumps({"bps": probe.trains.bps, "spoilt": probe.trains.spoilt}))
    probe.close()


def load() -> None:
    """More UDP than the line carries, until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        started_at, sent = time.monotonic(), 0
        while True:
            with contextlib.suppress(OSError):  # nobody listens there, and says so
                sock.sendto(bytes(1400), (TARGET, 9))
            sent += 1442
            time.sleep(max(0.0, sent * 8 / LOAD_BPS - (time.monotonic() - started_at)))


# ------------------------------------------------------------------ the world around it


@pytest.fixture
def home() -> Iterator[None]:
    """All namespaces, routed; ping sockets are allowed."""
    with hosts(NAMESPACES, LINKS):
        for namespace in NAMESPACES:
            run(namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.ping_group_range=0 2147483647")
        for namespace, net, gateway in (
            (DEVICE, "default", ROUTER),
            (HOME, "default", PROVIDER),
            (ISP, "192.168.77.0/24", "100.64.0.2"),
            (SCHEDULER, "default", "198.18.0.1"),
        ):
            run(namespace, "ip", "route", "add", net, "via", gateway)
        yield


@contextlib.contextmanager
def started(namespace: str, what: str, *wrap: str) -> Iterator[subprocess.Popen[str]]:
    command = inside(namespace, *wrap, sys.executable, __file__, what)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def until(lines: IO[str] | None, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first reading that is wanted."""
    assert lines is not None
    end, last = time.monotonic() + WAIT_S, None
    for line in lines:
        last = json.loads(line)
        if wanted(last):
            return dict(last)
        if time.monotonic() > end:
            break
    raise AssertionError(f"not in time; the last was {last}")


def shape(namespace: str, device: str, *qdisc: str) -> None:
    run(namespace, "tc", "qdisc", "replace", "dev", device, "root", *qdisc)


def tbf(mbps: int, *, buffer_ms: int = 200, burst_bytes: int = 5000) -> tuple[str, ...]:
    limit = mbps * 1_000_000 // 8 * buffer_ms // 1000 + burst_bytes
    return ("tbf", "rate", f"{mbps}mbit", "burst", str(burst_bytes), "limit", str(limit))


@pytest.mark.parametrize("group_range", ["0 2147483647", "1 0"], ids=["ping-socket", "raw-socket"])
def test_a_queue_on_the_line_is_seen_and_its_end_too(home: None, group_range: str) -> None:
    run(DEVICE, "sysctl", "-qw", f"net.ipv4.ping_group_range={group_range}")
    shape(HOME, "line0", *tbf(20))
    with started(DEVICE, "watch") as watching:
        idle = until(watching.stdout, lambda found: found["lan_queueing_ms"] is not None)
        assert (idle["hop"], idle["reason"]) == (PROVIDER, "")
        with started(DEVICE, "load"):
            loaded = until(watching.stdout, lambda found: (found["queueing_ms"] or 0) > 100)
            assert loaded["lan_queueing_ms"] < 100, "the queue is on the line, not in the home"
        until(watching.stdout, lambda found: found["queueing_ms"] is not None and found["queueing_ms"] < 10)


def test_a_queue_in_the_home_is_not_the_lines(home: None) -> None:
    shape(DEVICE, "lan1", *tbf(2, buffer_ms=1000))
    with started(DEVICE, "watch") as watching, started(DEVICE, "load"):
        found = until(watching.stdout, lambda found: (found["lan_queueing_ms"] or 0) > 100)
        assert found["rtt_ms"] > 100
        until(watching.stdout, lambda found: found["lan_queueing_ms"] > 100 > 10 * found["queueing_ms"])


def test_a_provider_without_echo_is_seen_by_expiry(home: None) -> None:
    for namespace in (ISP, SCHEDULER):
        run(namespace, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    shape(HOME, "line0", *tbf(20))
    with started(DEVICE, "watch") as watching:
        until(watching.stdout, lambda found: found["hop"] == PROVIDER and found["queueing_ms"] is not None)
        with started(DEVICE, "load"):
            until(watching.stdout, lambda found: (found["queueing_ms"] or 0) > 100)


def test_every_byte_is_counted_as_the_interface_counts_it(home: None) -> None:
    def carried() -> tuple[int, int]:
        at = "/sys/class/net/lan1/statistics/"
        sent, received = run(DEVICE, "cat", f"{at}tx_bytes", f"{at}rx_bytes").split()
        return int(sent), int(received)

    before = carried()
    with started(DEVICE, "watch") as watching:
        until(watching.stdout, lambda found: found["wire_bytes"][0] > 5000)
        assert watching.stdin is not None
        watching.stdin.close()
        *_, last = watching.stdout or ()
        watching.wait(WAIT_S)
    own, seen = json.loads(last)["wire_bytes"], [now - then for now, then in zip(carried(), before, strict=True)]
    # Besides, the neighbours are asked for their addresses, and a last echo may have been under way.
    for counted, real in zip(own, seen, strict=True):
        assert abs(real - counted) <= 600


@unprivileged
def test_without_permission_it_is_said_and_nothing_fails(home: None) -> None:
    run(DEVICE, "sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    with started(DEVICE, "watch", *UNPRIVILEGED) as watching:
        found = until(watching.stdout, lambda found: bool(found["reason"]))
        assert "ping_group_range" in found["reason"]
        assert found["queueing_ms"] is None


@unprivileged
def test_no_privilege_is_needed_where_ping_sockets_are_allowed(home: None) -> None:
    with started(DEVICE, "watch", *UNPRIVILEGED) as watching:
        until(watching.stdout, lambda found: found["queueing_ms"] is not None)


@pytest.mark.parametrize("mbps", [5, 20, 100])
@pytest.mark.parametrize("shaper", ["tbf", "tbf-bursty", "htb"])
def test_trains_measure_the_line(home: None, mbps: int, shaper: str) -> None:
    if shaper == "htb":
        shape(HOME, "line0", "handle", "1:", "htb", "default", "1")
        run(HOME, *f"tc class add dev line0 parent 1: classid 1:1 htb rate {mbps}mbit quantum 1514".split())
    else:
        shape(HOME, "line0", *tbf(mbps, burst_bytes=5000 if shaper == "tbf" else 12_000))
    with started(DEVICE, "measure") as measuring:
        assert measuring.stdout is not None
        found = json.loads(measuring.stdout.readline())
    assert found["bps"] == pytest.approx(mbps * 1_000_000, rel=0.15), found


def test_a_line_that_is_too_fast_is_not_guessed(home: None) -> None:
    with started(DEVICE, "measure") as measuring:
        assert measuring.stdout is not None
        found = json.loads(measuring.stdout.readline())
    assert found["bps"] is None
    assert "too fast" in found["spoilt"]


if __name__ == "__main__":
    match sys.argv[1]:
        case "watch":
            asyncio.run(watch())
        case "measure":
            asyncio.run(measure())
        case "load":
            load()
