"""``python -m load NAME VALUES…``: one of the bench's processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from uvloop import new_event_loop

from . import bare, devices, server
from .parts import many_files

PARTS: dict[str, Callable[..., Awaitable[None]]] = {
    "server": server.server,
    "bare": bare.bare,
    "devices": devices.devices,
}

if __name__ == "__main__":
    many_files()
    name, *values = sys.argv[1:]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(PARTS[name](*values))
