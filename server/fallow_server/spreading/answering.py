"""Where a round of placement is reckoned: in a thread while it is small, else in a process that ends after a while."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from ..scheduling.gathering import Question
from .config import Config

NICE = 10
"""Consumers and devices come first where there is one core."""


@dataclass(frozen=True, slots=True)
class Move:
    """A copy to make, or to drop. ``parts``: of its value, in bytes over the coming day, by name; none of a drop."""

    object_id: str
    device: int
    parts: tuple[float, ...] = ()
    minimum: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """``device`` of a move is its row in the question. ``unplaced``: copies that are wanted in any case, by object, for
    which there is no device. ``asked_bytes``, ``unserved_bytes``: over the coming day, before and after."""

    fills: tuple[Move, ...]
    drops: tuple[Move, ...]
    unplaced: dict[str, int]
    asked_bytes: float
    unserved_bytes: float


def answer(question: Question, config: Config, copies_max: int, seed: int) -> Answer:
    # Here and not above: the server itself does without numpy until it places.
    from ..scheduling.placement import place
    from ..scheduling.unpacking import columns

    given = columns(question, config.nearness)
    limits = replace(config.placement, copies_max=min(copies_max, config.placement.copies_max))
    plan = place(given.fleet, given.objects, given.copies, limits, seed, given.refused)
    names = question.object_ids
    fills = zip(
        plan.fill_object.tolist(), plan.fill_device.tolist(), plan.parts.tolist(), plan.minimum.tolist(), strict=True
    )
    drops = zip(plan.drop_object.tolist(), plan.drop_device.tolist(), strict=True)
    return Answer(
        tuple(Move(names[one], device, tuple(parts), minimum) for one, device, parts, minimum in fills),
        tuple(Move(names[one], device) for one, device in drops),
        {names[one]: int(plan.unplaced[one]) for one in plan.unplaced.nonzero()[0].tolist()},
        float(given.objects.demand_bytes.sum()),
        float(plan.books.wanted.sum()),
    )


class Reckoner:
    """Starts the other process when it is needed, and ends it with :meth:`rest`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._process: ProcessPoolExecutor | None = None

    async def answer(self, question: Question, devices: int, copies_max: int, seed: int) -> Answer:
        """:raises concurrent.futures.process.BrokenProcessPool: the other process was killed."""
        if devices * len(question.object_ids) <= self._config.thread_pairs_max:
            return await asyncio.to_thread(answer, question, self._config, copies_max, seed)
        if self._process is None:
            # Spawned, not forked: a fork of a server with threads and sockets is half of one.
            context = multiprocessing.get_context("spawn")
            self._process = ProcessPoolExecutor(1, mp_context=context, initializer=os.nice, initargs=(NICE,))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._process, answer, question, self._config, copies_max, seed)
        finally:
            self.rest()

    def rest(self) -> None:
        """End the other process; what it is doing is lost."""
        if self._process is not None:
            process, self._process = self._process, None
            process.shutdown(wait=False, cancel_futures=True)
