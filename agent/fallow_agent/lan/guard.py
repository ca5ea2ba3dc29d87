"""Who may call port M, decided before any handler. Pure.

1. The caller is on a LAN of the device: a packet from the WAN side is refused even where the firewall let it in.
2. ``Host`` is a name of the device: a foreign web page cannot reach it by DNS rebinding.
3. ``Origin`` is absent or the device's own: a foreign web page cannot write.
4. A body is JSON: a foreign web page cannot post a form. It is not compressed: a small body can hold a very large one.

An interface is a LAN interface when the configuration names it or, where none is named, when it has a private IPv4
address (RFC 1918). All subnets of a LAN interface count, link-local and global IPv6 ones too; a public IPv4 subnet
counts only where the interface is named, because its neighbours are the provider's other customers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from fallow_wire.http import Problem

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_RFC1918 = tuple(ipaddress.IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_LINK_LOCAL_4 = ipaddress.IPv4Network("169.254.0.0/16")


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of one network interface, with the length of its subnet's prefix."""

    interface: str
    address: Address
    prefix: int

    def contains(self, address: Address) -> bool:
        if address.version != self.address.version:
            return False
        shift = self.address.max_prefixlen - self.prefix
        return int(address) >> shift == int(self.address) >> shift


@dataclass(frozen=True, slots=True)
class Lan:
    """The LAN side of the device: its addresses there, and the names that it goes by (lower case)."""

    addresses: tuple[InterfaceAddress, ...] = ()
    names: frozenset[str] = frozenset()

    def has_peer(self, address: Address, interface: str | None) -> bool:
        """True when ``address`` is a neighbour on a LAN interface, or the device itself.

        :param interface: of a link-local IPv6 peer, which means nothing without it.
        """
        if address.is_loopback or any(own.address == address for own in self.addresses):
            return True
        scoped = address.version == 6 and address.is_link_local
        return any(own.contains(address) and (not scoped or own.interface == interface) for own in self.addresses)

    def has_host(self, host: str) -> bool:
        """True when ``host``, the value of a ``Host`` header, is a name or address of the device."""
        name = host_name(host)
        if name is None:
            return False
        address = _address(name)
        if address is None:
            return name.removesuffix(".") in self.names
        return address.is_loopback or any(own.address == address for own in self.addresses)


def lan_side(addresses: Iterable[InterfaceAddress], interfaces: tuple[str, ...], names: Iterable[str]) -> Lan:
    """The LAN among all addresses of the device.

    :param interfaces: the LAN interfaces by the configuration; empty: those with a private IPv4 address.
    """
    every = [a for a in addresses if not a.address.is_loopback]
    if interfaces:
        found = [a for a in every if a.interface in interfaces]
    else:
        private = {a.interface for a in every if is_private_ipv4(a.address)}
        found = [a for a in every if a.interface in private and (a.address.version == 6 or is_home_ipv4(a.address))]
    return Lan(tuple(found), frozenset(name.lower() for name in names) | {"localhost"})


def is_private_ipv4(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv4Address) and any(address in net for net in _RFC1918)


def is_home_ipv4(address: Address) -> bool:
    return is_private_ipv4(address) or address in _LINK_LOCAL_4


def host_name(host: str) -> str | None:
    """The name of a ``Host`` value without its port and brackets, in lower case; None when it is malformed."""
    host = host.strip().lower()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    if not name or (port and not (port.isascii() and port.isdigit())):
        return None
    return name


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, slots=True)
class Call:
    """What the guard looks at. ``peer`` as the socket names it; headers None where absent.

    ``body_bytes``: the announced length, None where the body is chunked.
    """

    peer: str
    peer_interface: str | None
    host: str | None
    origin: str | None
    sec_fetch_site: str | None
    content_type: str | None
    body_bytes: int | None
    content_encoding: str | None = None


def decide(call: Call, lan: Lan, body_bytes_max: int) -> Problem | None:
    """The problem of a call that is refused, or None for one that may go on."""
    peer = _address(call.peer)
    if peer is None or not lan.has_peer(peer, call.peer_interface):
        return Problem(
            403,
            "not-lan",
            "Only from the home network",
            "Your address is in none of the device's LAN subnets.",
            remedy="Join the Wi-Fi or the cable network that the device is in.",
        )
    if call.host is None or not lan.has_host(call.host):
        return Problem(
            421,
            "wrong-host",
            "This name is not the device's",
            f"Host is {call.host or 'missing'}.",
            remedy="Use the device's address, or its name ending in .local.",
        )
    if (call.origin is not None and call.origin.lower() != f"http://{call.host.strip().lower()}") or (
        call.sec_fetch_site == "cross-site"
    ):
        return Problem(
            403,
            "bad-origin",
            "Only from the device's own page",
            "Another web page tried to call this device.",
            remedy="Open the device's own address in the browser.",
        )
    if call.body_bytes == 0:
        return None
    media_type = (call.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return Problem(
            415,
            "json-only",
            "The body must be JSON",
            f"Content-Type is {call.content_type or 'missing'}.",
            remedy="Send Content-Type: application/json.",
        )
    if (call.content_encoding or "identity").strip().lower() != "identity":
        return Problem(
            415,
            "encoding-not-taken",
            "A compressed body is not taken",
            f"Content-Encoding is {call.content_encoding}.",
            remedy="Send it as it is.",
        )
    if call.body_bytes is not None and call.body_bytes > body_bytes_max:
        return too_large(body_bytes_max)
    return None


def too_large(body_bytes_max: int) -> Problem:
    return Problem(
        413,
        "too-large",
        "The body is too large",
        f"At most {body_bytes_max} bytes are taken.",
        remedy="Send less.",
    )
