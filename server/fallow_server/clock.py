"""Where the server reads time. Tests give their own."""

from __future__ import annotations

import time


class Clock:
    """The system's clock."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that only rise; for intervals."""
        return time.monotonic()
