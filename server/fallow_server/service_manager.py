"""Tells systemd how the server is, where it asked (``Type=notify``; sd_notify(3)): what waits for it need not guess."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
READY, STOPPING = "READY=1", "STOPPING=1"


def tell(state: str) -> None:
    """:param state: :data:`READY` once requests are served, :data:`STOPPING` from then on no more."""
    address = os.environ.get(SOCKET, "")
    if not address:
        return
    if address.startswith("@"):  # a name without a file
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address)
    except OSError as error:
        _log.warning("the service manager was not told %s: %s", state, error)
