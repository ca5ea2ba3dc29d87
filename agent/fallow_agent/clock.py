"""The agent's time: the system's clock until the scheduler has told the right one."""

from __future__ import annotations

import time


class Clock:
    """Unix time that works on a router whose own clock stands at 1970.

    Once the scheduler's time is known, time is counted from it by the monotonic clock, so that a later jump of the
    system's clock (NTP, a battery-less start) changes nothing here.
    """

    def __init__(self) -> None:
        self._server_ms: int | None = None
        self._set_at = 0.0

    def now(self) -> int:
        """Unix seconds."""
        return self.now_ms() // 1000

    def now_ms(self) -> int:
        """Unix milliseconds."""
        if self._server_ms is None:
            return time.time_ns() // 1_000_000
        return self._server_ms + int((time.monotonic() - self._set_at) * 1000)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go backwards."""
        return time.monotonic()

    def set_server_time(self, unix_s: int) -> None:
        """Take ``unix_s``, just received from the scheduler, as the present."""
        self._server_ms = unix_s * 1000
        self._set_at = time.monotonic()
