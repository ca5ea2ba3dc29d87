"""Bytes through the WAN interface, from the kernel's counters.

The counter files stay open and are read by ``pread``: two microseconds a reading. A counter that went backwards has
wrapped (32-bit drivers) or its interface came back new; which of the two cannot be told apart for sure, so that
interval is skipped rather than guessed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SYS_NET = Path("/sys/class/net")
ROUTES = Path("/proc/net/route")
ROUTES6 = Path("/proc/net/ipv6_route")
INTERVAL_S_MAX = 30.0
"""After a suspension an average over the gap says nothing about now."""
LOOKUP_S = 30.0
"""How often the default route is looked up: a line that failed over to another interface is measured there."""
_DIGITS_MAX = 32
_REJECT = 0x200


@dataclass(frozen=True, slots=True)
class Rates:
    """Averages since the reading before, in bit/s."""

    up_bps: int
    down_bps: int


def default_interface(routes: Path = ROUTES, routes6: Path = ROUTES6) -> str | None:
    """The interface of the default route with the lowest metric, IPv4 before IPv6, or None."""
    found: list[tuple[int, str]] = []
    for parts in _rows(routes):
        if len(parts) >= 8 and parts[1] == "00000000" and parts[7] == "00000000":
            found.append((int(parts[6]), parts[0]))
    if not found:
        for parts in _rows(routes6):
            if len(parts) >= 10 and parts[0] == "0" * 32 and parts[1] == "00" and not int(parts[8], 16) & _REJECT:
                found.append((int(parts[5], 16), parts[9]))
    return min(found)[1] if found else None


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text("ascii", "replace").splitlines()]
    except OSError:
        return []


class Meter:
    """Reads one interface; survives its going away and coming back.

    :param interface: its name, None for the default route's.
    """

    def __init__(
        self, interface: str | None, sys_net: Path = SYS_NET, routes: Path = ROUTES, routes6: Path = ROUTES6
    ) -> None:
        self._interface = interface
        self._sys_net = sys_net
        self._routes = (routes, routes6)
        self._open_name: str | None = None
        self._files: tuple[int, int] | None = None
        self._looked_up_at = float("-inf")
        self._before: tuple[float, int, int] | None = None

    def read(self, monotonic: float) -> Rates | None:
        """Rates since the last call; None when there is no interval to speak of (the first reading, a gap, a flap)."""
        if self._interface is None and not 0 <= monotonic - self._looked_up_at < LOOKUP_S:
            self._looked_up_at = monotonic
            if default_interface(*self._routes) != self._open_name:
                self.close()
        counters = self._counters()
        before, self._before = self._before, None
        if counters is None:
            return None
        up, down = counters
        self._before = (monotonic, up, down)
        if before is None:
            return None
        elapsed = monotonic - before[0]
        sent, received = up - before[1], down - before[2]
        if not 0 < elapsed <= INTERVAL_S_MAX or sent < 0 or received < 0:
            return None
        return Rates(int(sent * 8 / elapsed), int(received * 8 / elapsed))

    def close(self) -> None:
        """Close the counters. What they counted is nothing to compare those of another interface with."""
        self._before = None
        if self._files is not None:
            for descriptor in self._files:
                os.close(descriptor)
            self._files = None

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
        name = self._interface or default_interface(*self._routes)
        if name is None:
            return False
        directory = self._sys_net / name / "statistics"
        opened: list[int] = []
        try:
            for counter in ("tx_bytes", "rx_bytes"):
                opened.append(os.open(directory / counter, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            return False
        self._files = (opened[0], opened[1])
        self._open_name = name
        return True
