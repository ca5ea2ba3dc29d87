"""Which devices serve this request now: a few drawn near the consumer, of which the less used are taken.

The cost of a choice depends neither on how many devices there are nor on how many hold the object: of the nearest
pool of holders (see :class:`~.holders.Holders`) eight lines are looked at, and eight more up to four times while fewer
may serve than are wanted, or than two; then comes the next wider pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, Protocol, TypeVar

from .holders import COMPARABLE_MIN, Draw, Holders, Pool
from .places import NOWHERE, Place

LOOK = 8
"""Lines looked at together: of so few holders all are, and the odds are exact."""
SEARCHED = 1.5
"""Odds are raised by so much where few may serve: requests that found nobody make no ticket, so that each of the few
gets a larger share of those that there are; up to 1.4 times as large where one in thirty may serve."""
SECOND_PERMILLE = 125
"""Of only two that may serve, the weaker gets so many requests: if the better one had them all, deliveries that it made
up could not be told from those that it made."""

FULL = "full"
"""What is added to the name of a pool whose lines were chosen though nothing is left of them."""


class Candidate(Protocol):
    """A device that may serve. ``lasting_up_bps``: idle upload that is promised to nobody and likely to stay idle; of
    devices that may serve, one with more of it is chosen rather."""

    @property
    def lasting_up_bps(self) -> int: ...


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
    full: Callable[[str], C | None] | None = None,
) -> list[Choice[C]]:
    """At most ``count`` devices of different lines, the nearest pool first and in it those with more left; none where
    no device may serve.

    :param candidate: what a device's id stands for, or None when it may not serve.
    :param near: see :meth:`~.holders.Holders.pools`.
    :param full: the same of those that may serve where ``candidate`` finds fewer than ``count`` anywhere: a line with
        nothing left is no choice while one further away is free.
    """

    def of(wanted: int, those: Callable[[str], C | None], without: set[int]) -> list[tuple[int, Choice[C]]]:
        return _chosen(holders, object_id, holders.pools(object_id, place, near), wanted, those, draw, without)

    chosen = of(count, candidate, set())
    if full is not None and len(chosen) < count:
        rest = of(count - len(chosen), full, {line for line, _ in chosen})
        # Odds are of those that get here, so their deliveries are compared with one another.
        chosen += [(line, replace(one, pool=f"{one.pool}, {FULL}")) for line, one in rest]
    return [one for _, one in chosen]


def _chosen(
    holders: Holders, object_id: str, pools: Iterable[Pool], count: int, candidate: Callable[[str], C | None],
    draw: Draw, without: set[int],
) -> list[tuple[int, Choice[C]]]:  # fmt: skip
    """With their lines, none of those ``without``."""
    chosen: list[tuple[int, Choice[C]]] = []
    alone: list[tuple[int, Choice[C]]] = []
    for pool in pools:
        wanted = count - len(chosen)
        lines = without | {line for line, _ in chosen}
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
        line_of = {id(one): line for line, one in found.items()}
        choices = [
            (line_of[id(one)], Choice(one, _permille(share * looked_at), pool.name)) for one, share in picked
        ]  # fmt: skip
        if len(fit) + len(lines) < COMPARABLE_MIN:
            # No choice here, and nothing that its deliveries could be held against: only where none wider has one.
            alone = choices or alone
            continue
        chosen += choices
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
    lefts = [one.lasting_up_bps for one in candidates]
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
    rest = sorted(range(len(candidates)), key=lambda number: _lasting(candidates[number]))
    total = sum(max(1, _lasting(one)) for one in candidates)
    places = count
    while rest and max(1, _lasting(candidates[rest[-1]])) * places >= total:
        number = rest.pop()
        chances[number] = 1.0
        places -= 1
        total -= max(1, _lasting(candidates[number]))
    for number in rest:
        chances[number] = max(1, _lasting(candidates[number])) * places / total
    picked: list[tuple[C, float]] = []
    # Short of one by more than sums of fractions are off, so that the last mark lies on the line.
    mark, end = draw() * (1 - 1e-9), 0.0
    for number, one in enumerate(candidates):
        end += chances[number]
        if end > mark and len(picked) < count:
            mark += 1
            picked.append((one, chances[number] / count))
    return sorted(picked, key=lambda pair: -pair[0].lasting_up_bps)


def _permille(share: float) -> int:
    """Rounded up, but for what floating point adds."""
    return min(1000, math.ceil(share * 1000 - 1e-6))


def _lasting(candidate: Candidate) -> int:
    return candidate.lasting_up_bps


def assumed_bps(size_bytes: int, heartbeat_s: int, bps_max: int) -> int:
    """What a routed request needs of a device: its bytes over one heartbeat, capped, for a small object is served in a
    moment and a large one takes its time."""
    return min(bps_max, size_bytes * 8 // max(1, heartbeat_s))
