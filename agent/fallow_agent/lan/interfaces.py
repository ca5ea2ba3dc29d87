"""The device's own addresses, read again when they may have changed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

from .guard import InterfaceAddress, Lan, lan_side

REREAD_S = 5.0
"""Addresses change rarely (DHCP, a cable): a stale list refuses a phone, or trusts a subnet, for so long at most."""


def read_addresses() -> tuple[InterfaceAddress, ...]:
    """All addresses of all interfaces, from the kernel."""
    found = []
    for interface, addresses in psutil.net_if_addrs().items():
        for entry in addresses:
            if entry.family not in (socket.AF_INET, socket.AF_INET6) or entry.netmask is None:
                continue
            address = ipaddress.ip_address(entry.address.partition("%")[0])
            mask = int(ipaddress.ip_address(entry.netmask))
            found.append(InterfaceAddress(interface, address, mask.bit_count()))
    return tuple(found)


class Interfaces:
    """The LAN side of the device, at most :data:`REREAD_S` old."""

    def __init__(
        self,
        interfaces: tuple[str, ...],
        names: tuple[str, ...],
        monotonic: Callable[[], float],
        read: Callable[[], tuple[InterfaceAddress, ...]] = read_addresses,
    ) -> None:
        """:param interfaces: names of the LAN interfaces; empty: those with a private IPv4 address.
        :param names: host names that the device goes by."""
        self._interfaces = interfaces
        self._names = names
        self._monotonic = monotonic
        self._read = read
        self._lan = Lan()
        self._read_at: float | None = None

    def lan(self) -> Lan:
        now = self._monotonic()
        if self._read_at is None or now - self._read_at >= REREAD_S:
            self._lan = lan_side(self._read(), self._interfaces, self._names)
            self._read_at = now
        return self._lan
