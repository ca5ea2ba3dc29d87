"""The books of the coming day: what each device's hours may be booked with, and what its copies book of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .columns import HOUR_S, Copies, Fleet, Floats, Ints, Objects
from .costs import Config

PASSES = 3
"""Of sharing out an hour, at most: what a busy device cannot take goes to the other holders; little is left after the
third."""
OFFLINE_SHARE_MIN = 1e-3
"""Nothing is online for ever; also keeps the logarithm of the share finite."""

ASKED_SHARE_MIN = 1e-3
"""Keeps divisions by :func:`asked_share` finite."""
DENSE_PAIRS_MAX = 100_000
"""Of objects and devices: fewer zeros and ones take less than the module for sparse matrices does, which is 19 MiB in a
small server."""
ROWS_AT_ONCE = 10_000
"""Copies whose earnings are reckoned at once: some MB."""

Holding: TypeAlias = Any
"""Objects × devices, one where there is a copy; dense or sparse, it is multiplied by columns of either."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of each hour, bytes. A copy is booked, over all ``passes``, with the share of its object times what its device
    gave: [m, 24] and [n, 24]. ``busy`` [m, 24]: of each hour, in which some consumer is at the object. ``spare``
    [n, 24]: what its device could give beyond, ``together`` [m, 24] all that hold the object.
    """

    passes: tuple[tuple[Floats, Floats], ...]
    busy: Floats
    spare: Floats
    together: Floats

    def earned(self, objects: Ints, devices: Ints) -> Floats:
        """Of copies that there are: what would go unserved over the day without one, the others taking over what they
        can."""
        found = np.zeros(len(objects), np.float32)
        for start in range(0, len(found), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            one, device = objects[rows], devices[rows]
            missing = self.busy[one] * (self.spare[device] - self.together[one])
            for share, given in self.passes:
                missing += share[one] * given[device]
            found[rows] = np.maximum(0, missing).sum(axis=1)
        return found


@dataclass(slots=True)
class Books:
    """Bytes by hour. Placement writes ``left`` and ``wanted`` as it goes.

    ``bookable`` [n, 24]: of each device; ``left`` [n, 24]: of that not booked. ``wanted`` [k, 24]: demand that no copy
    serves. ``asked`` [m, 24]: see :func:`asked_share`. ``shares``: what the copies were booked with.
    """

    bookable: Floats
    left: Floats
    wanted: Floats
    asked: Floats
    shares: Shares


def bookable_bytes(forecast_up_bps: Floats, booked_share: float) -> Floats:
    """What each hour is reckoned with."""
    return (forecast_up_bps * np.float32(booked_share * HOUR_S / 8)).astype(np.float32)


def asked_share(objects: Objects, config: Config) -> Floats:
    """The share of each hour in which some consumer is at the object, objects × hours; in the rest no line serves it.

    Consumers come by chance, and each wants its bytes at ``consumer_bps``, of a small object within ``consumer_s_min``:
    the mean number that are there is demand ÷ that rate, and nobody is there with the chance exp(−mean). What is asked
    for seldom so needs as many lines as what is asked for all the time, and books little of each.
    """
    wanted_bps = np.minimum(config.consumer_bps, objects.size_bytes * (8 / config.consumer_s_min))
    each = np.maximum(1, wanted_bps * (HOUR_S / 8))
    found: Floats = (-np.expm1(-asked_bytes(objects) / each[:, None])).astype(np.float32)
    return found


def asked_bytes(objects: Objects) -> NDArray[np.float64]:
    """Of all regions together, objects × hours."""
    of = objects.object_of_row()
    by_hour = [np.bincount(of, hour, len(objects)) for hour in objects.demand_bytes.T]
    return np.stack(by_hour, axis=1).astype(np.float64)


def holding(copies: Copies, objects: int, devices: int) -> Holding:
    """Who holds what."""
    if objects * devices <= DENSE_PAIRS_MAX:
        dense = np.zeros((objects, devices))
        dense[copies.object, copies.device] = 1
        return dense
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(copies.object)), (copies.object, copies.device)), (objects, devices))


def open_books(fleet: Fleet, objects: Objects, copies: Copies, config: Config) -> Books:
    """Share the demand out among the copies that there are, in proportion to what their devices can give, as routing
    does: it sends each request where more is left. What is asked while every holder is away is not served.

    What a copy can serve is what its device can give times the share of the hour in which its object is asked for. So
    nothing is reckoned for each copy: millions of them are a few products of a matrix.
    """
    held = holding(copies, len(objects), len(fleet))
    bookable = bookable_bytes(fleet.forecast_up_bps, config.booked_share)
    busy, asked = asked_share(objects, config), asked_bytes(objects)
    online = np.minimum(fleet.online_share, 1 - OFFLINE_SHARE_MIN).astype(np.float64)
    left = asked * -np.expm1(held @ np.log1p(-online))[:, None]
    away = asked - left
    able = bookable * online[:, None]
    free = np.ones_like(able)
    passes = []
    for _ in range(PASSES):
        can = able * free
        share = busy * _ratio(left, busy * (held @ can), 0)
        load = free * (held.T @ share)
        squeeze = _ratio(free, load, 1)
        given = can * squeeze
        left -= share * (held @ given)
        free = np.maximum(0, free - load * squeeze)
        passes.append((share.astype(np.float32), given.astype(np.float32)))
        if left.max(initial=0) < 1:
            break
    spare = able * free
    shares = Shares(tuple(passes), busy, spare.astype(np.float32), (held @ spare).astype(np.float32))
    unserved = _ratio(left + away, asked, 0).astype(np.float32)
    wanted = objects.demand_bytes * unserved[objects.object_of_row()]
    return Books(bookable, bookable * free.astype(np.float32), wanted, busy, shares)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], of_nothing: float) -> NDArray[np.float64]:
    """At most one; ``of_nothing`` where there is no whole."""
    found: NDArray[np.float64] = np.divide(part, whole, out=np.full_like(whole, of_nothing), where=whole > 0)
    return found.clip(0, 1, out=found)
