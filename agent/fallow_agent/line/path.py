"""Which hops of the way to the scheduler tell of the line: one in the home, one on the provider's side. Pure.

The way is found by echoes towards the scheduler, which the device talks to anyway, whose hops are used up on the way.
Nobody is asked who does not carry the household's packets already.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from ..host.routes import HOME

HOPS_MAX = 8
"""The provider's side of a home line begins two to four hops away; far hops tell of the internet instead."""
CANDIDATES_MAX = 3
"""Hops of the provider that are asked for an echo before the expiry of packets has to do."""
_HOME = (*HOME, ipaddress.IPv4Network("169.254.0.0/16"))


@dataclass(frozen=True, slots=True)
class Hop:
    """A router on the way. ``ttl``: its distance.

    ``by_expiry``: it answers no echo, but says when a packet expires there. Routers say so about once a second.
    ``distant``: the scheduler itself, at an unknown distance.
    """

    address: str
    ttl: int
    by_expiry: bool = False
    distant: bool = False

    @property
    def gentle(self) -> bool:
        """Ask seldom: it would not answer more often, or serves everybody."""
        return self.by_expiry or self.distant


@dataclass(frozen=True, slots=True)
class Path:
    """``home``: whose delay is the home's own, None where there is none, as on the home's router itself.

    ``provider``: whose delay is the home's and the line's; None where nobody answers, for ``reason``.
    """

    home: Hop | None = None
    provider: Hop | None = None
    reason: str = ""


def in_home(address: str) -> bool:
    """An address of RFC 1918, or link-local. Those that providers share out (100.64.0.0/10) are the provider's."""
    return any(ipaddress.IPv4Address(address) in net for net in _HOME)


def candidates(
    way: Sequence[str | None], at_edge: bool = False, target: str | None = None
) -> tuple[Hop | None, tuple[Hop, ...]]:
    """The home's hop, and the hops of the provider's side to be tried, best first.

    A provider may number its routers as homes do, and a home may be behind two routers: so every hop with such an
    address is passed by while there is another one. The first hop is never preferred, for a modem may have a public
    address, and its queue begins behind it. Going too far adds a little noise; not far enough misses the queue.

    :param way: who answered at 1, 2, … hops; None where nobody did. Ends with the scheduler if that was reached.
    :param at_edge: the device is the home's router. Its first hop may be the provider's with a private address, whose
        delay is the line's; taken for the home's own, it would hide the queue.
    :param target: the scheduler, which is no hop of the provider's: what waits before it is the internet's.
    """
    known = [Hop(address, ttl) for ttl, address in enumerate(way, 1) if address is not None and address != target]
    inside = [hop for hop in known if in_home(hop.address)]
    outside = [hop for hop in known if not in_home(hop.address)]
    best = [hop for hop in outside if hop.ttl > 1][:CANDIDATES_MAX] or outside
    if not best and len(inside) > 1:
        best = inside[-1:]
    home = next((hop for hop in inside if hop.ttl == 1 and hop not in best), None)
    return None if at_edge else home, tuple(best)
