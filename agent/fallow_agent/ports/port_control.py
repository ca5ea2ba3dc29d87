"""Asks the home router for a port by PCP and by NAT-PMP: one small packet each way."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from . import NATPMP, PCP, natpmp, pcp
from .opening import LIFETIME_S, NO_ADDRESS, Ask, Grant, Granted, Outcome, Refused, Silent, Taken

T = TypeVar("T")

TRIES_S = (0.5, 1.0, 2.0)
"""What is waited for an answer before the packet is sent again; three packets at most."""
ANSWERS_MAX = 16
"""Packets looked at for one answer."""


@dataclass(frozen=True, slots=True)
class Way:
    """From the device's ``own`` address to its ``router``, whose link-local address counts on ``interface``.

    ``over_ipv4``: router and own address by IPv4, where the router's UPnP is, for IPv6 too.
    """

    router: str
    own: str
    over_ipv4: tuple[str, str]
    interface: str | None = None

    @property
    def family(self) -> str:
        return f"ipv{ipaddress.ip_address(self.own).version}"


class NoAnswer(Exception):
    """The router is silent, or says by ICMP that nobody listens there."""


class Pcp:
    """:param nonce: 12 bytes, the same after a restart too: with another one the router refuses its own device.
    :param told: hears of the router's time with each answer."""

    by = PCP

    def __init__(self, nonce: bytes, told: Callable[[Way, int], None]) -> None:
        assert len(nonce) == pcp.NONCE_BYTES
        self._nonce = nonce
        self._told = told

    async def ask(self, way: Way, port: int, ask: Ask) -> Outcome:
        try:
            found = await self._exchange(way, port, ask.port, LIFETIME_S)
        except NoAnswer:
            return Silent()
        if found.epoch_s is not None:
            self._told(way, found.epoch_s)
        if found.result == pcp.UNSUPPORTED_VERSION:
            return Silent()  # it speaks NAT-PMP, which is asked next
        if found.result == pcp.CANNOT_PROVIDE_EXTERNAL:
            return Taken()
        if found.result != pcp.SUCCESS or not found.external_port or not found.lifetime_s:
            return Refused(_reason(pcp.RESULTS, pcp.NETWORK_FAILURE, found.result))
        return Granted(Grant(PCP, found.external_address, found.external_port, found.lifetime_s))

    async def release(self, way: Way, port: int, ask: Ask) -> None:
        try:
            await self._exchange(way, port, 0, 0)
        except NoAnswer:
            pass  # it ends by itself

    async def _exchange(self, way: Way, port: int, external_port: int, lifetime_s: int) -> pcp.Answer:
        packet = pcp.request(ipaddress.ip_address(way.own), self._nonce, port, external_port, lifetime_s)
        return await exchange(way, packet, lambda received: pcp.answer(received, self._nonce, port))


class NatPmp:
    """IPv4 alone. :param told: as of :class:`Pcp`."""

    by = NATPMP

    def __init__(self, told: Callable[[Way, int], None]) -> None:
        self._told = told

    async def ask(self, way: Way, port: int, ask: Ask) -> Outcome:
        try:
            address = await exchange(way, natpmp.ADDRESS_REQUEST, natpmp.address_answer)
            if address.result != natpmp.SUCCESS:
                return Refused(_reason(natpmp.RESULTS, natpmp.NETWORK_FAILURE, address.result))
            found = await self._map(way, port, ask.port, LIFETIME_S)
        except NoAnswer:
            return Silent()
        self._told(way, found.epoch_s)
        if found.result != natpmp.SUCCESS or not found.external_port or not found.lifetime_s:
            return Refused(_reason(natpmp.RESULTS, natpmp.NETWORK_FAILURE, found.result))
        return Granted(Grant(NATPMP, address.address, found.external_port, found.lifetime_s))

    async def release(self, way: Way, port: int, ask: Ask) -> None:
        try:
            await self._map(way, port, 0, 0)
        except NoAnswer:
            pass

    async def _map(self, way: Way, port: int, external_port: int, lifetime_s: int) -> natpmp.MappingAnswer:
        packet = natpmp.mapping_request(port, external_port, lifetime_s)
        return await exchange(way, packet, lambda received: natpmp.mapping_answer(received, port))


async def exchange(way: Way, packet: bytes, read: Callable[[bytes], T | None]) -> T:
    """Send ``packet`` until ``read`` makes something of an answer. Only the router's own packets are looked at.

    :raises NoAnswer: after all tries, or at once where nobody listens.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in way.own else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        try:
            channel.bind((way.own, 0))
            channel.connect(_target(way))
            for wait_s in TRIES_S:
                await loop.sock_sendall(channel, packet)
                try:
                    async with asyncio.timeout(wait_s):
                        for _ in range(ANSWERS_MAX):
                            found = read(await loop.sock_recv(channel, pcp.PACKET_BYTES_MAX + 1))
                            if found is not None:
                                return found
                except TimeoutError:
                    continue
        except OSError as error:
            raise NoAnswer(str(error)) from None
    raise NoAnswer("no answer")


def _target(way: Way) -> tuple[str, int] | tuple[str, int, int, int]:
    if ":" not in way.router:
        return way.router, pcp.SERVER_PORT
    scope = socket.if_nametoindex(way.interface) if way.interface is not None else 0
    return way.router, pcp.SERVER_PORT, 0, scope


def _reason(names: tuple[str, ...], network_failure: int, result: int) -> str:
    if result == network_failure:
        return NO_ADDRESS
    if result == pcp.SUCCESS:
        return "it grants no port"
    return names[result] if result < len(names) else f"error {result}"
