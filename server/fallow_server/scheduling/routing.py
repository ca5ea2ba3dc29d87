"""Which devices serve this request now: a few drawn near the consumer, of which the less used are taken.

The cost of a choice depends neither on how many devices there are nor on how many hold the object: of the nearest
pool of holders (see :class:`~.holders.Holders`) eight lines are looked at, and eight more up to four times while fewer
may serve than are wanted, or than two; then comes the next wider pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from .holders import COMPARABLE_MIN, Draw, Holders
from .places import NOWHERE, Place

LOOK = 8
"""Lines looked at together: of so few holders all are, and the odds are exact."""
SEARCHED = 1.5
"""Odds are raised by so much where few may serve: requests that found nobody make no ticket, so that each of the few
gets a larger share of those that there are; up to 1.4 times as large where one in thirty may serve."""
SECOND_PERMILLE = 125
"""Of only two that may serve, the weaker gets so many requests: if the better one had them all, deliveries that it made
up could not be told from those that it made."""


class Candidate(Protocol):
    """A device that may serve. ``remaining_up_bps``: idle upload that nobody uses yet."""

    @property
    def remaining_up_bps(self) -> int: ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True, slots=True)
class Choice(Generic[C]):
    """``odds``: the chance, per mille, that a ticket for a request that is served from ``pool`` names the device;
    rather too high than too low, for whoever exceeds it is suspected."""

    device: C
    odds: int
    pool: str


def choose(
    holders: Holders,
    object_id: str,
    count: int,
    candidate: Callable[[str], C | None],
    draw: Draw,
    place: Place = NOWHERE,
    near: Sequence[str] = (),
) -> list[Choice[C]]:
    """At most ``count`` devices of different lines, the nearest pool first and in it those with more left; none where
    no device may serve.

    :param candidate: what a device's id stands for, or None when it may not serve.
    :param near: see :meth:`~.holders.Holders.pools`.
    """
    chosen: list[Choice[C]] = []
    lines: set[int] = set()
    alone: list[Choice[C]] = []
    for pool in holders.pools(object_id, place, near):
        wanted = count - len(chosen)
        drawn = holders.drawn(object_id, pool, draw)
        found: dict[int, C] = {}
        seen = 0
        while batch := list(islice(drawn, LOOK)):
            seen += len(batch)
            for line, device_id in batch:
                if device_id is not None and line not in lines and (one := candidate(device_id)) is not None:
                    found[line] = one
            if len(found) >= max(wanted, COMPARABLE_MIN):
                break
        fit = list(found.values())
        picked = pick_one(fit, draw) if count == 1 else pick_several(fit, wanted, draw)
        # The chance to be looked at, times that to be taken of those which were.
        looked_at = seen / pool.lines * (1 if seen <= LOOK else SEARCHED)
        choices = [Choice(one, _permille(share * looked_at), pool.name) for one, share in picked]
        if len(fit) + len(lines) < COMPARABLE_MIN:
            # No choice here, and nothing that its deliveries could be held against: only where none wider has one.
            alone = choices or alone
            continue
        chosen += choices
        taken = {id(choice.device) for choice in choices}
        lines.update(line for line, one in found.items() if id(one) in taken)
        if len(chosen) >= count:
            break
    return chosen or alone


def pick_one(candidates: Sequence[C], draw: Draw) -> list[tuple[C, float]]:
    """Of two candidates drawn at random the one with more left (the power of two choices: the fullest stays far from
    full), with the chance that it had, as a share. Of only two, see :data:`SECOND_PERMILLE`. None of none."""
    count = len(candidates)
    if count < 2:
        return [(one, 1.0) for one in candidates]
    first = int(draw() * count)
    # The second draw is among the others, so that two are always compared.
    second = int(draw() * (count - 1))
    second += second >= first
    lefts = [one.remaining_up_bps for one in candidates]
    if lefts[second] > lefts[first]:
        first, second = second, first
    winner, other = candidates[first], candidates[second]
    left = lefts[first]
    if count > 2:
        equal = lefts.count(left) - 1
        weaker = sum(one < left for one in lefts)
        # It wins against each that has less left, and half of the times against one that has as much.
        return [(winner, (2 * weaker + equal) / (count * (count - 1)))]
    if left == lefts[second]:
        return [(winner, 0.5)]
    if draw() * 1000 < SECOND_PERMILLE:
        return [(other, SECOND_PERMILLE / 1000)]
    return [(winner, 1 - SECOND_PERMILLE / 1000)]


def pick_several(candidates: Sequence[C], count: int, draw: Draw) -> list[tuple[C, float]]:
    """At most ``count`` candidates, each taken with a chance in proportion to what it has left, best first; with the
    share of all tickets for such requests that go to it.

    By systematic sampling (Madow, 1949): candidates lie on a line, each as long as its chance, and are taken where
    marks at distance one from a random first one fall. So the chances are exactly those, which no drawing one by one
    gives.
    """
    count = min(count, len(candidates))
    if count <= 0:
        return []
    # No chance is above one: who would have more is taken for certain, and the others share the rest of the places.
    chances: dict[int, float] = {}
    rest = sorted(range(len(candidates)), key=lambda number: _left(candidates[number]))
    total = sum(max(1, _left(one)) for one in candidates)
    places = count
    while rest and max(1, _left(candidates[rest[-1]])) * places >= total:
        number = rest.pop()
        chances[number] = 1.0
        places -= 1
        total -= max(1, _left(candidates[number]))
    for number in rest:
        chances[number] = max(1, _left(candidates[number])) * places / total
    picked: list[tuple[C, float]] = []
    # Short of one by more than sums of fractions are off, so that the last mark lies on the line.
    mark, end = draw() * (1 - 1e-9), 0.0
    for number, one in enumerate(candidates):
        end += chances[number]
        if end > mark and len(picked) < count:
            mark += 1
            picked.append((one, chances[number] / count))
    return sorted(picked, key=lambda pair: -pair[0].remaining_up_bps)


def _permille(share: float) -> int:
    """Rounded up, but for what floating point adds."""
    return min(1000, math.ceil(share * 1000 - 1e-6))


def _left(candidate: Candidate) -> int:
    return candidate.remaining_up_bps


def assumed_bps(size_bytes: int, heartbeat_s: int, bps_max: int) -> int:
    """What a routed request needs of a device: its bytes over one heartbeat, capped, for a small object is served in a
    moment and a large one takes its time."""
    return min(bps_max, size_bytes * 8 // max(1, heartbeat_s))
