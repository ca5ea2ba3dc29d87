"""A heartbeat of a good device, and variations of it."""

from __future__ import annotations

import dataclasses

from fallow_wire.session import Disk, Environment, Heartbeat, Line, Processor, ServicePort

MBIT = 1_000_000
LINE = Line(20 * MBIT, 100 * MBIT, "configured", 0, 0, 0, 0, 17 * MBIT, 85 * MBIT)
HEARTBEAT = Heartbeat(
    "active",
    LINE,
    (17 * MBIT,) * 24,
    Disk(10**10, 0, 10**11, "ssd"),
    Processor(4, "aarch64", 90, 10**8, 51),
    Environment((ServicePort("tcp", 32557, "ipv4", "203.0.113.5", "manual"),), "private", "Linux", "Pi 4", "0.1.0"),
    ("object", "fill"),
)


def with_line(**changes: int) -> Heartbeat:
    return dataclasses.replace(HEARTBEAT, line=dataclasses.replace(LINE, **changes))


def plain(beat: Heartbeat) -> Heartbeat:
    """As it came: a server keeps the forecast as an array."""
    return dataclasses.replace(beat, forecast_idle_up_bps=tuple(beat.forecast_idle_up_bps))
