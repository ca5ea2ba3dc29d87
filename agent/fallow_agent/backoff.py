"""Delays between attempts: exponential with full jitter, without end. Pure: randomness is an argument."""

from __future__ import annotations

from dataclasses import dataclass

EXPONENT_MAX = 30
"""Beyond it every ceiling is the largest delay; the count stops, so that it never overflows."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """``failures`` attempts in a row went wrong. Delays in seconds."""

    base_s: float = 1.0
    max_s: float = 300.0
    failures: int = 0

    def failed(self) -> Backoff:
        return Backoff(self.base_s, self.max_s, min(self.failures + 1, EXPONENT_MAX))

    def succeeded(self) -> Backoff:
        return Backoff(self.base_s, self.max_s)

    def delay_s(self, random: float) -> float:
        """Before the next attempt.

        Full jitter (a uniform share ``random``, 0 … 1, of the ceiling) spreads a fleet that lost its server at the
        same moment; a tenth of the ceiling is kept as the least.
        """
        ceiling = min(self.max_s, self.base_s * 2.0**self.failures)
        return ceiling * (0.1 + 0.9 * random)
