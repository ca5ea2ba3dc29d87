"""Bytes through the WAN interface, from the kernel's counters.

The counter files stay open and are read by ``pread``: two microseconds a reading. A vanished interface's files give
errors, and are opened anew when one of that name is there again. A counter that went backwards has wrapped or began
anew (``counters.py``); where the interface lost its link in between, it began anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..host.routes import ROUTES, ROUTES6, DefaultRoute, default_routes
from .counters import advance

SYS_NET = Path("/sys/class/net")
INTERVAL_S_MAX = 30.0
"""After a suspension an average over the gap says nothing about now."""
LOOKUP_S = 30.0
"""How often the default route is looked up: a line that failed over to another interface is measured there."""
BPS_MAX = 25_000_000_000
"""No home has more; a higher rate is a counter that began anew, or another interface's."""
_DIGITS_MAX = 32


@dataclass(frozen=True, slots=True)
class Rates:
    """Averages since the reading before, in bit/s."""

    up_bps: int
    down_bps: int


def wan_of(routes: Sequence[DefaultRoute], named: str | None) -> str | None:
    """The interface towards the internet: what the network daemon named, if a default route agrees or there is none
    (policy routing keeps them in tables of their own); else that of the first default route, or None."""
    if named is not None and (not routes or any(route.interface == named for route in routes)):
        return named
    return routes[0].interface if routes else None


class Meter:
    """Reads one interface; survives its going away and coming back.

    :param interface: its name, None for the default route's.
    """

    def __init__(
        self, interface: str | None, sys_net: Path = SYS_NET, routes: Path = ROUTES, routes6: Path = ROUTES6
    ) -> None:
        self._configured = interface
        self._named: str | None = None
        self._sys_net = sys_net
        self._routes = (routes, routes6)
        self._interface: str | None = None
        self._files: tuple[int, int] | None = None
        self._link_changes: str | None = None
        self._looked_up_at = float("-inf")
        self._before: tuple[float, int, int] | None = None

    @property
    def interface(self) -> str | None:
        """The one that is read, or None while there is none."""
        return self._interface if self._files is not None else None

    def name(self, interface: str | None) -> None:
        """What the network daemon calls the WAN (:func:`~fallow_agent.host.netifd.wan_device`); the configuration
        wins."""
        if interface != self._named:
            self._named = interface
            self._looked_up_at = float("-inf")

    def read(self, monotonic: float) -> Rates | None:
        """Rates since the last call; None when there is no interval to speak of (the first reading, a gap, a flap)."""
        if not 0 <= monotonic - self._looked_up_at < LOOKUP_S:
            self._looked_up_at = monotonic
            found = self._look_up()
            if found != self._interface:
                self.close()
                self._interface = found
        counters = self._counters()
        before, self._before = self._before, None
        if counters is None:
            # It may be back under another name.
            self._looked_up_at = float("-inf")
            return None
        up, down = counters
        self._before = (monotonic, up, down)
        if before is None:
            return None
        elapsed = monotonic - before[0]
        if not 0 < elapsed <= INTERVAL_S_MAX:
            return None
        if (up < before[1] or down < before[2]) and self._link_changed():
            return None
        sent, received = advance(before[1], up, elapsed, BPS_MAX), advance(before[2], down, elapsed, BPS_MAX)
        if sent is None or received is None:
            return None
        return Rates(int(sent * 8 / elapsed), int(received * 8 / elapsed))

    def totals(self) -> tuple[int, int] | None:
        """Bytes sent and received as the counters stand now; None while there are none. No interval begins or ends."""
        return self._counters() if self._files is not None else None

    def close(self) -> None:
        """Close the counters. What they counted is nothing to compare those of another interface with."""
        self._before = None
        if self._files is not None:
            for descriptor in self._files:
                os.close(descriptor)
            self._files = None

    def _look_up(self) -> str | None:
        return self._configured or wan_of(default_routes(*self._routes), self._named)

    def _counters(self) -> tuple[int, int] | None:
        for _ in range(2):
            if self._files is None and not self._open():
                return None
            assert self._files is not None
            try:
                up, down = (int(os.pread(descriptor, _DIGITS_MAX, 0)) for descriptor in self._files)
                return up, down
            except (OSError, ValueError):
                # The interface went away; if it is back already, its counters are in new files.
                self.close()
        return None

    def _open(self) -> bool:
        if self._interface is None:
            return False
        directory = self._sys_net / self._interface / "statistics"
        opened: list[int] = []
        try:
            for counter in ("tx_bytes", "rx_bytes"):
                opened.append(os.open(directory / counter, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            return False
        self._files = (opened[0], opened[1])
        self._link_changed()
        return True

    def _link_changed(self) -> bool:
        """True where the interface had its link lost or found since this was asked before. Asked only at need."""
        before = self._link_changes
        try:
            assert self._interface is not None
            self._link_changes = (self._sys_net / self._interface / "carrier_changes").read_text("ascii", "replace")
        except OSError:
            self._link_changes = None  # kernels before 3.15, and an interface that has just gone
        return self._link_changes != before
