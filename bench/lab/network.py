"""Namespaces, wires, address translation and shaping: an internet, and homes on lines of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "curl": "curl"}
"""Programs, and the Debian packages they are in."""
PREFIX = "fallow-lab-"
COMMAND_S_MAX = 60

CONSUMER_HOST, SINK_HOST, SERVER_HOST = "203.0.113.2", "192.0.2.2", "198.18.1.2"
SERVICE_PORT = 32557
HOUSE_HOST, GATEWAY_LAN, PI_HOST = "192.168.77.2", "192.168.77.1", "192.168.77.3"
HOMES_MAX = 64
"""Four addresses each, out of one network of 256."""
TUN_PACKETS = 5000
"""What a TUN device may hold for its reader: half a second of 100 Mbit/s, so that it is never a bottleneck."""
SETTINGS = (
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    "net.ipv4.ip_forward=1",
    # What one transfer learnt of the path may not help or hinder the next one.
    "net.ipv4.tcp_no_metrics_save=1",
)


@dataclass(frozen=True, slots=True)
class Line:
    """``buffer_ms``: what the modem's queue holds, at the upload rate; tail drop."""

    up_mbps: int
    down_mbps: int
    buffer_ms: int


DOWN_BUFFER_MS = 100


def missing_programs(further: dict[str, str] | None = None) -> str:
    """What cannot run here and how to get it; empty where all is there."""
    wanted = PACKAGES | (further or {})
    absent = [name for name in wanted if shutil.which(name) is None]
    if absent:
        packages = " ".join(sorted({wanted[name] for name in absent}))
        return f"{', '.join(absent)} not found. Debian, Ubuntu: apt install {packages}"
    return "" if os.geteuid() == 0 else "root is needed, to make network namespaces"


def has_netem() -> bool:
    """Whether this kernel can delay packets by itself; asked of a namespace that is thrown away."""
    name = f"{PREFIX}{os.getpid()}-netem"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        command = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
        return subprocess.run(["ip", "netns", "exec", name, *command], capture_output=True, check=False).returncode == 0
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def sweep() -> None:
    """Remove what laboratories have left whose process is gone, such as after a kill -9."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for name, pid in re.findall(rf"^({PREFIX}(\d+)-\S+)", listed, re.MULTILINE):
        if not os.path.exists(f"/proc/{pid}"):
            left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for process in map(int, left.split()):
                os.kill(process, signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


class Network:
    """Named namespaces and the wires between them, gone when the block ends."""

    def __init__(self) -> None:
        self._prefix = f"{PREFIX}{os.getpid()}-"
        self._made: list[str] = []

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def path(self, name: str) -> str:
        """The namespace's full name."""
        return self._prefix + name

    def inside(self, name: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.path(name), *command]

    def run(self, name: str, *command: str, given: str | None = None) -> str:
        done = subprocess.run(
            self.inside(name, *command), input=given, capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def add(self, *names: str) -> None:
        for name in names:
            self._made.append(self.path(name))
            subprocess.run(["ip", "netns", "add", self.path(name)], check=True)
            self.run(name, "sysctl", "-qw", *SETTINGS)
            self.run(name, "ip", "link", "set", "lo", "up")

    def wire(self, left: tuple[str, str, str], right: tuple[str, str, str]) -> None:
        """:param left: namespace, device and address with its prefix length, which may be empty."""
        ends = [["name", device, "netns", self.path(name)] for name, device, _ in (left, right)]
        subprocess.run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]], check=True)
        for name, device, address in (left, right):
            # Packets as they are on a real wire, and so counted with all their headers.
            self.run(name, "ip", "link", "set", device, "gso_max_segs", "1")
            self._up(name, device, address)

    def bridge(self, name: str, device: str, ports: Sequence[str], address: str = "") -> None:
        self.run(name, "ip", "link", "add", device, "type", "bridge")
        for port in ports:
            self.run(name, "ip", "link", "set", port, "master", device)
        self._up(name, device, address)

    def tun(self, name: str, device: str, address: str) -> None:
        self.run(name, "ip", "tuntap", "add", "dev", device, "mode", "tun")
        self.run(name, "ip", "link", "set", device, "txqueuelen", str(TUN_PACKETS))
        self._up(name, device, address)

    def route(self, name: str, to: str, gateway: str) -> None:
        self.run(name, "ip", "route", "add", to, "via", gateway)

    def shape(self, name: str, device: str, mbps: int, buffer_ms: int) -> None:
        """What leaves by ``device``. The burst is 2 ms, at least ten packets: a modem sends packet by packet."""
        burst = max(16_000, mbps * 250)
        limits = ("rate", f"{mbps}mbit", "burst", str(burst), "latency", f"{buffer_ms}ms")
        self.run(name, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *limits)

    def _up(self, name: str, device: str, address: str) -> None:
        if address:
            self.run(name, "ip", "address", "add", address, "dev", device)
        self.run(name, "ip", "link", "set", device, "up")


def add_internet(network: Network, one_way_ms: float, by_kernel: bool) -> None:
    """``core`` with ``sink`` and ``consumer``, and ``isp``, ``one_way_ms`` away from it.

    :param by_kernel: netem delays; else ``isp`` and ``core`` have TUN devices ``far0`` that wait for the delay line.
    """
    network.add("core", "isp", "sink", "consumer")
    network.wire(("consumer", "con1", f"{CONSUMER_HOST}/24"), ("core", "con0", "203.0.113.1/24"))
    network.wire(("sink", "sink1", f"{SINK_HOST}/24"), ("core", "sink0", "192.0.2.1/24"))
    network.route("consumer", "default", "203.0.113.1")
    network.route("sink", "default", "192.0.2.1")
    near, far = ("isp", "far0", "198.18.1.1/30"), ("core", "far0", f"{SERVER_HOST}/30")
    if by_kernel:
        network.wire(near, far)
        for name, device, _ in (near, far):
            delay = ("netem", "delay", f"{one_way_ms}ms", "limit", str(TUN_PACKETS))
            network.run(name, "tc", "qdisc", "add", "dev", device, "root", *delay)
    else:
        network.tun(*near)
        network.tun(*far)
    network.route("isp", "default", SERVER_HOST)
    network.route("core", "198.51.100.0/24", "198.18.1.1")


@dataclass(frozen=True, slots=True)
class Home:
    """Namespaces of one home, and its address on the internet. The modem is a bridge, so the gateway's next hop is the
    provider's, behind the line; its port forward leads to ``pi``."""

    number: int
    line: Line

    @property
    def wan(self) -> str:
        return f"198.51.100.{4 * self.number + 2}"

    @property
    def isp_hop(self) -> str:
        return f"198.51.100.{4 * self.number + 1}"

    def name(self, part: str) -> str:
        """:param part: ``house``, ``pi``, ``gateway`` or ``modem``."""
        return f"{part}{self.number}"


def add_home(network: Network, home: Home, *, forward_to_pi: bool) -> None:
    """The gateway has ``wan0``, and the bridge ``lan0`` with the ports ``house0`` and ``pi0``."""
    assert home.number < HOMES_MAX
    house, pi, gateway, modem = (home.name(part) for part in ("house", "pi", "gateway", "modem"))
    network.add(house, pi, gateway, modem)
    network.wire((house, "lan1", f"{HOUSE_HOST}/24"), (gateway, "house0", ""))
    network.wire((pi, "lan1", f"{PI_HOST}/24"), (gateway, "pi0", ""))
    network.bridge(gateway, "lan0", ("house0", "pi0"), f"{GATEWAY_LAN}/24")
    network.wire((gateway, "wan0", f"{home.wan}/30"), (modem, "home0", ""))
    at_isp = f"line{home.number}"
    network.wire((modem, "line0", ""), ("isp", at_isp, f"{home.isp_hop}/30"))
    network.bridge(modem, "through0", ("home0", "line0"))
    network.shape(modem, "line0", home.line.up_mbps, home.line.buffer_ms)
    network.shape("isp", at_isp, home.line.down_mbps, DOWN_BUFFER_MS)
    for name, gateway_address in ((house, GATEWAY_LAN), (pi, GATEWAY_LAN), (gateway, home.isp_hop)):
        network.route(name, "default", gateway_address)
    forward = f"iifname wan0 tcp dport {SERVICE_PORT} dnat to {PI_HOST}" if forward_to_pi else ""
    network.run(gateway, "nft", "-f", "-", given=NAT.format(forward=forward))


NAT = """
table ip nat {{
    chain forwards {{
        type nat hook prerouting priority -100
        {forward}
    }}
    chain out {{
        type nat hook postrouting priority 100
        oifname wan0 masquerade
    }}
}}
"""

UPNP_TABLES = """
table inet filter {
    chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
"""

UPNP = """
ext_ifname=wan0
listening_ip=lan0
enable_upnp=yes
enable_natpmp=no
secure_mode=yes
http_port=5000
uuid=6f2f77a5-61c2-4d7f-9a53-6dbb14fb6cf0
bitrate_up={up}
bitrate_down={down}
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 192.168.77.0/24 1024-65535
"""


def upnp_settings(line: Line) -> str:
    return UPNP.format(up=line.up_mbps * 10**6, down=line.down_mbps * 10**6)
