"""Operating system, addresses, and the service port's place in the configuration."""

from __future__ import annotations

import ipaddress
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

# Documentation addresses: a UDP socket is given a route to them, and no packet is sent.
_PROBES = {"ipv4": (socket.AF_INET, "192.0.2.1"), "ipv6": (socket.AF_INET6, "2001:db8::1")}


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The service port. ``bind``: addresses, empty for all. ``open_ports``: have the home router open it.
    ``firewall_open``: this system's own firewall lets it in, as OpenWrt's does by the service's script.
    ``advertise_port``, ``advertise_address``: of a port that the owner has forwarded by hand; with either, nobody is
    asked to open one. ``advertise_port`` 0 is the port itself."""

    bind: tuple[str, ...] = ()
    port: int = 32557
    open_ports: bool = True
    firewall_open: bool = False
    advertise_address: str | None = None
    advertise_port: int = 0

    def __post_init__(self) -> None:
        if self.advertise_address is not None:
            ipaddress.ip_address(self.advertise_address)


def local_address(family: str) -> str | None:
    """The address from which packets of ``family`` (``ipv4``, ``ipv6``) leave for the internet, or None."""
    number, target = _PROBES[family]
    try:
        with socket.socket(number, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found: str = probe.getsockname()[0]
            return found
    except OSError:
        return None


def os_name(release: Path = Path("/etc/os-release")) -> str:
    """As in "Debian GNU/Linux 12 (bookworm)"."""
    try:
        lines = release.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip('"')[:128]
    return f"{platform.system()} {platform.release()}"[:128]
