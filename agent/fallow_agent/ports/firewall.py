"""OpenWrt's own firewall: a rule that lets the service port in for as long as the device serves.

It is handed to ``procd`` as data of a service, where both firewalls of OpenWrt (fw3, fw4) look for rules besides those
of the owner's configuration, which is left as it is. A reload of the firewall by anybody keeps it; a reboot forgets it.
After a kill it stays until the next stop or reboot, and leads to a port at which nobody listens.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from ..host.command import output
from ..host.netifd import PROGRAM

_log = logging.getLogger(__name__)

RELEASE = Path("/etc/openwrt_release")
INIT = Path("/etc/init.d/firewall")
SERVICE = "fallow-port"
"""procd's name for the bearer of the rule; the agent's own service may be called anything."""


def rule(port: int) -> dict[str, object]:
    """What ``ubus call service set`` takes. Values are texts, as in the configuration of the firewall."""
    opened = {
        "type": "rule",
        "src": "wan",
        "proto": "tcp",
        "dest_port": str(port),
        "target": "ACCEPT",
    }
    return {"name": SERVICE, "data": {"firewall": [opened]}}


class Firewall:
    """:param init: the script that reloads the firewall."""

    def __init__(self, init: Path = INIT) -> None:
        self._init = init
        self.opened = False

    async def open(self, port: int) -> None:
        self.opened = await self._tell("set", rule(port))
        if not self.opened:
            _log.warning("OpenWrt's firewall could not be told to let TCP %d in: is the agent root?", port)

    async def close(self) -> None:
        self.opened = False
        await self._tell("delete", {"name": SERVICE})

    async def _tell(self, method: str, what: dict[str, object]) -> bool:
        ubus = shutil.which(PROGRAM)
        if ubus is None or await output(ubus, "call", "service", method, json.dumps(what)) is None:
            return False
        return await output(str(self._init), "reload") is not None


def firewall_here() -> Firewall | None:
    """None where the system is another: what its firewall is, only its owner knows."""
    return Firewall() if RELEASE.exists() else None
