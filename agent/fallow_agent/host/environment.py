"""Operating system, addresses, and what stands between them and the internet."""

from __future__ import annotations

import ipaddress
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from fallow_wire.session import Environment, ServicePort

CARRIER = ipaddress.ip_network("100.64.0.0/10")
"""RFC 6598: addresses behind a carrier's own NAT."""
# Documentation addresses: a UDP socket is given a route to them, and no packet is sent.
_PROBES = {"ipv4": (socket.AF_INET, "192.0.2.1"), "ipv6": (socket.AF_INET6, "2001:db8::1")}


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The service port. ``bind``: addresses, empty for all. ``advertise_address``: what to tell the scheduler where
    the device cannot see it itself (a forwarded port); ``advertise_port`` 0 is the port itself."""

    bind: tuple[str, ...] = ()
    port: int = 32557
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


def nat_of(address: str | None) -> str:
    """What the device's own IPv4 address says: ``none``, ``private``, ``carrier`` or ``unknown``."""
    if address is None:
        return "unknown"
    parsed = ipaddress.ip_address(address)
    if parsed in CARRIER:
        return "carrier"
    return "none" if parsed.is_global else "private"


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


class EnvironmentReader:
    """Reads addresses anew each time, the rest once."""

    def __init__(self, config: ServiceConfig, model: str, version: str) -> None:
        self._config = config
        self._model = model[:128]
        self._version = version
        self._os = os_name()

    def read(self, service_port: int) -> Environment:
        """:param service_port: the port that is really bound."""
        ipv4 = local_address("ipv4")
        return Environment(self._ports(service_port, ipv4), nat_of(ipv4), self._os, self._model, self._version)

    def _ports(self, service_port: int, ipv4: str | None) -> tuple[ServicePort, ...]:
        port = self._config.advertise_port or service_port
        if self._config.advertise_address is not None:
            family = f"ipv{ipaddress.ip_address(self._config.advertise_address).version}"
            return (ServicePort("tcp", port, family, self._config.advertise_address, "manual"),)
        found = []
        if ipv4 is not None:
            found.append(ServicePort("tcp", port, "ipv4", ipv4, "none"))
        ipv6 = local_address("ipv6")
        if ipv6 is not None and ipaddress.ip_address(ipv6).is_global:
            found.append(ServicePort("tcp", port, "ipv6", ipv6, "none"))
        return tuple(found)
