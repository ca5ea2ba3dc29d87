"""When Python looks for cycles of dead objects."""

from __future__ import annotations

import gc

YOUNG_OBJECTS_MAX = 20_000
"""Python's 700 are reached several times in each batch of proofs, whose records hold no cycles and die by themselves;
looking through them costs a tenth of the processor. This many small objects are a few MB."""


def collect_less() -> None:
    """To be called once a program is up: what lives then lives on, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 10, 10)
