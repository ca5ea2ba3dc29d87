"""What devices were promised to consumers: each request that was sent to one, until it is likely to be over.

A transfer takes whatever the line has to spare, so what a device sends says nothing of what it could still take on:
with one consumer it is busy, and with three each gets a third. What may not exceed the idle line is what they were
sent there for. So requests are counted with the rate that they need, and not with the one that they get.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

BOOKABLE_PERMILLE = 750
"""Of what is idle; the rest is for what a household does meanwhile."""


def bookable_bps(idle_up_bps: int) -> int:
    """What may be promised of a line that has so much idle."""
    return idle_up_bps * BOOKABLE_PERMILLE // 1000


REST_S = 1800
"""After a household took back what was promised already: its consumers may stay so long, and an upload that has begun
goes on by fits and starts. Half of all overruns came from what was promised anew meanwhile."""


@dataclass(slots=True)
class Booked:
    """What :class:`Bookings` keeps of a device; others only read it. ``bps``: all ``rates`` together. ``fresh``: of how
    many the last heartbeat shows nothing yet. ``rests_until``: when more may be booked, by the clock that
    :meth:`Bookings.heard` was told."""

    bps: int
    fresh: int
    rests_until: float
    rates: deque[int] = field(default_factory=deque, compare=False)


NOTHING_BOOKED = Booked(0, 0, 0.0)


class Bookings:
    """Rates in bit/s. As many as devices serve connections, and those of one heartbeat; devices that rest besides.

    :param rest_s: how long, after their household took back what was promised.
    """

    def __init__(self, rest_s: float = REST_S) -> None:
        self._rest_s = rest_s
        self._made: dict[str, Booked] = {}

    def book(self, device_id: str, bps: int) -> None:
        """A consumer was sent to the device."""
        made = self._made.get(device_id)
        if made is None:
            made = self._made[device_id] = Booked(0, 0, 0.0)
        made.rates.append(bps)
        made.bps += bps
        made.fresh += 1

    def heard(self, device_id: str, connections: int, idle_up_bps: int, now: float) -> None:
        """A heartbeat shows how many consumers the device serves: of what it was sent, the oldest is over first. Who
        was sent there since the last heartbeat may still be on the way. Where less is idle than was promised, the
        device rests. :param now: seconds."""
        made = self._made.get(device_id)
        if made is None:
            return
        going = max(connections, made.fresh)
        while len(made.rates) > going:
            made.bps -= made.rates.popleft()
        made.fresh = 0
        if made.bps > idle_up_bps:
            made.rests_until = now + self._rest_s
        if not made.rates and made.rests_until <= now:
            del self._made[device_id]

    def forget(self, device_id: str) -> None:
        self._made.pop(device_id, None)

    def booked(self, device_id: str) -> Booked:
        return self._made.get(device_id, NOTHING_BOOKED)
