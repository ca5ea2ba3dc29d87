"""Where a round of placement is reckoned: in a thread while it is small, else in a process of its own.

The process is started for the round and ends with it. A thread tells it the question, column by column as they are: it
waits for the pipe nearly all the time, so the event loop goes on.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, TypeAlias

from ..scheduling.demand import Demands, Saved
from ..scheduling.gathering import Question
from ..scheduling.places import Place
from .config import Config

NICE = 10
"""Consumers and devices come first where there is one core."""
RECKONING_S_MAX = 600
"""A hundred times what a hundred thousand devices take. One that hangs would end all placement without a word."""
LENGTH_BYTES = 8

_Column: TypeAlias = "bytes | bytearray | array[int] | array[float]"


class ReckoningFailed(Exception):
    """The other process ended without an answer; its error is in the log."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``copies_max``: to be made, and as many to be dropped. ``seed``: of the draws."""

    question: Question
    config: Config
    copies_max: int
    seed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Pairs are row numbers of the question, object and device by turns.

    ``fills``: copies to make. ``parts``: of each one's value in turn, as :data:`PARTS` names them; ``minimum``: one
    where it is wanted whatever it is worth. ``drops``: copies to drop. ``unplaced``: objects with the number of copies
    that are wanted in any case and have no device. ``asked_bytes``, ``unserved_bytes``: over the coming day, the latter
    with the copies made.
    """

    fills: array[int]
    parts: array[float]
    minimum: bytes
    drops: array[int]
    unplaced: array[int]
    asked_bytes: float
    unserved_bytes: float


def answer(problem: Problem) -> Answer:
    # Here and not above: the server itself does without numpy until it places.
    import numpy as np

    from ..scheduling.placement import place
    from ..scheduling.unpacking import columns

    given = columns(problem.question, problem.config.nearness)
    limits = replace(problem.config.placement, copies_max=min(problem.copies_max, problem.config.placement.copies_max))
    plan = place(given.fleet, given.objects, given.copies, limits, problem.seed, given.refused)
    unplaced = np.flatnonzero(plan.unplaced)

    def by_turns(*columns: np.ndarray) -> array[int]:
        return array("i", np.column_stack(columns).astype(np.int32).tobytes())

    return Answer(
        by_turns(plan.fill_object, plan.fill_device),
        array("f", plan.parts.astype(np.float32).tobytes()),
        plan.minimum.tobytes(),
        by_turns(plan.drop_object[: problem.copies_max], plan.drop_device[: problem.copies_max]),
        by_turns(unplaced, plan.unplaced[unplaced]),
        float(given.objects.demand_bytes.sum()),
        float(plan.books.wanted.sum()),
    )


async def reckoned(problem: Problem) -> Answer:
    """:raises ReckoningFailed: the other process was killed, failed, or took too long."""
    question = problem.question
    if question.device_count * len(question.object_ids) <= problem.config.thread_pairs_max:
        return await asyncio.to_thread(answer, problem)
    process = _started()
    try:
        async with asyncio.timeout(RECKONING_S_MAX):
            told = await asyncio.to_thread(_asked, process, problem)
    except TimeoutError:
        raise ReckoningFailed(f"the process that reckons gave no answer in {RECKONING_S_MAX} s") from None
    finally:
        process.kill()  # which ends the thread as well, unless both have ended
        process.wait()  # the thread may not have begun
    found = pickle.loads(told)  # from our own process
    assert isinstance(found, Answer)
    return found


def _started() -> subprocess.Popen[bytes]:
    """Not by the event loop: uvloop forks, and to copy the page tables of a GiB takes 25 ms. Nor does the child close
    what it would not inherit anyway, a socket for each device."""
    command = sys.executable, "-m", __name__
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)


def _asked(process: subprocess.Popen[bytes], problem: Problem) -> bytes:
    """What the process answers; it has ended then. To be called in a thread."""
    told = b""
    try:
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            for part in _parts(problem):
                process.stdin.write(part)
            process.stdin.close()
            told = process.stdout.read()
    except BrokenPipeError:
        raise ReckoningFailed("the process that reckons ended before it was told everything") from None
    if process.returncode != 0:
        raise ReckoningFailed(f"the process that reckons ended with {process.returncode}")
    return told


# ------------------------------------------------------------------ between the two processes


def _parts(problem: Problem) -> Iterator[bytes | memoryview]:
    """The problem: what is small, then each of the large columns."""
    question = problem.question
    pairs = question.demand.pairs
    small = replace(
        question,
        devices=bytearray(),
        same_home=array("i"),
        held=array("i"),
        demand=Saved([], (), question.demand.shapes),
    )
    yield from _framed(pickle.dumps(replace(problem, question=small)))
    yield from _framed(pickle.dumps([object_id for object_id, _ in pairs]))
    yield from _framed(pickle.dumps([(place.asn, place.country) for _, place in pairs]))
    for column in question.demand.columns:
        yield from _framed(column)
    yield from _framed(question.devices)
    for rows in (question.same_home, question.held):
        yield from _framed(rows)


def _framed(column: _Column) -> Iterator[bytes | memoryview]:
    view = memoryview(column).cast("B")
    yield view.nbytes.to_bytes(LENGTH_BYTES, "big")
    yield view


def _told(file: IO[bytes]) -> Problem:
    def frame() -> bytes:
        return file.read(int.from_bytes(file.read(LENGTH_BYTES), "big"))

    problem: Problem = pickle.loads(frame())  # from our own process
    objects = pickle.loads(frame())
    places = pickle.loads(frame())
    pairs = [(object_id, Place(*place)) for object_id, place in zip(objects, places, strict=True)]
    columns = tuple(array("d", frame()) for _ in Demands.COLUMNS)
    devices, same_home, held = bytearray(frame()), array("i", frame()), array("i", frame())
    demand = Saved(pairs, columns, problem.question.demand.shapes)
    return replace(
        problem, question=replace(problem.question, devices=devices, same_home=same_home, held=held, demand=demand)
    )


def main() -> None:
    os.nice(NICE)
    sys.stdout.buffer.write(pickle.dumps(answer(_told(sys.stdin.buffer))))


if __name__ == "__main__":
    # Under its own name, or what it pickles would be of another module than what is unpickled.
    from fallow_server.spreading.answering import main as named

    named()
