"""How good a place a device is for a copy: larger is better, and the parts are named so that they can be shown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .views import Demand, DeviceView

FORECAST_HOURS = 6
"""A copy is mostly asked for soon after it was made; further hours of the forecast are less certain."""


@dataclass(frozen=True, slots=True)
class Score:
    """``line_bps`` is what the line is expected to give; the others are shares from 0 to 1 that it is scaled by."""

    line_bps: float
    disk_share: float
    processor_share: float
    load_share: float

    @property
    def value(self) -> float:
        return self.line_bps * self.disk_share * self.processor_share * self.load_share


def score(device: DeviceView, size_bytes: int, pending_bytes: int = 0) -> Score:
    """The score of ``device`` for a copy of ``size_bytes``.

    :param pending_bytes: assigned to it already in this round, beyond ``committed_bytes``. Every pending byte makes
        the next one wait, so a round spreads over equals instead of piling on the first.
    """
    hours = device.foreseen_up_bps[:FORECAST_HOURS] or (device.idle_up_bps,)
    room = device.disk_room_bytes - pending_bytes
    waiting = device.committed_bytes + pending_bytes
    return Score(
        line_bps=sum(hours) / len(hours),
        disk_share=max(0.0, min(1.0, (room - size_bytes) / max(1, device.disk_quota_bytes))),
        processor_share=0.5 + device.spare_percent / 200,
        load_share=1 / (1 + waiting / max(1, size_bytes)),
    )


def copy_score(device: DeviceView, demand: Demand) -> dict[str, float]:
    """The parts of :func:`score` as they are told, the line in Mbit/s."""
    found = score(device, demand.size_bytes)
    return {
        "value": found.value / 1e6,
        "line_mbps": found.line_bps / 1e6,
        "disk_share": found.disk_share,
        "processor_share": found.processor_share,
        "load_share": found.load_share,
    }


def rendezvous(object_id: str, device_id: str) -> int:
    """A fixed draw for the pair: equals are taken in another order for every object (rendezvous hashing)."""
    return int.from_bytes(hashlib.sha256(f"{object_id} {device_id}".encode()).digest()[:8], "big")
