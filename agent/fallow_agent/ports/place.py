"""Where in the home's network the device stands, read from the kernel."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..host.environment import local_address
from ..host.routes import default_routes, home_router
from . import IPV4, IPV6
from .port_control import Way


@dataclass(frozen=True, slots=True)
class Place:
    """By family. ``own``: addresses towards the internet, of IPv6 a global one. ``ways``: to the home's router."""

    own: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)

    @property
    def router(self) -> str | None:
        way = self.ways.get(IPV4)
        return None if way is None else way.router


def place() -> Place:
    """Now. The router of IPv6 is the home's where that of IPv4 is, on the same interface: its address does not tell."""
    own = {family: found for family in (IPV4, IPV6) if (found := local_address(family)) is not None}
    if IPV6 in own and not ipaddress.IPv6Address(own[IPV6]).is_global:
        del own[IPV6]
    routes = default_routes()
    router = home_router(routes)
    if router is None or IPV4 not in own:
        return Place(own)
    over_ipv4 = (router, own[IPV4])
    ways = {IPV4: Way(router, own[IPV4], over_ipv4)}
    interface = next(route.interface for route in routes if route.gateway == router)
    for route in routes:
        if IPV6 in own and route.interface == interface and route.gateway is not None and ":" in route.gateway:
            ways[IPV6] = Way(route.gateway, own[IPV6], over_ipv4, interface)
            break
    return Place(own, ways)
