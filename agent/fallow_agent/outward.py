"""Where the scheduler may send this device: to the public internet, and nowhere into the owner's home.

The scheduler names the ledger and the sources of fills. Without rules it could name the router's admin page, a printer,
or the device itself; behind IPv6 these have public addresses too. A name is resolved once, and the connection goes to
the addresses that were looked at, so that a second answer cannot differ (DNS rebinding).

Only where the owner sent the device to a scheduler in a private network itself, as in a laboratory, may it name others
there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from fallow_wire.addresses import LOCAL_SUFFIXES, is_literal, is_public, parsed
from yarl import URL

from .lan.guard import InterfaceAddress
from .lan.interfaces import read_addresses


class AddressRefused(aiohttp.ClientConnectionError):
    """The scheduler named an address at the owner's home."""


def is_private(url: str) -> bool:
    """True for a URL whose host only a private network knows."""
    host = (URL(url).host or "").lower().removesuffix(".")
    if parsed(host) is not None:
        return not is_public(host)
    return "." not in host or host.endswith(LOCAL_SUFFIXES)


class Outward:
    """:param own: reads the device's own addresses, with their subnets."""

    def __init__(self, own: Callable[[], Iterable[InterfaceAddress]] = read_addresses) -> None:
        self._own = own

    def may_connect(self, text: str) -> bool:
        """True for a public address that is neither the device's own nor of an IPv6 subnet that it is in."""
        address = parsed(text)
        if address is None or not is_public(text):
            return False
        # On IPv4, a public subnet is the provider's and its neighbours are strangers; on IPv6 it is the home's.
        neighbours = address.version == 6
        return not any(own.address == address or (neighbours and own.contains(address)) for own in self._own())

    def refuses(self, host: str) -> bool:
        """True for a host that is written as an address and may not be connected to."""
        return is_literal(host) and not self.may_connect(host)

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """A client that connects to nothing else, and keeps no cookies. Options as of aiohttp's."""
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._check)
        trace.on_request_redirect.append(_refuse_redirect)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Resolver(self)),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
            **options,
        )

    async def _check(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        # Literals do not pass through a resolver.
        if self.refuses(params.url.host or ""):
            raise AddressRefused(f"{params.url.host} is not a public address outside of this home")


class _Resolver(AbstractResolver):
    def __init__(self, outward: Outward) -> None:
        self._outward = outward
        self._inner = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> list[Any]:
        found = await self._inner.resolve(host, port, family)
        allowed = [entry for entry in found if self._outward.may_connect(entry["host"])]
        if not allowed:
            raise OSError(f"{host} has no public address outside of this home")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    raise AddressRefused("redirects are not followed")


def fault_of(error: Exception) -> str:
    """What went wrong on the way to another device, without its address: that is a household's, and is for no log."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else type(error).__name__
