"""Who is able to see the household: the router itself, at once; a device behind it, late or not at all.

A device is taken for the router only where that is certain. One that is behind a router and took its own counters for
the home's would believe the household to be silent, and never yield.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from .capacity import AUTO, BEHIND, ROUTER
from .meter import Meter, Rates
from .path import in_home
from .router import RouterTraffic

UNSEEN_AFTER_S = 5.0
"""An interface that has been away for so long may be another one by now: its last reading tells nothing any more."""
COUNTERS, BY_ROUTER, BY_QUEUE = "counters", "router", "queue"


def position(configured: str, wan_address: str | None, *, openwrt: bool) -> str:
    """``router`` or ``behind``.

    :param configured: of :data:`.capacity.POSITIONS`.
    :param wan_address: the IPv4 address on the way out, None where there is none.
    :param openwrt: a router by its system; it may have a private address, behind the provider's own router.
    """
    if configured != AUTO:
        return configured
    if openwrt:
        return ROUTER
    if wan_address is None:
        return BEHIND  # IPv6 alone gives public addresses to every device of the home
    return BEHIND if ipaddress.IPv4Address(wan_address).is_loopback or in_home(wan_address) else ROUTER


@dataclass(frozen=True, slots=True)
class Sight:
    """``rates``: the household's, None where they are not seen; ``total``: with ours. ``prompt``: of this very step."""

    rates: Rates | None = None
    total: Rates | None = None
    prompt: bool = False


class Household:
    """Seen by the WAN interface's counters, by the router's own, or not at all.

    ``position`` and ``traffic`` are set by whoever finds them out (:mod:`.survey`).
    """

    def __init__(self, meter: Meter, position: str = BEHIND) -> None:
        self.meter = meter
        self.position = position
        self.traffic = RouterTraffic()
        self._rates = Rates(0, 0)
        """As it was measured last: a reading that is skipped does not make the line idle."""
        self._seen_at: float | None = None

    @property
    def seen_by(self) -> str:
        """``counters``, ``router`` or ``queue``: for the owner to read."""
        if self.position == ROUTER:
            return COUNTERS
        return BY_ROUTER if self._by_router is not None else BY_QUEUE

    def see(self, monotonic: float, own: Rates) -> Sight:
        """In each step of the line. :param own: what Fallow itself sent and received since the step before."""
        if self.position != ROUTER:
            self._seen_at = None
            return Sight(self._by_router, self.traffic.total)
        total = self.meter.read(monotonic)
        if total is not None or self._seen_at is None:
            self._seen_at = monotonic
        if total is not None:
            self._rates = Rates(max(0, total.up_bps - own.up_bps), max(0, total.down_bps - own.down_bps))
        elif monotonic - self._seen_at > UNSEEN_AFTER_S:
            return Sight()
        return Sight(self._rates, total, prompt=True)

    def close(self) -> None:
        self.meter.close()

    @property
    def _by_router(self) -> Rates | None:
        return self.traffic.household if self.traffic.credible else None
