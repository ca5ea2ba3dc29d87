"""Which addresses are of the public internet, and which hosts only a private network knows. Pure."""

from __future__ import annotations

import ipaddress
import re

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
"""IPv4 inside of IPv6, as it was written once."""
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}\Z")
LOCAL_SUFFIXES = (".local", ".lan", ".home", ".home.arpa", ".internal", ".localhost", ".test")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_ipv4(text: str) -> bool:
    """True for an IPv4 address in its usual text, which needs no reading then."""
    return _IPV4.match(text) is not None


def parsed(text: str) -> Address | None:
    """The address, IPv4 where it is IPv4 in the form of IPv6; None for what is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def carried(address: Address) -> Address:
    """The IPv4 address that NAT64 makes of one of IPv6; any other as it is."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(text: str) -> bool:
    """True for an address of the public internet, looked at through mappings that carry another one inside."""
    address = parsed(text)
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(str(carried(address)))
        if address.sixtofour or address.teredo or address.is_site_local or address in _COMPATIBLE:
            return False
        if address in _NAT64_LOCAL:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_literal(host: str) -> bool:
    """True for a host that a system's resolver takes for an address and not for a name: ``2130706433``, ``0x7f.1`` and
    ``0177.1`` are addresses to it too."""
    labels = host.strip("[]").split(".")
    return ":" in host or all(_is_number(label) for label in labels)


def _is_number(label: str) -> bool:
    if label[:2] in ("0x", "0X"):
        return all(digit in "0123456789abcdefABCDEF" for digit in label[2:])
    return label.isascii() and label.isdigit()
