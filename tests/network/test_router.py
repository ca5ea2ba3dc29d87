"""A device behind a real home router (miniupnpd, NAT by nftables), and behind hosts that only pretend to be one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import hosts, inside, marks, names, run, until

pytestmark = marks()

PI, HOME, ISP = NAMESPACES = names("pi", "router", "net")
ROUTER, OWN, OTHER, HOST = "192.168.88.1", "192.168.88.2", "192.168.88.66", "198.51.100.1"
LINKS = (
    (PI, "eth0", f"{OWN}/24", HOME, "lan0", f"{ROUTER}/24"),
    (HOME, "wan0", "198.51.100.2/24", ISP, "isp0", f"{HOST}/24"),
)
PORT = 5000


def python(namespace: str, program: str, *arguments: str) -> Any:
    """What ``program`` prints as JSON, run in the namespace."""
    return json.loads(run(namespace, sys.executable, "-c", program, *arguments))


@pytest.fixture
def home() -> Iterator[None]:
    """``pi`` –LAN– ``router`` –WAN– ``net``; the router masquerades. A second address in its LAN is another host's."""
    with hosts(NAMESPACES, LINKS, ipv6=True):
        run(HOME, "ip", "address", "add", f"{OTHER}/24", "dev", "lan0")
        run(HOME, "ip", "route", "add", "default", "via", HOST)
        run(PI, "ip", "route", "add", "default", "via", ROUTER)
        yield


@pytest.fixture
def processes() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(namespace: str, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            inside(namespace, *command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(20)


# ------------------------------------------------------------------ a real router

NAT = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; oifname "wan0" masquerade; jump postrouting_miniupnpd; }
}
"""
MINIUPNPD = f"""
ext_ifname=wan0
ext_ip=11.22.33.44
listening_ip=lan0
http_port={PORT}
enable_upnp=yes
secure_mode=yes
bitrate_up=20500000
bitrate_down=100000000
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.88.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

READ = """
import asyncio, json, sys, time
import aiohttp
from fallow_agent.host.environment import local_address
from fallow_agent.host.igd import discover
from fallow_agent.host.routes import default_routes, home_router
from fallow_agent.line.router import RouterMeter

async def main():
    router, own = home_router(default_routes()), local_address("ipv4")
    igd = await discover(router, own)
    async with aiohttp.ClientSession() as http:
        meter = RouterMeter(http, igd, time.monotonic)
        before, capacity = await meter.read(), await meter.capacity()
        reader, writer = await asyncio.open_connection(sys.argv[1], 7777)
        writer.write(b"x" * 300_000)
        await reader.readexactly(500_000)
        writer.close()
        # miniupnpd looks at its interface once a second.
        for _ in range(50):
            after = await meter.read()
            if after.up - before.up >= 300_000:
                break
            await asyncio.sleep(0.2)
    print(json.dumps({
        "router": igd.router, "own": igd.own,
        "services": {service.name: sorted(service.actions) for service in igd.services},
        "up": after.up - before.up, "down": after.down - before.down,
        "capacity": [[estimate.bps for estimate in side] for side in capacity],
        "library": "async_upnp_client" in sys.modules,
    }))

asyncio.run(main())
"""
HOST_PROGRAM = """
import socket
with socket.create_server(("", 7777)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    got = 0
    while got < 300_000:
        got += len(connection.recv(65536))
    connection.sendall(b"y" * 500_000)
    connection.recv(1)
"""


@pytest.mark.skipif(shutil.which("miniupnpd") is None, reason="needs miniupnpd (miniupnpd-nftables)")
@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft (nftables)")
def test_a_real_router_tells_its_services_counters_and_rates(
    home: None, processes: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run(HOME, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run(HOME, "nft", "-f", "-", given=NAT)
    (tmp_path / "miniupnpd.conf").write_text(MINIUPNPD)
    pid = str(tmp_path / "pid")
    processes(HOME, "miniupnpd", "-d", "-f", str(tmp_path / "miniupnpd.conf"), "-P", pid)
    until(lambda: f":{PORT}" in run(HOME, "ss", "-Hltn") and ":1900" in run(HOME, "ss", "-Hlun"))
    host = processes(ISP, sys.executable, "-c", HOST_PROGRAM)
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"

    found = python(PI, READ, HOST)
    assert (found["router"], found["own"]) == (ROUTER, OWN)
    assert {"GetTotalBytesSent", "GetCommonLinkProperties"} <= set(found["services"]["WANCommonInterfaceConfig"])
    assert {"AddPortMapping", "DeletePortMapping"} <= set(found["services"]["WANIPConnection"])
    assert 300_000 < found["up"] < 400_000
    assert 500_000 < found["down"] < 600_000
    assert found["capacity"] == [[20_500_000], []]  # 100 Mbit/s is a LAN port's speed
    assert not found["library"], "the library was loaded into the agent's own process"


# ------------------------------------------------------------------ pretenders

PRETENDER = """
import http.server, json, socket, socketserver, sys, threading, time
router, other, location, document, search = sys.argv[1:]
asked = []

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append([self.server.server_address[0], self.path])
        print(json.dumps(asked[-1]), flush=True)
        if document == "redirect":
            self.send_response(302)
            self.send_header("Location", f"http://{other}:5000/redirected")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        try:
            if document == "slow":
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.5)
            elif document == "huge":
                while True:
                    self.wfile.write(b"<a>" * 4096)
            else:
                self.wfile.write(document.encode())
        except OSError:
            pass

    def log_message(self, *arguments):
        pass

for address in (router, other):
    # Not HTTPServer, which looks its own name up, where nobody answers.
    server = socketserver.ThreadingTCPServer((address, 5000), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
ssdp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ssdp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ssdp.bind(("", 1900))
membership = socket.inet_aton("239.255.255.250") + socket.inet_aton(router)
ssdp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
answers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answers.bind((other if search == "other" else router, 0))
print("ready", flush=True)
while True:
    query, sender = ssdp.recvfrom(2048)
    if b"M-SEARCH" not in query:
        continue
    target = [line for line in query.decode().splitlines() if line.upper().startswith("ST:")][0][3:].strip()
    answers.sendto((f"HTTP/1.1 200 OK\\r\\nCACHE-CONTROL: max-age=120\\r\\nEXT:\\r\\nLOCATION: {location}\\r\\n"
        f"SERVER: x UPnP/1.1 y\\r\\nST: {target}\\r\\nUSN: uuid:1::{target}\\r\\n\\r\\n").encode(), sender)
"""
DISCOVER = """
import asyncio, json, sys
from fallow_agent.host.igd import IgdError, discover
try:
    igd = asyncio.run(discover(*sys.argv[1:]))
    found = None if igd is None else [[service.name, service.control_url] for service in igd.services]
    print(json.dumps({"found": found}))
except IgdError as error:
    print(json.dumps({"error": str(error)}))
"""
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE root [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + at)} "{f"&{chr(97 + at)};" * 10}">' for at in range(9))
    + ']><root xmlns="urn:schemas-upnp-org:device-1-0"><device>&j;</device></root>'
)
FILE = (
    '<?xml version="1.0"?><!DOCTYPE root [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    '<root xmlns="urn:schemas-upnp-org:device-1-0"><device><friendlyName>&a;</friendlyName></device></root>'
)


def description(*services: str) -> str:
    """A device with services whose three URLs are at ``services``, such as ``http://192.168.88.1:5000``."""
    listed = "".join(
        "<service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>"
        f"<serviceId>urn:upnp-org:serviceId:WANCommonIFC{at}</serviceId><SCPDURL>{base}/scpd{at}</SCPDURL>"
        f"<controlURL>{base}/ctl</controlURL><eventSubURL>{base}/evt</eventSubURL></service>"
        for at, base in enumerate(services)
    )
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major>'
        "<minor>0</minor></specVersion><device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1"
        f"</deviceType><friendlyName>x</friendlyName><UDN>uuid:1</UDN><serviceList>{listed}</serviceList></device></root>"
    )


HERE, THERE = f"http://{ROUTER}:{PORT}", f"http://{OTHER}:{PORT}"


@pytest.mark.parametrize(
    ("location", "document", "search", "outcome", "asked"),
    [
        (f"{THERE}/d", description(HERE), "router", {"found": None}, []),
        (f"{HERE}/d", description(HERE), "other", {"found": None}, []),
        ("http://router.lan:5000/d", description(HERE), "router", {"found": None}, []),
        (f"{HERE}/d", description(THERE), "router", {"found": None}, [[ROUTER, "/d"]]),
        (f"{HERE}/d", "redirect", "router", "302", [[ROUTER, "/d"]]),
        (f"{HERE}/d", "huge", "router", "larger than", [[ROUTER, "/d"]]),
        (f"{HERE}/d", "slow", "router", "Timeout", [[ROUTER, "/d"]]),
        (f"{HERE}/d", BOMB, "router", "Entit", [[ROUTER, "/d"]]),
        (f"{HERE}/d", FILE, "router", "Entit", [[ROUTER, "/d"]]),
        (f"{HERE}/d", "no XML at all", "router", "XmlParse", [[ROUTER, "/d"]]),
    ],
    ids=["location-elsewhere", "another-host", "a-name", "services-elsewhere", "redirect", "huge", "slow", "bomb",
         "file", "no-xml"],
)  # fmt: skip
def test_a_hostile_host_makes_the_device_call_nowhere_else(
    home: None,
    processes: Callable[..., subprocess.Popen[str]],
    location: str,
    document: str,
    search: str,
    outcome: Any,
    asked: list[list[str]],
) -> None:
    pretender = processes(HOME, sys.executable, "-c", PRETENDER, ROUTER, OTHER, location, document, search)
    assert pretender.stdout is not None
    assert pretender.stdout.readline() == "ready\n"
    found = python(PI, DISCOVER, ROUTER, OWN)
    if isinstance(outcome, str):
        assert outcome in found["error"], found
    else:
        assert found == outcome
    pretender.kill()
    assert [json.loads(line) for line in pretender.stdout] == asked


def test_a_description_without_end_is_given_up(home: None, processes: Callable[..., subprocess.Popen[str]]) -> None:
    many = description(*[HERE] * 60)
    pretender = processes(HOME, sys.executable, "-c", PRETENDER, ROUTER, OTHER, f"{HERE}/d", many, "router")
    assert pretender.stdout is not None
    assert pretender.stdout.readline() == "ready\n"
    assert "more than 40 documents" in python(PI, DISCOVER, ROUTER, OWN)["error"]


def test_nobody_answers(home: None) -> None:
    assert python(PI, DISCOVER, ROUTER, OWN) == {"found": None}


# ------------------------------------------------------------------ the device's own interface

METER = """
import json, sys
from fallow_agent.line.meter import Meter
meter, at = Meter(sys.argv[1] or None), 0.0
for line in sys.stdin:
    at += 1.0
    rates = meter.read(at)
    print(json.dumps([meter.interface, None if rates is None else [rates.up_bps, rates.down_bps]]), flush=True)
"""


class Metering:
    """An agent's meter in the device's namespace, read when told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> tuple[str | None, list[int] | None]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        interface, rates = json.loads(self._process.stdout.readline())
        return interface, rates


@pytest.fixture
def metering(home: None) -> Iterator[Callable[[str], Metering]]:
    started: list[subprocess.Popen[str]] = []

    def start(interface: str) -> Metering:
        command = inside(PI, sys.executable, "-c", METER, interface)
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return Metering(started[-1])

    yield start
    for process in started:
        process.kill()
        process.wait(20)


def send(size: int) -> None:
    """UDP to the router, ``size`` bytes and some headers; nobody listens."""
    program = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n" + (
        "for _ in range(int(sys.argv[2]) // 1000): s.sendto(b'x' * 1000, (sys.argv[1], 9))"
    )
    run(PI, sys.executable, "-c", program, ROUTER, str(size))


@pytest.mark.parametrize("interface", ["eth0", ""], ids=["configured", "by-route"])
def test_the_meter_survives_a_flap_and_an_interface_made_anew(
    metering: Callable[[str], Metering], interface: str
) -> None:
    meter = metering(interface)
    assert meter.read() == ("eth0", None)
    send(100_000)
    assert _carried(meter.read(), 100_000)

    run(PI, "ip", "link", "set", "eth0", "down")
    meter.read()
    run(PI, "ip", "link", "set", "eth0", "up")
    if not interface:
        run(PI, "ip", "route", "replace", "default", "via", ROUTER)
    meter.read()
    send(100_000)
    assert _carried(meter.read(), 100_000)

    run(PI, "ip", "link", "delete", "eth0")
    assert meter.read() == (None, None)
    subprocess.run(
        ["ip", "link", "add", "eth0", "netns", PI, "type", "veth", "peer", "name", "lan0", "netns", HOME], check=True
    )
    for namespace, name, address in ((PI, "eth0", OWN), (HOME, "lan0", ROUTER)):
        run(namespace, "ip", "address", "add", f"{address}/24", "dev", name)
        run(namespace, "ip", "link", "set", name, "up")
    run(PI, "ip", "route", "add", "default", "via", ROUTER)
    assert meter.read() == ("eth0", None)
    send(100_000)
    assert _carried(meter.read(), 100_000)


def test_the_meter_follows_the_default_route(metering: Callable[[str], Metering]) -> None:
    meter = metering("")
    assert meter.read() == ("eth0", None)
    run(PI, "ip", "link", "add", "wwan0", "type", "veth", "peer", "name", "wwan1")
    run(PI, "ip", "link", "set", "wwan0", "up")
    run(PI, "ip", "route", "add", "default", "dev", "wwan0", "metric", "50")
    run(PI, "ip", "route", "delete", "default", "via", ROUTER)
    interfaces = [meter.read()[0] for _ in range(30)]
    assert interfaces == ["eth0"] * 29 + ["wwan0"]  # looked up every 30 s


def _carried(reading: tuple[str | None, list[int] | None], size: int) -> bool:
    interface, rates = reading
    return interface == "eth0" and rates is not None and size * 8 <= rates[0] <= 2 * size * 8
