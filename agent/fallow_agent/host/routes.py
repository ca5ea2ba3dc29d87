"""The default routes, from the kernel's tables."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path

ROUTES = Path("/proc/net/route")
ROUTES6 = Path("/proc/net/ipv6_route")
HOME = tuple(ipaddress.IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
"""RFC 1918. What Python calls private is more: addresses for documentation and tests too."""
_REJECT = 0x200
_NONE6 = "0" * 32


@dataclass(frozen=True, slots=True, order=True)
class DefaultRoute:
    """``gateway`` is None on a line without one (PPP). Those of lower ``metric`` come first."""

    metric: int
    interface: str
    gateway: str | None


def default_routes(routes: Path = ROUTES, routes6: Path = ROUTES6) -> list[DefaultRoute]:
    """As the kernel would take them: by metric, all of IPv4 before those of IPv6. A file that is not there has none."""
    return sorted(parsed(_text(routes))) + sorted(parsed6(_text(routes6)))


def parsed(text: str) -> list[DefaultRoute]:
    """Of ``/proc/net/route``. Lines that are none of it are passed over."""
    found = []
    for parts in map(str.split, text.splitlines()):
        if len(parts) < 8 or parts[1] != "00000000" or parts[7] != "00000000":
            continue
        try:
            gateway, flags, metric = int(parts[2], 16), int(parts[3], 16), int(parts[6])
            # Printed as a number of this machine, though it is in network order in memory.
            address = str(ipaddress.IPv4Address(gateway.to_bytes(4, sys.byteorder))) if gateway else None
        except (ValueError, OverflowError):
            continue
        if not flags & _REJECT:
            found.append(DefaultRoute(metric, parts[0], address))
    return found


def parsed6(text: str) -> list[DefaultRoute]:
    """Of ``/proc/net/ipv6_route``. Lines that are none of it are passed over."""
    found = []
    for parts in map(str.split, text.splitlines()):
        if len(parts) < 10 or parts[0] != _NONE6 or parts[1] != "00":
            continue
        try:
            metric, flags = int(parts[5], 16), int(parts[8], 16)
            gateway = str(ipaddress.IPv6Address(bytes.fromhex(parts[4])))
        except ValueError:
            continue
        if not flags & _REJECT:
            found.append(DefaultRoute(metric, parts[9], None if parts[4] == _NONE6 else gateway))
    return found


def home_router(routes: list[DefaultRoute]) -> str | None:
    """The address of the router that this device is behind, or None where it is the router itself.

    An address of :data:`HOME` is a home's. One of a carrier's own network, 100.64.0.0/10, is nobody's in this home,
    and a public one is the provider's: neither is ever asked anything.
    """
    for route in routes:
        if route.gateway is None or ":" in route.gateway:
            continue
        address = ipaddress.IPv4Address(route.gateway)
        return route.gateway if any(address in net for net in HOME) else None
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
