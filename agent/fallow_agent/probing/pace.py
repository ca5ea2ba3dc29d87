"""How often this home measures, whatever a scheduler asks for. Pure: the time is an argument."""

from __future__ import annotations

from ..edge.arrivals import Arrivals

PROBES_PER_HOUR_MAX = 20
"""With five measurements of 64 KiB each these are 6 MB an hour at the very most, and some kilobytes in practice."""
PROBES_BURST = 4
"""At once after a rest."""
TARGET_PAUSE_S = 60
"""Between two probes of the same host: one home is never a load on anybody."""


class Pace:
    """:param now: monotonic seconds, here and in :meth:`refusal`."""

    def __init__(self, now: float) -> None:
        self._homes = Arrivals(now, PROBES_PER_HOUR_MAX / 3600, PROBES_BURST)
        self._targets: dict[str, float] = {}

    def refusal(self, host: str, now: float) -> str | None:
        """Why ``host`` is not probed now; None when it may be, and then it counts."""
        self._targets = {name: at for name, at in self._targets.items() if now - at < TARGET_PAUSE_S}
        if host in self._targets:
            return f"this home probed {host} less than {TARGET_PAUSE_S} s ago"
        if not self._homes.take(now):
            return f"this home does {PROBES_PER_HOUR_MAX} probes an hour at most"
        self._targets[host] = now
        return None
