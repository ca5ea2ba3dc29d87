"""The table of connections of the home's router, and how much of it may be the device's.

A router that does NAT keeps an entry for each connection; when the table is full, the household's new connections
fail, whatever the line could carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHARE_PERMILLE_MAX = 50
"""Of the table. 5 % of OpenWrt's 16384 are 819 connections, more than a home line can feed."""
NEARLY_FULL_PERMILLE = 850
"""From here on the household needs the rest for itself. It is read every few seconds, in which
:data:`..edge.arrivals.NEW_CONNECTIONS_BURST` and what follows add about a hundred entries."""
ASSUMED_TABLE_MAX = 4096
"""Of a router that cannot be asked: small ones have so many, all later ones more. 5 % of it are 204 connections."""
SYS_NETFILTER = Path("/proc/sys/net/netfilter")


@dataclass(frozen=True, slots=True)
class ConnectionTable:
    """Entries in use, by whomever, and at most."""

    count: int
    max: int


def read_table(directory: Path = SYS_NETFILTER) -> ConnectionTable | None:
    """The kernel's own table; None where it tracks no connections."""
    try:
        count = int((directory / "nf_conntrack_count").read_text("ascii"))
        size = int((directory / "nf_conntrack_max").read_text("ascii"))
    except (OSError, ValueError):
        return None
    return ConnectionTable(count, size) if size > 0 else None  # 0: without a limit


def connections_allowed(table: ConnectionTable | None, *, behind_router: bool) -> int:
    """How many connections the device may have open, idle ones included; 0 while a table is nearly full.

    :param table: the device's own, where it has one.
    :param behind_router: another router may stand before the device, whose table is not known.
    """
    assumed = _share(ASSUMED_TABLE_MAX)
    if table is None:
        return assumed
    if table.count * 1000 >= table.max * NEARLY_FULL_PERMILLE:
        return 0
    return min(_share(table.max), assumed) if behind_router else _share(table.max)


def _share(entries: int) -> int:
    return entries * SHARE_PERMILLE_MAX // 1000
