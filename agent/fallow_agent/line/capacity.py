"""What the line can carry: what the owner configured, else a prudent assumption that says so."""

from __future__ import annotations

from dataclasses import dataclass

from .metered import METERED

MBIT = 1_000_000


@dataclass(frozen=True, slots=True)
class LineConfig:
    """``up_mbps``, ``down_mbps``: what the line carries; 0 where it is not known. ``interface``: the WAN interface,
    None for that of the default route. ``metered``: patterns of WAN interfaces whose bytes cost money; while the line
    goes through one, nothing is shared."""

    up_mbps: float = 0.0
    down_mbps: float = 0.0
    interface: str | None = None
    metered: tuple[str, ...] = METERED

    def __post_init__(self) -> None:
        if self.up_mbps < 0 or self.down_mbps < 0:
            raise ValueError("line.up_mbps, line.down_mbps: must not be negative")


ASSUMED_UP_BPS = 2 * MBIT
ASSUMED_DOWN_BPS = 10 * MBIT
"""Where nothing is known: what nearly every home line carries, so that an assumption harms no household."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """In bit/s; ``source`` as in ``heartbeat.line.capacity_source``."""

    up_bps: int
    down_bps: int
    source: str


def capacity_of(config: LineConfig) -> Capacity:
    if config.up_mbps > 0:
        down_mbps = config.down_mbps or config.up_mbps
        return Capacity(int(config.up_mbps * MBIT), int(down_mbps * MBIT), "configured")
    return Capacity(ASSUMED_UP_BPS, ASSUMED_DOWN_BPS, "unknown")
