"""Shows the scheduler the device's address of the family that its session does not use.

A session comes by IPv4 or by IPv6, and the scheduler dials back only where the device has come from. So a device that
has both calls once by the other: else a port that the router opened for IPv4 would count for nothing while the session
uses IPv6.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping

import aiohttp
from fallow_wire.session import Reachability
from yarl import URL

_log = logging.getLogger(__name__)

AGAIN_S = 1500.0
"""The scheduler lets an address count for an hour."""
SOON_S = 60.0
"""At least so long between two calls."""
CALL_S = 20.0
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def other_family(seen: Reachability | None, own: Mapping[str, str]) -> str | None:
    """The family by which the scheduler should be called, or None: it is not known yet whence the session comes, or
    the device has no other.

    :param own: the device's addresses by family.
    """
    if seen is None:
        return None
    other = "ipv4" if ":" in seen.addresses[0] else "ipv6"
    return other if other in own else None


class OtherFamily:
    """:param scheduler: its URL. :param token: the device's. :param own: its addresses now, by family."""

    def __init__(
        self, scheduler: str, token: str, own: Callable[[], Mapping[str, str]], headers: Mapping[str, str]
    ) -> None:
        self._url = scheduler.rstrip("/") + "/v1/session/address"
        self._headers = {**headers, "Authorization": f"Bearer {token}"}
        self._own = own
        self._seen: Reachability | None = None
        self._wake = asyncio.Event()

    def take(self, seen: Reachability) -> None:
        """What the scheduler knows. A new session knows one address."""
        self._seen = seen
        if len(seen.addresses) == 1:
            self._wake.set()

    async def run(self) -> None:
        """Call whenever there is need, until cancelled."""
        if is_literal(self._url):
            return  # it has one address
        while True:
            family = other_family(self._seen, self._own())
            self._wake.clear()
            if family is not None:
                await self._call(family)
                await asyncio.sleep(SOON_S)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _call(self, family: str) -> None:
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        connector = aiohttp.TCPConnector(family=_FAMILIES[family])
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            try:
                async with http.post(self._url, allow_redirects=False) as response:
                    _log.debug("called the scheduler by %s: %d", family, response.status)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.debug("the scheduler is not reached by %s: %r", family, error)


def is_literal(url: str) -> bool:
    """True for a URL whose host is an address."""
    try:
        ipaddress.ip_address(URL(url).host or "")
    except ValueError:
        return False
    return True
