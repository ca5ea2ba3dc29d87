"""Sockets that listen, on one address or on all of both families."""

from __future__ import annotations

import socket

from fallow_wire.errors import LocalError

UNTAKEN_MS_MAX = 60_000
"""A peer that takes nothing of what waits for it is cut: answers have up to 16 MiB, and anyone may ask for them."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on ``host``; on all addresses of both families when it is empty.

    :raises LocalError: when the port is taken or the address is not of this machine.
    """
    hosts = [host] if host else ["0.0.0.0", "::"]
    sockets: list[socket.socket] = []
    for one in hosts:
        try:
            family = socket.AF_INET6 if ":" in one else socket.AF_INET
            found = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(found)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted connections inherit it. No timer of ours could see inside the kernel's buffer.
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MS_MAX)
            if family == socket.AF_INET6:
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.bind((one, port))
            port = found.getsockname()[1]
        except OSError as error:
            if one == "::" and len(sockets) > 1:
                sockets.pop().close()  # this machine has no IPv6
                continue
            for opened in sockets:
                opened.close()
            raise LocalError(f"cannot listen on {one} port {port}: {error.strerror}") from None
    return sockets
