"""What the live fleet comes to, counted some devices at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .live import Fleet

COUNTED_AT_ONCE = 2000
"""Devices, before others have their turn on the loop: a millisecond."""


@dataclass(slots=True)
class Totals:
    connected: int = 0
    reachable: int = 0
    paused: int = 0
    idle_up_bps: int = 0
    connections: int = 0


async def totals_of(fleet: Fleet) -> Totals:
    totals = Totals()
    for number, device in enumerate(list(fleet.devices()), 1):
        totals.connected += 1
        totals.reachable += bool(device.service_urls)
        beat = device.heartbeat
        if beat is not None:
            totals.paused += beat.state == "paused"
            totals.idle_up_bps += beat.line.idle_up_bps
            totals.connections += beat.connections
        if number % COUNTED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return totals
