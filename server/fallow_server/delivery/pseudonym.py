"""A consumer's name in tickets: keyed, so that nobody can search addresses back, and new every day.

The key is drawn at random, lives in memory alone and is gone with the day (UTC) or the process: after that not even
the operator can tell which consumer a ticket was for.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

from fallow_wire.addresses import is_ipv4
from fallow_wire.encoding import base64url

from ..clock import Clock

DAY_S = 86_400
KEY_BYTES = 32
NAME_BYTES = 16
POOL_CHARS = 11
"""64 bits: a day has thousands of regions."""


@lru_cache(maxsize=256)  # one request asks some times
def prefix_of(address: str) -> str:
    """What stands for one consumer: an IPv4 address, or the /64 that a home gets of IPv6."""
    if is_ipv4(address):
        return address + "/32"  # as most are; to read one and to write it again takes twenty times as long
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
        ip = ip.ipv4_mapped
    return f"{ip}/32"


def family_of(address: str) -> str:
    """``ipv4`` or ``ipv6``."""
    return "ipv6" if ":" in prefix_of(address) else "ipv4"


def line_of(address: str) -> str:
    """What stands for one line that devices serve over: the IPv4 /24, or the /56 that providers give a home of IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    found = mapped or ip
    return str(ipaddress.ip_network((int(found) >> 72 << 72, 56) if found.version == 6 else (int(found) >> 8 << 8, 24)))


def home_of(address: str) -> str:
    """What stands for one home within its :func:`line_of`: an address of IPv4, which a router shares among its devices;
    of IPv6 the line itself, which is one home's."""
    return prefix_of(address) if family_of(address) == "ipv4" else line_of(address)


class Pseudonyms:
    def __init__(self, clock: Clock, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._randomness = randomness
        self._day = -1
        self._key = b""

    def of(self, address: str) -> str:
        """22 characters of base64url for the address's prefix, the same for one UTC day of one process."""
        return self._name(prefix_of(address))

    def line(self, line: str) -> str:
        """The same for a device's line as :func:`line_of` gives it; no line has the name of a consumer."""
        return self._name(f"line {line}")

    def pool(self, name: str) -> str:
        """The same, of half the length, for a region that devices are chosen from."""
        return self._name(f"pool {name}")[:POOL_CHARS]

    def _name(self, prefix: str) -> str:
        day = self._clock.now() // DAY_S
        if day != self._day:
            self._day, self._key = day, self._randomness(KEY_BYTES)
        return base64url(blake2b(prefix.encode("ascii"), key=self._key, digest_size=NAME_BYTES).digest())
