"""How far a byte counter has come, where it may have wrapped or begun anew. Pure."""

from __future__ import annotations

WORD32, WORD64 = 2**32, 2**64


def advance(before: int, now: int, elapsed_s: float, bps_max: int) -> int | None:
    """Bytes counted in ``elapsed_s``, or None where the two readings are of no one count.

    A counter that went back has wrapped at 32 bits (drivers, most routers) or at 64, or it began anew at 0. Only what
    the line can have carried tells these apart: 4 GiB wrapped within a second is 34 Gbit/s. What is more than
    ``bps_max`` for that long was not carried, forwards neither: then it is another interface's count under the same
    name.
    """
    if now < before:
        now += WORD32 if before < WORD32 else WORD64
    counted = now - before
    return counted if elapsed_s > 0 and counted * 8 <= bps_max * elapsed_s else None
