"""When Python looks for cycles of dead objects."""

from __future__ import annotations

import gc

YOUNG_OBJECTS_MAX = 7000
"""Python's 700 are reached several times in each batch of proofs, whose records hold no cycles and die by themselves;
looking through them costs a tenth of the processor. Twice as many as these, cold, take some 10 ms of the loop."""
YOUNG_ROUNDS = 0
"""Besides each second one, which looks through those again that outlived the one before."""


def collect_less() -> None:
    """To be called once a program is up: what lives then lives on, and is not looked through again.

    Nor is what outlives two rounds later, for that is sessions, a hundred objects each: looking through those of
    a large fleet holds the loop for as long as a second. They hold no cycles when they end, which a test keeps so.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, YOUNG_ROUNDS, YOUNG_ROUNDS)
    gc.callbacks.append(_keep_what_lasts)


def _keep_what_lasts(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] > 0:
        gc.freeze()
