"""Whether this device is among those that the server advises to update, and whether an update has done well. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallow_wire.session import AgentAdvice

_NUMBERS = re.compile(r"(\d+(?:\.\d+)*)")
SHARES = 100
DORMANT, ACTIVATING, LEAVING = "dormant", "activating", "leaving"


@dataclass(frozen=True, slots=True)
class UpgradeConfig:
    """``automatic``: once a day, where the package has a timer for it, an update that the server advises is installed
    from the owner's package sources. Nothing else changes this device by itself."""

    automatic: bool = True


def parsed(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with; what follows them, as in ``1.2.0-1``, is the packager's."""
    found = _NUMBERS.match(version)
    return tuple(int(number) for number in found[1].split(".")) if found else ()


def share_of(device_id: str, version: str) -> int:
    """0 … 99: where this device stands in the fleet; another order for each version, so that nobody is always first."""
    digest = hashlib.sha256(f"fallow-update-v1\n{version}\n{device_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % SHARES


def advised(advice: AgentAdvice | None, device_id: str, running: str) -> str | None:
    """The version that this device should have, where that is newer than the one that runs."""
    if advice is None or parsed(advice.version) <= parsed(running):
        return None
    return advice.version if share_of(device_id, advice.version) < advice.percent else None


@dataclass(frozen=True, slots=True)
class Health:
    """How an agent is, as far as an update must leave it so."""

    version: str
    state: str
    connected: bool

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> Health:
        """:param status: of port M, of this release or another."""
        uplink = status.get("uplink")
        connected = isinstance(uplink, Mapping) and uplink.get("connected") is True
        return cls(str(status.get("version", "")), str(status.get("state", "")), connected)


def fault(before: Health | None, now: Health | None, version: str) -> str | None:
    """What is worse than before the update; None when all is well.

    :param before: None where the agent did not run.
    :param now: None while it does not answer.
    """
    if now is None:
        return "the agent does not answer"
    if parsed(now.version) != parsed(version):
        return f"version {now.version} runs instead of {version}"
    if before is None or before.state in (ACTIVATING, LEAVING):
        return None
    if now.state != before.state:
        return f"the device is {now.state}, and was {before.state}"
    if before.connected and not now.connected:
        return "the device has lost its server"
    return None
