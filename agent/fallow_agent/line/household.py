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
CHECK_S = 1.0
"""Our count is compared with the interface's over so long: within a step they may be read a packet apart."""
CHECK_BYTES = 125_000
"""Of ours in that time: 1 Mbit/s. With less, the household's packets decide."""
OWN_FACTOR_MIN = 0.95
"""Headers are 4.4 % of full packets; an interface that counts still less is not ours."""
OWN_FACTOR_GROWTH = 0.001
"""In each check that does not lower it."""
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


@dataclass(frozen=True, slots=True)
class OwnFactor:
    """What of our own bytes one direction of the interface counts. Pure.

    Sockets count the headers of each packet; some drivers count those of a large segment once, which the network card
    cuts. As nobody uses less than nothing, a total below our own shows it. It drops at once and rises slowly.
    """

    factor: float = 1.0
    seconds: float = 0.0
    total_bytes: float = 0.0
    own_bytes: float = 0.0

    def after(self, seconds: float, total_bps: int, own_bps: int) -> OwnFactor:
        """:param seconds: that the two rates are averages over."""
        step = OwnFactor(
            self.factor,
            self.seconds + seconds,
            self.total_bytes + total_bps / 8 * seconds,
            self.own_bytes + own_bps / 8 * seconds,
        )
        if step.seconds < CHECK_S:
            return step
        if step.own_bytes < CHECK_BYTES:
            return OwnFactor(self.factor)
        found = step.total_bytes / step.own_bytes
        if found < self.factor:
            return OwnFactor(max(OWN_FACTOR_MIN, found))
        return OwnFactor(min(1.0, self.factor + OWN_FACTOR_GROWTH))


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
        self._own_up, self._own_down = OwnFactor(), OwnFactor()

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
        before = self._seen_at
        if total is not None or before is None:
            self._seen_at = monotonic
        if total is not None:
            elapsed = 0.0 if before is None else monotonic - before
            self._own_up = self._own_up.after(elapsed, total.up_bps, own.up_bps)
            self._own_down = self._own_down.after(elapsed, total.down_bps, own.down_bps)
            self._rates = Rates(
                max(0, total.up_bps - int(own.up_bps * self._own_up.factor)),
                max(0, total.down_bps - int(own.down_bps * self._own_down.factor)),
            )
        elif before is not None and monotonic - before > UNSEEN_AFTER_S:
            return Sight()
        return Sight(self._rates, total, prompt=True)

    def close(self) -> None:
        self.meter.close()

    @property
    def _by_router(self) -> Rates | None:
        return self.traffic.household if self.traffic.credible else None
