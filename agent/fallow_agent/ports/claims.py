"""What the scheduler is told of the service port: addresses that it may dial, and what stands before them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow_wire.session import Reachability, ServicePort

from ..host.routes import HOME
from . import IPV4, IPV6
from .opening import NO_ADDRESS, Grant

CARRIER = ipaddress.IPv4Network("100.64.0.0/10")
"""RFC 6598: addresses behind a carrier's own NAT."""
REACHED = ("open", "mapped")
"""Of :data:`fallow_wire.session.REACH`."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known now of the ways to the service port.

    ``own``: the device's addresses by family, of IPv6 global ones only. ``router``: the home's, where the device is
    behind one. ``manual``: what the owner has forwarded. ``grants``: what routers grant, by family. ``firewall``: this
    device's own was opened. ``asks``: whether anybody is asked for ports. ``rounds``, ``refusals``: of the IPv4 port,
    as in :class:`~.opening.Opening`. ``seen``: what the scheduler has found.
    """

    port: int
    own: Mapping[str, str] = field(default_factory=dict)
    router: str | None = None
    manual: ServicePort | None = None
    grants: Mapping[str, Grant] = field(default_factory=dict)
    firewall: bool = False
    asks: bool = True
    rounds: int = 0
    refusals: tuple[tuple[str, str], ...] = ()
    seen: Reachability | None = None

    @property
    def reached(self) -> bool:
        return is_reached(self.seen)

    @property
    def external(self) -> str | None:
        """The router's own IPv4 address on the outside, where it has told."""
        grant = self.grants.get(IPV4)
        return None if grant is None else grant.address

    def service_ports(self) -> tuple[ServicePort, ...]:
        """One for each family; what the owner says stands for all others."""
        if self.manual is not None:
            return (self.manual,)
        found = []
        for family in (IPV4, IPV6):
            own, grant = self.own.get(family), self.grants.get(family)
            if grant is not None and own is not None:
                found.append(ServicePort("tcp", grant.port, family, grant.address or own, grant.by))
            elif own is not None:
                found.append(ServicePort("tcp", self.port, family, own, "firewall" if self.firewall else "none"))
        return tuple(found)

    def nat(self) -> str:
        """What stands between the device's IPv4 address and the internet, as ``Environment.nat`` says it.

        Behind a router the device's own address tells nothing of the provider. The router's does: it is the one that
        the scheduler sees, or there is another NAT before it.
        """
        own = self.own.get(IPV4)
        found = nat_of(own)
        if found == "private" and any(why == NO_ADDRESS for _, why in self.refusals):
            return "carrier"
        if found != "private" or self.external is None:
            return found
        for seen in () if self.seen is None else self.seen.addresses:
            if is_ipv4(seen) and seen != own:
                return "private" if seen == self.external else "carrier"
        return "private" if nat_of(self.external) == "none" else "carrier"


def is_reached(seen: Reachability | None) -> bool:
    """Whether the scheduler has come in by any family."""
    return seen is not None and (seen.ipv4 in REACHED or seen.ipv6 in REACHED)


def nat_of(address: str | None) -> str:
    """What an IPv4 address says of itself: ``none``, ``private``, ``carrier`` or ``unknown``."""
    if address is None:
        return "unknown"
    parsed = ipaddress.IPv4Address(address)
    if parsed in CARRIER:
        return "carrier"
    here = parsed.is_loopback or parsed.is_link_local or any(parsed in net for net in HOME)
    return "private" if here else "none"


def is_ipv4(text: str) -> bool:
    return ":" not in text


def is_loopback(host: str) -> bool:
    """True for a host that is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
