"""What lines carry, as others than their devices have seen it: the server's canaries, and speed tests against it.

A device says how much of its line is idle, which nobody else can know; but never more than its line was seen to carry,
however much it says. Pure: times are monotonic seconds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

MARGIN_PERMILLE = 1250
"""A measurement shares the line with the household and with consumers, and one connection does not fill it at once."""
PAID_TIMES = 2
"""Of what is believed, all devices of a line are paid for so much: what served honestly beyond a measurement that met a
busy line shall not go unpaid, and made-up bytes end somewhere."""
KEPT_S = 14 * 86_400
"""The largest measurement counts for so long: those that follow may have met a busy line."""


@dataclass(frozen=True, slots=True)
class Seen:
    bps: int
    at: float


class Capacities:
    """Rates in bit/s.

    :param unmeasured_bps: what a device is believed at most before anybody has measured it.
    """

    def __init__(self, unmeasured_bps: int) -> None:
        self._unmeasured_bps = unmeasured_bps
        self._seen: dict[str, Seen] = {}
        self._homes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        """By line and home: the devices there."""
        self._home_of: dict[str, tuple[str, str]] = {}
        self.fresh: set[str] = set()
        """Devices that were measured since somebody emptied it, who keeps what was."""

    def note(self, device_id: str, bps: int, now: float) -> None:
        """Somebody else saw the device send so much."""
        before = self._seen.get(device_id)
        if before is None or bps >= before.bps or now - before.at > KEPT_S:
            self._seen[device_id] = Seen(bps, now)
            self.fresh.add(device_id)

    def seen(self, device_id: str) -> Seen | None:
        return self._seen.get(device_id)

    def believed_bps(self, device_id: str) -> int:
        """What is believed of the device's line at most, whatever it says."""
        seen = self._seen.get(device_id)
        return self._unmeasured_bps if seen is None else seen.bps * MARGIN_PERMILLE // 1000

    def join(self, device_id: str, line: str | None, home: str) -> None:
        """The device is seen in ``home`` (an address of its own) of ``line``; None: nobody knows its line."""
        self.leave(device_id)
        if line is not None:
            self._homes[line][home].add(device_id)
            self._home_of[device_id] = line, home

    def leave(self, device_id: str) -> None:
        """What was measured is kept: the device may come again."""
        line, home = self._home_of.pop(device_id, ("", ""))
        if line:
            devices = self._homes[line]
            devices[home].discard(device_id)
            if not devices[home]:
                del devices[home]
            if not devices:
                del self._homes[line]

    def line_bps(self, line: str) -> int | None:
        """What all devices of the line may be paid for together: of each home the best counts, for it has one line,
        however many devices stand behind it. None where there are none."""
        homes = self._homes.get(line)
        if not homes:
            return None
        return PAID_TIMES * sum(max(map(self.believed_bps, devices)) for devices in homes.values())

    def forget(self, now: float) -> None:
        """What was measured long ago, of devices that are not here."""
        self._seen = {
            name: seen for name, seen in self._seen.items() if name in self._home_of or now - seen.at <= KEPT_S
        }
