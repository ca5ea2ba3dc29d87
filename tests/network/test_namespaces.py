"""A home across network namespaces: a phone on the LAN, the device between, the internet behind.

What no loopback test can show: the WAN does not reach port M, a dormant device sends nothing, mDNS is found from
another host, and a consumer on the internet is served on the service port.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import call, hosts, inside, marks, names, run, until

pytestmark = marks("curl")

BIN = Path(sys.executable).parent
PHONE, HOME, ISP = NAMESPACES = names("phone", "home", "isp")
LAN_URL = "http://192.168.77.1:32556"
WAN_ADDRESS, ISP_ADDRESS = "198.51.100.2", "198.51.100.1"
LINKS = (
    (PHONE, "phone0", "192.168.77.2/24", HOME, "lan0", "192.168.77.1/24"),
    (HOME, "wan0", f"{WAN_ADDRESS}/24", ISP, "isp0", f"{ISP_ADDRESS}/24"),
)
MEASURED = "45.90.28.1"
"""An address that looks public; here the provider has it."""
SCHEDULER, LEDGER = f"http://{ISP_ADDRESS}:32550", f"http://{ISP_ADDRESS}:32551"


def sent_on_wan() -> int:
    return int(run(HOME, "cat", "/sys/class/net/wan0/statistics/tx_packets"))


@pytest.fixture
def home() -> Iterator[None]:
    """``phone`` –LAN– ``home`` –WAN– ``isp``, with IPv6 off so that every packet counted is somebody's."""
    with hosts(NAMESPACES, LINKS):
        run(HOME, "ip", "route", "add", "default", "via", ISP_ADDRESS)
        run(PHONE, "ip", "route", "add", "default", "via", "192.168.77.1")
        run(ISP, "ip", "route", "add", "192.168.77.0/24", "via", WAN_ADDRESS)
        run(ISP, "ip", "address", "add", f"{MEASURED}/32", "dev", "lo")
        # What the home's name server says, to programs that are started there.
        names_of_home = Path("/etc/netns", HOME)
        names_of_home.mkdir(parents=True)
        (names_of_home / "hosts").write_text("127.0.0.1 localhost\n192.168.77.2 inside.example\n")
        yield
        shutil.rmtree(names_of_home)


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


def start_agent(start: Callable[..., Any], tmp_path: Path) -> str:
    """A dormant agent at home; gives its setup code."""
    state = str(tmp_path / "agent")
    flags = ("--lan-interface", "lan0", "--up-mbps", "20", "--down-mbps", "100", "--advertise-address", WAN_ADDRESS)
    # The tests' other programs must not make the device step back.
    start(HOME, str(BIN / "fallow-agent"), "run", "--state-dir", state, *flags, FALLOW_PROCESS_SPARE_PERCENT_MIN="0")
    until(lambda: call(PHONE, "GET", f"{LAN_URL}/v1/device")[0] == 200)
    return run(HOME, str(BIN / "fallow-agent"), "setup-code", "--state-dir", state).strip().splitlines()[-1]


def test_port_m_is_for_the_lan_and_a_dormant_device_is_silent(
    home: None, processes: Callable[..., Any], tmp_path: Path
) -> None:
    start_agent(processes, tmp_path)
    found = json.loads(run(PHONE, str(BIN / "fallow"), "devices", "--json"))
    assert [device["url"] for device in found] == [LAN_URL]
    assert call(PHONE, "GET", f"{LAN_URL}/v1/activation") == (200, {"state": "dormant"})
    assert sent_on_wan() == 0

    for url in (f"http://{WAN_ADDRESS}:32556/v1/device", f"{LAN_URL}/v1/device"):
        status, problem = call(ISP, "GET", url)
        assert status in (403, 421), problem
    forged = call(ISP, "GET", f"http://{WAN_ADDRESS}:32556/v1/device", Host="192.168.77.1:32556")
    assert (forged[0], forged[1]["type"]) == (403, "not-lan")
    rebound = call(PHONE, "GET", f"{LAN_URL}/v1/device", Host="evil.example")
    assert (rebound[0], rebound[1]["type"]) == (421, "wrong-host")
    assert call(ISP, "GET", f"http://{WAN_ADDRESS}:32557/v1/dial-back/{'n' * 20}")[0] == 0


@pytest.mark.skipif(shutil.which("avahi-daemon") is None, reason="needs avahi-daemon, to share port 5353 with it")
def test_mdns_shares_its_port_with_avahi(home: None, processes: Callable[..., Any], tmp_path: Path) -> None:
    configuration = tmp_path / "avahi.conf"
    configuration.write_text(
        "[server]\nhost-name=router\nenable-dbus=no\nuse-ipv6=no\nallow-interfaces=lan0\n"
        "[publish]\npublish-workstation=yes\npublish-hinfo=no\n"
    )
    avahi = ("avahi-daemon", "--no-drop-root", "--no-rlimits", "--no-chroot", "--no-proc-title")
    # A daemon of its own: without this mount namespace it would take the machine's pid file.
    mounts = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && mkdir -p /run/avahi-daemon && exec "$@"')
    responder = processes(HOME, *mounts, "sh", *avahi, "--file", str(configuration))
    until(lambda: "5353" in run(HOME, "ss", "-Hlun"))
    start_agent(processes, tmp_path)
    found = json.loads(run(PHONE, str(BIN / "fallow"), "devices", "--json"))
    assert [device["url"] for device in found] == [LAN_URL]
    assert responder.poll() is None
    assert run(HOME, "ss", "-Hlunp").count("5353") >= 2


def test_from_the_phone_to_a_consumer_on_the_internet(
    home: None, processes: Callable[..., Any], tmp_path: Path
) -> None:
    server = str(BIN / "fallow-server")
    flags = ("--state-dir", str(tmp_path / "server"), "--scheduler-url", SCHEDULER, "--ledger-url", LEDGER,
             "--allow-private-addresses")  # fmt: skip
    told = run(ISP, server, "init", *flags)
    operator = next(word for word in told.split() if word.startswith("fa_"))
    # Nor may they make the scheduler take the device for busy.
    settings = tmp_path / "server.toml"
    settings.write_text("[tasks.filters]\nspare_percent_min = 0\n")
    processes(ISP, server, "run", *flags, "--config", str(settings))
    until(lambda: call(ISP, "GET", f"{SCHEDULER}/v1/health")[0] == 200)

    def account(role: str) -> dict[str, str]:
        status, made = call(ISP, "POST", f"{SCHEDULER}/v1/accounts", {"role": role, "name": role}, operator)
        assert status == 201, made
        return dict(made)

    owner, publisher = account("owner"), account("publisher")

    def deposit() -> bool:
        # The ledger hears of the account from the scheduler, a moment later.
        body = {"publisher": publisher["id"], "micro_points": 10**9}
        return call(ISP, "POST", f"{LEDGER}/v1/deposits", body, operator, Idempotency_Key="1")[0] == 201

    until(deposit)
    code = start_agent(processes, tmp_path)
    claim = call(ISP, "POST", f"{SCHEDULER}/v1/claims", {}, owner["token"])[1]["claim_token"]
    activation = {"scheduler": SCHEDULER, "claim_token": claim, "setup_code": code,
                  "consent": {"terms_version": "1", "accepted": True}}  # fmt: skip
    status, answer = call(PHONE, "POST", f"{LAN_URL}/v1/activation", activation)
    assert status == 202, answer
    until(lambda: call(PHONE, "GET", f"{LAN_URL}/v1/activation")[1]["state"] == "active")

    content = tmp_path / "file.bin"
    content.write_bytes(os.urandom(3 * 2**20 + 7))
    upload = ["curl", "-sS", "-H", f"Authorization: Bearer {publisher['token']}", "--data-binary", f"@{content}",
              f"{SCHEDULER}/v1/objects?name=file.bin&replicas=1"]  # fmt: skip
    stored = json.loads(run(ISP, *upload))
    device = call(PHONE, "GET", f"{LAN_URL}/v1/device")[1]["device_id"]

    def redirect() -> str:
        return run(ISP, "curl", "-sS", "-o", "/dev/null", "-w", "%{redirect_url}", stored["url"])

    location = until(redirect)
    assert location.startswith(f"http://{WAN_ADDRESS}:32557/o/{stored['id']}/")
    run(ISP, "curl", "-sSL", "--fail", "-o", str(tmp_path / "fetched"), stored["url"])
    assert (tmp_path / "fetched").read_bytes() == content.read_bytes()

    def settled() -> int:
        held = call(ISP, "GET", f"{LEDGER}/v1/accounts/{owner['id']}", token=owner["token"])[1]["held"]
        return int(held)

    # Legacy weight: half of the rate of 1 point per GiB, and a tenth of that before any audit.
    assert until(settled) == content.stat().st_size * 10**6 * 50 // (2**30 * 1000)
    shown = call(PHONE, "GET", f"{LAN_URL}/v1/points", token=answer["lan_token"])
    assert shown[0] == 200
    assert device.startswith("fd-")

    check_probes(processes, tmp_path, publisher["token"])
    status, _ = call(PHONE, "POST", f"{LAN_URL}/v1/pause", {}, answer["lan_token"])
    assert status == 200
    refused = call(ISP, "GET", location)
    assert (refused[0], refused[1]["type"]) in ((403, "ticket-spent"), (503, "paused"))


def check_probes(start: Callable[..., Any], tmp_path: Path, token: str) -> None:
    """The device measures what is on the internet, and touches nothing at home, whatever a name says."""
    for namespace, name in ((ISP, "measured"), (PHONE, "inside")):
        folder = tmp_path / name
        folder.mkdir()
        start(namespace, sys.executable, "-m", "http.server", "8080", "--directory", str(folder))
        until(lambda namespace=namespace: "8080" in run(namespace, "ss", "-Hltn"))

    def probe(target: str) -> tuple[int, Any]:
        body = {"kind": "probe", "replicas": 1, "parameters": {"test": "http", "target": target, "count": "2"}}
        return call(ISP, "POST", f"{SCHEDULER}/v1/tasks", body, token)

    def task_of(made: dict[str, Any], what: str = "") -> Any:
        return call(ISP, "GET", f"{SCHEDULER}/v1/tasks/{made['id']}{what}", token=token)[1]

    status, problem = probe("http://192.168.77.2:8080/")
    assert (status, problem["type"]) == (400, "malformed")
    status, made = probe(f"http://{MEASURED}:8080/")
    assert status == 201, made
    until(lambda: task_of(made)["state"] == "done")
    (result,) = task_of(made, "/results")
    assert [attempt["status"] for attempt in result["attempts"]] == [200, 200]
    assert result["attempts"][0]["addresses"] == [MEASURED]

    # The scheduler has no name server and lets it pass; the device asks its own.
    status, made = probe("http://inside.example:8080/")
    assert status == 201, made
    (placement,) = until(lambda: [p for p in task_of(made)["placements"] if p["state"] == "failed"])
    assert "not public, or is at this home" in placement["reason"]
    asked = [line for file in tmp_path.glob("process-*.log") for line in file.read_text("utf-8", "replace").splitlines()
             if '"GET / HTTP' in line]  # fmt: skip
    assert [line.split()[0] for line in asked] == [WAN_ADDRESS] * 2, "somebody else was asked, or somebody else asked"
