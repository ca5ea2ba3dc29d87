"""Homes whose routers open the service port: miniupnpd on a real NAT, a scheduler that dials back, and a carrier's NAT.

The addresses are those of the public internet, in a network that has no way out: so the scheduler keeps all its guards.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import call, hosts, inside, marks, names, run, until

pytestmark = marks("curl", "nft", "miniupnpd")

BIN = Path(sys.executable).parent
PI, HOME, NET, FAR_PI, FAR_HOME, CARRIER = NAMESPACES = names("pi", "router", "net", "far-pi", "far-router", "carrier")
INTERNET, OUTSIDE = "11.22.33.1", "11.22.33.44"
ROUTER, OWN = "192.168.88.1", "192.168.88.2"
LINKS = (
    (PI, "eth0", f"{OWN}/24", HOME, "lan0", f"{ROUTER}/24"),
    (HOME, "wan0", f"{OUTSIDE}/24", NET, "isp0", f"{INTERNET}/24"),
    (FAR_PI, "eth0", f"{OWN}/24", FAR_HOME, "lan0", f"{ROUTER}/24"),
    (FAR_HOME, "wan0", "100.64.0.2/24", CARRIER, "cgn0", "100.64.0.1/24"),
    (CARRIER, "wan0", "11.22.44.44/24", NET, "isp1", "11.22.44.1/24"),
)
OWN6, ROUTER6 = "2a0e:1::2", "2a0e:1::1"
LINKS6 = (
    (PI, "eth0", OWN6),
    (HOME, "lan0", ROUTER6),
    (HOME, "wan0", "2a0e:2::2"),
    (NET, "isp0", "2a0e:2::1"),
)
NAME = "fallow.example.net"
SCHEDULER, LEDGER = f"http://{NAME}:32550", f"http://{NAME}:32551"
LAN_URL = f"http://{OWN}:32556"
NAT = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain input { type filter hook input priority 0; iifname "lan0" udp dport { 1900, 5351 } counter; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    iifname "lan0" accept
    jump miniupnpd
  }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting {
    type nat hook postrouting priority 100;
    meta nfproto ipv4 oifname "wan0" masquerade
    jump postrouting_miniupnpd
  }
}
"""
MINIUPNPD = """
ext_ifname=wan0
listening_ip=lan0
http_port=5000
enable_upnp=yes
enable_natpmp={natpmp}
secure_mode=yes
lease_file={leases}
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.88.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
TAKE = """
import asyncio, sys
from fallow_agent.ports.opening import Ask
from fallow_agent.ports.place import place
from fallow_agent.ports.port_control import Pcp
print(asyncio.run(Pcp(b"another's :)", lambda *_: None).ask(place().ways["ipv4"], 40000, Ask("pcp", 32557))))
"""


class Router:
    """miniupnpd in a namespace, which can lose its memory."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self.leases = directory / f"{namespace}.leases"
        self._configuration = directory / f"{namespace}.conf"
        self._pid = directory / f"{namespace}.pid"
        self._process: subprocess.Popen[bytes] | None = None
        run(namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run(namespace, "nft", "-f", "-", given=NAT)

    def start(self, natpmp: str = "yes") -> None:
        self._configuration.write_text(MINIUPNPD.format(natpmp=natpmp, leases=self.leases))
        command = ("miniupnpd", "-d", "-f", str(self._configuration), "-P", str(self._pid))
        self._process = subprocess.Popen(
            inside(self.namespace, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: ":5000" in run(self.namespace, "ss", "-Hltn") and ":1900" in run(self.namespace, "ss", "-Hlun"))

    def stop(self) -> None:
        """As when the power fails: nothing is remembered."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None
        self.leases.unlink(missing_ok=True)
        for chain in ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"):
            run(self.namespace, "nft", "flush", "chain", "inet", "filter", chain)

    def ports(self) -> list[int]:
        """External ports that lead to the device's service port."""
        told = run(self.namespace, "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd").splitlines()
        return [int(line.split("dport")[1].split()[0]) for line in told if f"to {OWN}:32557" in line]

    def asked(self) -> int:
        """Packets from the LAN for UPnP, PCP and NAT-PMP."""
        told = run(self.namespace, "nft", "list", "chain", "inet", "filter", "input")
        return int(told.split("packets")[1].split()[0])


class World:
    """The network with its server; ``device`` is the one behind one NAT, ``far`` behind two."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.router, self.far_router = Router(HOME, directory), Router(FAR_HOME, directory)
        self.tokens: dict[str, str] = {}

    def start(self, name: str, namespace: str, *command: str, **environment: str) -> None:
        log = (self._directory / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            inside(namespace, *command), stdout=log, stderr=log, env=os.environ | environment
        )

    def stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        assert process.wait(20) == 0

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(20)
        self.router.stop()
        self.far_router.stop()

    def start_server(self) -> None:
        server = str(BIN / "fallow-server")
        flags = ("--state-dir", str(self._directory / "server"), "--scheduler-url", SCHEDULER, "--ledger-url", LEDGER)
        told = run(NET, server, "init", *flags)
        self.operator = next(word for word in told.split() if word.startswith("fa_"))
        often = {"FALLOW_SERVER_DIAL_BACK_REACHABLE_INTERVAL_S": "1",
                 "FALLOW_SERVER_DIAL_BACK_UNREACHABLE_INTERVAL_S": "1"}  # fmt: skip
        self.start("server", NET, server, "run", *flags, **often)
        until(lambda: call(NET, "GET", f"{SCHEDULER}/v1/health")[0] == 200)
        _, owner = call(NET, "POST", f"{SCHEDULER}/v1/accounts", {"role": "owner", "name": "Ada"}, self.operator)
        self.owner = owner["token"]

    def start_agent(self, namespace: str) -> None:
        flags = ("--state-dir", str(self._directory / namespace), "--up-mbps", "20", "--down-mbps", "100", "--no-mdns")
        # The tests' other programs must not make the device step back.
        program = str(BIN / "fallow-agent")
        self.start(namespace, namespace, program, "run", *flags, FALLOW_PROCESS_SPARE_PERCENT_MIN="0")
        until(lambda: self.lan(namespace, "GET", "/v1/device")[0] == 200)

    def activate(self, namespace: str) -> None:
        state = str(self._directory / namespace)
        told = run(namespace, str(BIN / "fallow-agent"), "setup-code", "--state-dir", state)
        claim = call(NET, "POST", f"{SCHEDULER}/v1/claims", {}, self.owner)[1]["claim_token"]
        activation = {"scheduler": SCHEDULER, "claim_token": claim, "setup_code": told.strip().splitlines()[-1],
                      "consent": {"terms_version": "1", "accepted": True}}  # fmt: skip
        status, answer = self.lan(namespace, "POST", "/v1/activation", activation)
        assert status == 202, answer
        self.tokens[namespace] = answer["lan_token"]

    def lan(self, namespace: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """As from another device of the home."""
        return call(namespace, method, LAN_URL + path, body, self.tokens.get(namespace, ""))

    def listed(self, namespace: str) -> dict[str, Any]:
        """What the scheduler says of the device."""
        device = self.lan(namespace, "GET", "/v1/device")[1]["device_id"]
        found = call(NET, "GET", f"{SCHEDULER}/v1/devices", token=self.owner)[1]
        return next((one for one in found if one["device_id"] == device), {})

    def status(self, namespace: str) -> dict[str, Any]:
        return dict(self.lan(namespace, "GET", "/v1/status")[1])


@contextlib.contextmanager
def named() -> Iterator[None]:
    """The scheduler has a name, and addresses of both families, in the ``/etc/hosts`` of each namespace."""
    places = [Path("/etc/netns", namespace) for namespace in NAMESPACES]
    try:
        for place in places:
            place.mkdir(parents=True)
            (place / "hosts").write_text(f"{INTERNET} {NAME}\n2a0e:2::1 {NAME}\n")
        yield
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def link_local(namespace: str, interface: str) -> str:
    """The address that routers tell of themselves."""

    def found() -> str | None:
        told = json.loads(run(namespace, "ip", "-j", "-6", "address", "show", "dev", interface))
        ready = [one["local"] for one in told[0]["addr_info"] if one["scope"] == "link" and not one.get("tentative")]
        return ready[0] if ready else None

    return str(until(found))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hosts(NAMESPACES, LINKS, ipv6=True), named():
        for namespace, gateway in ((PI, ROUTER), (HOME, INTERNET), (FAR_PI, ROUTER), (FAR_HOME, "100.64.0.1"),
                                   (CARRIER, "11.22.44.1")):  # fmt: skip
            run(namespace, "ip", "route", "add", "default", "via", gateway)
        for namespace, interface, address in LINKS6:
            run(namespace, "ip", "address", "add", f"{address}/64", "dev", interface, "nodad")
        routes = ((PI, link_local(HOME, "lan0"), "eth0"), (HOME, "2a0e:2::1", "wan0"), (NET, "2a0e:2::2", "isp0"))
        for namespace, gateway, interface in routes:
            run(namespace, "ip", "-6", "route", "add", "default", "via", gateway, "dev", interface)
        run(CARRIER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run(CARRIER, "nft", "-f", "-", given=NAT.replace('"lan0"', '"cgn0"'))
        found = World(tmp_path_factory.mktemp("ports"))
        try:
            found.start_server()
            yield found
        finally:
            found.close()


def mapped(world: World) -> int:
    """Wait until the scheduler has come in through the router by IPv4; gives the port."""

    def reached() -> Any:
        ports = world.router.ports()
        return ports and f"http://{OUTSIDE}:{ports[0]}" in world.listed(PI).get("service_urls", ())

    until(reached)
    (port,) = world.router.ports()
    return port


def test_a_home_router_opens_the_port_for_as_long_as_the_device_serves(world: World) -> None:
    world.router.start()
    world.start_agent(PI)
    assert world.router.asked() == 0, "a dormant device asked the router"
    # Another port of this home has the number already.
    assert "port=32557" in run(PI, sys.executable, "-c", TAKE)
    world.activate(PI)
    port = mapped(world)
    assert port != 32557
    # By IPv6 through the router's firewall, whichever family the session uses.
    urls = {f"http://{OUTSIDE}:{port}", f"http://[{OWN6}]:32557"}
    until(lambda: set(world.listed(PI)["service_urls"]) == urls)
    listed = world.listed(PI)
    assert (listed["reachable"], listed["reachability"]) == (True, "mapped")
    until(lambda: len(world.status(PI)["ports"].get("seen", {}).get("urls", ())) == 2)
    status = world.status(PI)
    claims = [(one["family"], one["port"], one["address"], one["mapped_by"])
              for one in status["environment"]["service_ports"]]  # fmt: skip
    assert claims == [("ipv4", port, OUTSIDE, "pcp"), ("ipv6", 32557, OWN6, "pcp")]
    assert status["environment"]["nat"] == "private"
    assert set(status["ports"]["seen"].pop("addresses")) == {OUTSIDE, OWN6}
    assert set(status["ports"]["seen"].pop("urls")) == urls
    assert status["ports"] == {"seen": {"ipv4": "mapped", "ipv6": "mapped"}}
    # TCP:<external>:<device>:<port>:<end>:…
    ends = [int(line.split(":")[4]) for line in world.router.leases.read_text().splitlines() if f":{port}:" in line]
    assert len(ends) == 1
    assert ends[0] <= time.time() + 3600, "a device that crashes leaves the port open for longer"

    # The router starts anew, and has forgotten; its first client after that gets the number.
    world.router.stop()
    assert world.router.ports() == []
    world.router.start()
    until(world.router.ports)
    assert mapped(world) in (port, 32557)

    assert world.lan(PI, "POST", "/v1/pause", {})[0] == 200
    until(lambda: world.router.ports() == [])
    # A router that knows UPnP alone.
    world.router.stop()
    world.router.start(natpmp="no")
    assert world.lan(PI, "POST", "/v1/resume", {})[0] == 200
    assert mapped(world) == 32557
    by = [port["mapped_by"] for port in world.status(PI)["environment"]["service_ports"]]
    assert by == ["upnp", "pcp"], "this daemon speaks PCP by IPv6 all the same"

    world.stop(PI)
    assert world.router.ports() == []
    world.start_agent(PI)
    assert mapped(world) == 32557
    assert world.lan(PI, "DELETE", "/v1/activation")[0] == 202
    until(lambda: world.router.ports() == [])


def test_behind_a_carriers_nat_the_owner_is_told_and_nobody_is_sent_there(world: World) -> None:
    world.far_router.start()
    world.start_agent(FAR_PI)
    world.activate(FAR_PI)
    until(lambda: world.listed(FAR_PI).get("reachability") == "carrier")
    listed = world.listed(FAR_PI)
    assert (listed["connected"], listed["reachable"], listed["service_urls"]) == (True, False, [])
    status = world.status(FAR_PI)
    assert status["environment"]["nat"] == "carrier"
    assert status["ports"]["advice"]["type"] == "no-public-address", "this router does not tell which address it has"
    assert world.far_router.ports() == []
    told = json.dumps(status["ports"]["advice"], ensure_ascii=False)
    assert "public IPv4 address" in told
