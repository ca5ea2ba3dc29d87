"""What the line can carry: the most trusted thing that is known of it, and where that came from. Pure.

Each direction climbs down :data:`LADDER` by itself, until a rung is known and not too old. Then two corrections, by
what was seen on the line itself (``observed.py``):

- Queues that stood at a lower rate are believed before any rung, those of the last hours before those of weeks: the
  line is slower than it is by contract, now, as many are in the evening, or always. A word does not make it faster.
- A rate that the line has carried without a queue is no ceiling, but it was carried: no estimate stays far below it.

What the owner or SQM configured is an order not to use more; nothing lifts the answer above it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .metered import METERED

MBIT = 1_000_000
AUTO, ROUTER, BEHIND = POSITIONS = ("auto", "router", "behind")
HOUR_S = 3600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class LineConfig:
    """``up_mbps``, ``down_mbps``: what the line carries; 0 where it is not known. ``interface``: the WAN interface,
    None for that of the default route. ``position``: whether this device is the home's router, so that its counters see
    the household; ``auto`` takes it for one only where that is certain. ``ask_router``: ask the router it is behind, by
    UPnP, for its counters and the modem's rates. ``sqm``: OpenWrt's settings of its queues. ``metered``: patterns of
    WAN interfaces whose bytes cost money, over which nothing is shared."""

    up_mbps: float = 0.0
    down_mbps: float = 0.0
    interface: str | None = None
    position: str = AUTO
    ask_router: bool = True
    sqm: Path = Path("/etc/config/sqm")
    metered: tuple[str, ...] = METERED

    def __post_init__(self) -> None:
        if self.up_mbps < 0 or self.down_mbps < 0:
            raise ValueError("line.up_mbps, line.down_mbps: must not be negative")
        if self.position not in POSITIONS:
            raise ValueError(f"line.position: one of {', '.join(POSITIONS)}")


ASSUMED_UP_BPS = 2 * MBIT
ASSUMED_DOWN_BPS = 10 * MBIT
"""Where nothing is known: what nearly every home line carries, so that an assumption harms no household."""
CONGESTED_S_MAX = 2 * HOUR_S
"""For so long a queue that stood is believed to tell of now. Busy hours last longer, but then it stands again."""
CEILING_S_MAX = 14 * DAY_S
SLOWER_SHARE = 0.9
"""Of what the ladder says: a queue at a higher rate is the estimate's own error, and no news."""
FLOOR_SHARE = 1.25
"""Of what the ladder says: a line is a little faster in one hour than in another, and that is no news either."""
FLOOR_S_MAX = 2 * DAY_S
UNKNOWN, TRAIN = "unknown", "train"


@dataclass(frozen=True, slots=True)
class Rung:
    """``age_s_max``: what is older was of another line, maybe; None for what is in force until it is changed.
    ``order``: somebody's will rather than an estimate."""

    source: str
    age_s_max: int | None
    order: bool = False


LADDER = (
    Rung("configured", None, order=True),
    Rung("sqm", None, order=True),
    Rung("upnp", None),
    Rung("passive", CEILING_S_MAX),
    Rung(TRAIN, DAY_S),
    Rung("speedtest", 90 * DAY_S),
)
"""In order of trust."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One direction by one means. ``source``: of :data:`LADDER`, or ``unknown``. ``measured_at``: Unix time, None for
    what is in force now."""

    bps: int
    source: str
    measured_at: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the line itself showed of one direction, as ``observed.py`` keeps it. Each a rate with its Unix time.

    ``ceiling``: at which queues stood, of days. ``congested``: the same of the last ones alone.
    ``floor``: carried without a queue.
    """

    ceiling: Estimate | None = None
    congested: Estimate | None = None
    floor: Estimate | None = None


NOTHING_SEEN = Seen()


@dataclass(frozen=True, slots=True)
class Capacity:
    """In bit/s; ``source`` as in ``heartbeat.line.capacity_source``, ``down_source`` as in ``down_capacity_source``."""

    up_bps: int
    down_bps: int
    source: str
    measured_at: int | None = None
    down_source: str = UNKNOWN
    down_measured_at: int | None = None


def capacity_of(
    config: LineConfig,
    now_s: int = 0,
    *,
    up: Iterable[Estimate] = (),
    down: Iterable[Estimate] = (),
    seen_up: Seen = NOTHING_SEEN,
    seen_down: Seen = NOTHING_SEEN,
) -> Capacity:
    """The decision.

    :param up, down: what else is known, in any order: of SQM, the router, packet trains, a speed test.
    """
    sent = best(_with_configured(config.up_mbps, up), seen_up, now_s, ASSUMED_UP_BPS)
    # A configured upload alone: lines that carry less down than up are rare, and downloads are slow to harm anybody.
    mbps = config.down_mbps or config.up_mbps
    received = best(_with_configured(mbps, down), seen_down, now_s, ASSUMED_DOWN_BPS)
    return Capacity(sent.bps, received.bps, sent.source, sent.measured_at, received.source, received.measured_at)


def best(known: Iterable[Estimate], seen: Seen, now_s: int, assumed_bps: int) -> Estimate:
    """One direction's rung, corrected by what was seen."""
    estimates = [estimate for estimate in known if estimate.bps > 0]
    if seen.ceiling is not None:
        estimates.append(seen.ceiling)
    found, order = Estimate(assumed_bps, UNKNOWN), False
    for rung in LADDER:
        of_rung = [item for item in estimates if item.source == rung.source and _fresh(item, rung.age_s_max, now_s)]
        if of_rung:
            found, order = max(of_rung, key=lambda item: (item.measured_at or 0, -item.bps)), rung.order
            break
    said = found
    for slower, age_s_max in ((seen.congested, CONGESTED_S_MAX), (seen.ceiling, CEILING_S_MAX)):
        if slower is not None and _fresh(slower, age_s_max, now_s):
            if slower.bps < SLOWER_SHARE * said.bps:
                found = slower
            break
    floor = seen.floor
    if floor is not None and floor.bps > FLOOR_SHARE * found.bps and _fresh(floor, FLOOR_S_MAX, now_s):
        found = said if order and floor.bps >= said.bps else floor
    return found


def _fresh(estimate: Estimate, age_s_max: int | None, now_s: int) -> bool:
    """A date ahead of the clock is of a clock that was corrected since: its age is not known, so it is no news."""
    if age_s_max is None or estimate.measured_at is None:
        return True
    return 0 <= now_s - estimate.measured_at <= age_s_max


def _with_configured(mbps: float, known: Iterable[Estimate]) -> list[Estimate]:
    found = list(known)
    if mbps > 0:
        found.append(Estimate(int(mbps * MBIT), "configured"))
    return found


# ------------------------------------------------------------------ what was measured once, kept over restarts

KEPT_MAX = 8
BPS_MAX = 1_000_000 * MBIT


def as_json(measured: Iterable[Estimate]) -> list[list[object]]:
    """Trains and speed tests with their dates, the newest of each source; read by :func:`from_json`."""
    newest: dict[str, Estimate] = {}
    for estimate in sorted(measured, key=lambda item: item.measured_at or 0):
        if estimate.measured_at is not None:
            newest[estimate.source] = estimate
    return [[estimate.source, estimate.bps, estimate.measured_at] for estimate in newest.values()]


def from_json(value: object) -> list[Estimate]:
    """What was stored; entries that are not of this form are left out, for they can be measured again."""
    found = []
    for entry in value[:KEPT_MAX] if isinstance(value, list) else []:
        match entry:
            case [str(source), int(bps), int(at)] if source in _MEASURED and 0 < bps <= BPS_MAX:
                found.append(Estimate(bps, source, at))
    return found


_MEASURED = {rung.source for rung in LADDER if rung.age_s_max is not None}

# ------------------------------------------------------------------ the router's word

LAN_PORT_BPS = frozenset(speed * MBIT for speed in (10, 100, 1000, 2500, 5000, 10000))
"""Speeds of Ethernet ports. A router that is wired to its modem reports the port towards it."""
MODEM_BPS_MIN, MODEM_BPS_MAX = 128_000, 10_000 * MBIT


def of_modem(up_bps: int, down_bps: int, access_type: str, link_up: bool) -> tuple[list[Estimate], list[Estimate]]:
    """What ``GetCommonLinkProperties`` is worth: estimates for up and down, empty where it is worth nothing.

    Believed is a modem in the same box. Not believed: a line that is down, zeros, anything of Ethernet access, and a
    rate that is a LAN port's speed, for it may be that of the cable between router and modem. (Fibre of exactly 1
    Gbit/s loses by this, and finds its rate by what it carries.)
    """
    if not link_up or access_type == "Ethernet":
        return [], []
    up, down = (
        [Estimate(bps, "upnp")] if MODEM_BPS_MIN <= bps <= MODEM_BPS_MAX and bps not in LAN_PORT_BPS else []
        for bps in (up_bps, down_bps)
    )
    return up, down
