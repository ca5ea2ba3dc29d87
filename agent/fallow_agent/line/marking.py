"""The Lower-Effort mark (RFC 8622, DSCP 1) on what the device sends.

A router that runs CAKE puts such packets into its Bulk tin, behind everything that the household sends. Where nobody
looks at the mark it does no harm; where the provider clears it, the budget alone keeps the household's line free.
"""

from __future__ import annotations

import asyncio.trsock
import logging
import socket

_log = logging.getLogger(__name__)

LOWER_EFFORT_TOS = 1 << 2
"""DSCP 1 in the upper six bits of the former TOS byte; the lower two are the kernel's, for congestion (ECN)."""


class LowerEffort:
    """Marks sockets. A kernel that refuses costs the mark alone, and is told about once."""

    def __init__(self) -> None:
        self._refused = False

    def mark(self, sock: socket.socket | asyncio.trsock.TransportSocket) -> None:
        """All that ``sock`` sends from now on, and what connections accepted from it send."""
        try:
            # An IPv6 socket also carries IPv4 (mapped addresses), and its packets then take the mark of IPv4.
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, LOWER_EFFORT_TOS)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, LOWER_EFFORT_TOS)
        except OSError as error:
            if not self._refused:
                self._refused = True
                _log.warning("packets go without the Lower-Effort mark: %s", error.strerror or error)
