"""Which addresses an origin may have: the guard against being sent into our own network (SSRF).

A name is resolved once, every address it has must be public, and the connection goes to exactly those addresses: a
second answer of a name server (DNS rebinding) is never asked for.
"""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from fallow_wire.addresses import is_literal, is_public


class AddressRefused(OSError):
    """The origin has an address that is not public."""


def refused_literal(host: str) -> bool:
    """True for a host that is written as an address and may not be connected to: literals pass through no resolver."""
    return is_literal(host) and not is_public(host.strip("[]"))


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
