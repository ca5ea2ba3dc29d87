"""When Python looks for cycles of dead objects.

It holds the loop meanwhile, a microsecond for each object, and by itself looks through all that are new since the last
time, which is every heartbeat that a large fleet has sent, and through all that there are when a quarter is new.
"""

from __future__ import annotations

import asyncio
import gc

YOUNG_OBJECTS_MAX = 7000
"""More than died, since the last time. Python's 700 are reached several times in each batch of proofs, whose records
hold no cycles and die by themselves; looking through them costs a tenth of the processor."""
YOUNG_ROUNDS = 0
"""Besides each second one, which looks through those again that outlived the one before."""
OLD_ROUNDS = 10**9
"""Never: what outlived two rounds lives long, sessions above all. They hold no cycles when they end, which a test keeps
so."""
EVERY_S = 0.5
"""Two thousand heartbeats of a hundred thousand devices: some ms. They are not counted above, for as many die."""


def collect_less() -> None:
    """To be called once a program is up: what lives then lives on, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, YOUNG_ROUNDS, OLD_ROUNDS)


async def collect_often() -> None:
    """Look through what is new, little at a time, until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        gc.collect(1)
