"""Which addresses an origin may have: the guard against being sent into our own network (SSRF).

A name is resolved once, every address it has must be public, and the connection goes to exactly those addresses: a
second answer of a name server (DNS rebinding) is never asked for.
"""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """The origin has an address that is not public."""


def is_public(text: str) -> bool:
    """True for an address of the public internet, looked at through mappings that carry another one inside."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        if address.sixtofour is not None or address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def refused_literal(host: str) -> bool:
    """True for a host that is written as an address and may not be connected to.

    Address literals do not pass through a resolver, and ``2130706433`` is a literal too: what is made of digits, dots
    and colons must be the normal spelling of a public address.
    """
    bare = host.strip("[]")
    if ":" in bare or bare.replace(".", "").isdigit():
        return not is_public(bare)
    return False


class GuardedResolver(AbstractResolver):
    """Gives what ``inner`` finds, unless one of the addresses is not public.

    :raises AddressRefused: from :meth:`resolve`.
    """

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for result in found:
            if not is_public(result["host"]):
                raise AddressRefused(f"{host} has the address {result['host']}, which is not public")
        return found

    async def close(self) -> None:
        await self._inner.close()
