"""Which of a device's claimed service addresses the scheduler may connect to. Pure.

A device names addresses, and the scheduler connects to them: without rules, any device could make the scheduler
knock on the scheduler's own services or on a third party. So a public address is tried only where the device itself has
just come from it, and a private one only where the operator allows private addresses (laboratories, a LAN).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass

from fallow_wire.addresses import Address, is_public
from fallow_wire.session import ServicePort

TARGETS_MAX = 4
"""Addresses tried for one device: more serve no consumer."""
_WELL_KNOWN_PORTS = frozenset({80, 443})
"""Below 1024 only these: a dial-back must not knock on mail or DNS servers."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that a dial-back may try."""

    address: str
    port: int

    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


def fault_of(error: Exception) -> str:
    """What went wrong on the way to an address, without the address: it is a household's, and is for no log."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else type(error).__name__


def parse_address(text: str) -> Address | None:
    """An IP address, IPv4 also where it is written inside of IPv6; None for anything else, names and zones included."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return None
        return found.ipv4_mapped or found
    return found


def may_connect(address: Address, *, allow_private: bool) -> bool:
    """True for public unicast addresses, and for private and loopback ones where they are allowed."""
    if is_public(str(address)):
        return True
    return allow_private and (address.is_loopback or (address.is_private and not _is_special(address)))


def _is_special(address: Address) -> bool:
    """No host's own, or one that carries an IPv4 address which no rule here would see."""
    carries = isinstance(address, ipaddress.IPv6Address) and bool(address.sixtofour or address.teredo)
    nobody = address.is_multicast or address.is_unspecified or address.is_link_local or address.is_reserved
    return carries or nobody


def dial_back_targets(
    ports: tuple[ServicePort, ...], come_from: Iterable[str], *, allow_private: bool
) -> tuple[Target, ...]:
    """What to try for a device that claims ``ports`` and has ``come_from`` these addresses, its session's first.

    The address behind a home's NAT need not be known to the device: those that it has come from are tried with each
    port that is claimed for their family, whatever address the claim names.
    """
    known = [address for text in come_from if (address := parse_address(text)) is not None]
    found: dict[Target, None] = {}
    for claim in ports:
        if claim.protocol != "tcp" or not (claim.port >= 1024 or claim.port in _WELL_KNOWN_PORTS):
            continue
        claimed = parse_address(claim.address)
        if allow_private and claimed is not None and not claimed.is_global and may_connect(claimed, allow_private=True):
            found[Target(str(claimed), claim.port)] = None
        for address in known:
            # The port that a router opened for IPv4 says nothing of IPv6.
            if address.version == _version(claim, claimed) and may_connect(address, allow_private=allow_private):
                found[Target(str(address), claim.port)] = None
    return tuple(found)[:TARGETS_MAX]


def _version(claim: ServicePort, claimed: Address | None) -> int:
    if claimed is not None:
        return claimed.version
    return 6 if claim.family == "ipv6" else 4
