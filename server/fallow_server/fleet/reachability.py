"""How a device can be reached from outside, by what it claims and what answered a dial-back. Pure.

The words are those of :data:`fallow_wire.session.REACH`. What a device says of its NAT explains a failure; only an
answer makes it reachable.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from fallow_wire.addresses import Address
from fallow_wire.session import REACH, Environment, ServicePort

from .addresses import Target, parse_address

OPEN, MAPPED, CARRIER, BLOCKED, UNKNOWN = REACH
_BY_ROUTER = ("upnp", "pcp", "natpmp")


@dataclass(frozen=True, slots=True)
class Reach:
    """By family, and :attr:`best` of both."""

    ipv4: str
    ipv6: str

    @property
    def best(self) -> str:
        return min(self.ipv4, self.ipv6, key=REACH.index)


@cache
def reach_of(ipv4: str, ipv6: str) -> Reach:
    """One object for all devices that are alike."""
    return Reach(ipv4, ipv6)


NOT_KNOWN = reach_of(UNKNOWN, UNKNOWN)


def classify(
    environment: Environment, come_from: Iterable[str], tried: Iterable[Target], answered: Iterable[Target]
) -> Reach:
    """What the dial-backs to ``tried``, of which ``answered`` did, say of a device.

    :param environment: of its last heartbeat. :param come_from: addresses that it has come from.
    """
    tried, answered = tuple(tried), tuple(answered)
    seen = {parse_address(text) for text in come_from}

    def of(version: int) -> str:
        found = [target for target in answered if _version(target) == version]
        if found:
            own = any(_is_own(target, environment.service_ports) for target in found)
            return OPEN if own else MAPPED
        if version == 4 and _carrier(environment, seen):
            return CARRIER
        return BLOCKED if any(_version(target) == version for target in tried) else UNKNOWN

    return reach_of(of(4), of(6))


def _version(target: Target) -> int:
    return ipaddress.ip_address(target.address).version


def _is_own(target: Target, claims: tuple[ServicePort, ...]) -> bool:
    """Whether the address that answered is the device's, so that nothing translates it."""
    return any(
        claim.port == target.port
        and claim.mapped_by in ("none", "firewall")
        and str(parse_address(claim.address)) == target.address
        for claim in claims
    )


def _carrier(environment: Environment, seen: set[Address | None]) -> bool:
    """Its router's outside is not the address that is seen here: there is another NAT between."""
    if environment.nat == "carrier":
        return True
    outsides = {parse_address(port.address) for port in environment.service_ports if port.mapped_by in _BY_ROUTER}
    return bool(_ipv4(seen)) and bool(_ipv4(outsides) - seen)


def _ipv4(addresses: set[Address | None]) -> set[Address | None]:
    return {address for address in addresses if address is not None and address.version == 4}
