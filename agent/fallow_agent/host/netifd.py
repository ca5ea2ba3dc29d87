"""What OpenWrt's network daemon calls the internet: ``ubus call network.interface.wan status``."""

from __future__ import annotations

import json
import shutil

from .command import output

PROGRAM = "ubus"
INTERFACES = ("wan", "wan6")
"""netifd's names, not devices; an installation with others has its default route."""
BYTES_MAX = 256 * 1024
_NAME_MAX = 15


def l3_device(told: bytes) -> str | None:
    """The device that carries the packets (``pppoe-wan`` over ``eth1``), or None while the interface is down."""
    try:
        status = json.loads(told[:BYTES_MAX])
    except ValueError:
        return None
    if not isinstance(status, dict) or status.get("up") is not True:
        return None
    device = status.get("l3_device")
    # It becomes part of a path: what no interface can be called is none.
    if not isinstance(device, str) or not 0 < len(device) <= _NAME_MAX or "/" in device or device in (".", ".."):
        return None
    return device


async def wan_device() -> str | None:
    """The WAN device by netifd, or None where it is down or there is no netifd. Takes some ms on a router."""
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    for interface in INTERFACES:
        told = await output(program, "call", f"network.interface.{interface}", "status")
        device = None if told is None else l3_device(told)
        if device is not None:
            return device
    return None
