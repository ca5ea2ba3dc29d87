"""The books of the coming day: what each device's hours may be booked with, and what its copies book of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .columns import HOUR_S, HOURS, Copies, Fleet, Floats, Objects
from .costs import Config

PASSES = 3
"""Of sharing out an hour: what a busy device cannot take goes to the other holders; little is left after the third."""
OFFLINE_SHARE_MIN = 1e-3
"""Nothing is online for ever; also keeps the logarithm of the share finite."""

ASKED_SHARE_MIN = 1e-3
"""Keeps divisions by :func:`asked_share` finite."""


@dataclass(slots=True)
class Books:
    """Bytes by hour. Placement writes ``left`` and ``wanted`` as it goes.

    ``bookable`` [n, 24]: of each device; ``left`` [n, 24]: of that not booked. ``wanted`` [k, 24]: demand that no copy
    serves. ``asked`` [m, 24]: see :func:`asked_share`. ``earned`` [c]: what would go unserved over the day without the
    copy, the others taking over what they can.
    """

    bookable: Floats
    left: Floats
    wanted: Floats
    asked: Floats
    earned: Floats


def bookable_bytes(forecast_up_bps: Floats, booked_share: float) -> Floats:
    """What each hour is reckoned with."""
    return (forecast_up_bps * np.float32(booked_share * HOUR_S / 8)).astype(np.float32)


def asked_share(objects: Objects, config: Config) -> Floats:
    """The share of each hour in which some consumer is at the object, objects × hours; in the rest no line serves it.

    Consumers come by chance, and each wants its bytes at ``consumer_bps``, of a small object within ``consumer_s_min``:
    the mean number that are there is demand ÷ that rate, and nobody is there with the chance exp(−mean). What is asked
    for seldom so needs as many lines as what is asked for all the time, and books little of each.
    """
    row_object = objects.object_of_row()
    wanted_bps = np.minimum(config.consumer_bps, objects.size_bytes * (8 / config.consumer_s_min))
    each = np.maximum(1, wanted_bps * (HOUR_S / 8))
    asked = np.stack(
        [np.bincount(row_object, objects.demand_bytes[:, hour], len(objects)) for hour in range(HOURS)], axis=1
    )
    found: Floats = (-np.expm1(-asked / each[:, None])).astype(np.float32)
    return found


def open_books(fleet: Fleet, objects: Objects, copies: Copies, config: Config) -> Books:
    """Share the demand out among the copies that there are, in proportion to what their devices can give, as routing
    does: it sends each request where more is left. What is asked while every holder is away is not served."""
    bookable = bookable_bytes(fleet.forecast_up_bps, config.booked_share)
    busy = asked_share(objects, config)
    earned = np.zeros(len(copies.object), np.float32)
    books = Books(bookable, bookable.copy(), objects.demand_bytes.copy(), busy, earned)
    if not len(copies.object) or not len(objects.demand_bytes):
        return books
    held, device, count, fleet_size = copies.object, copies.device, len(objects), len(fleet)
    row_object = objects.object_of_row()
    online = np.minimum(fleet.online_share[device], 1 - OFFLINE_SHARE_MIN)
    someone_there = -np.expm1(np.bincount(held, np.log1p(-online), count))
    for hour in range(HOURS):
        asked = np.bincount(row_object, objects.demand_bytes[:, hour], count)
        left = asked * someone_there
        there = busy[held, hour]
        able = bookable[device, hour] * online * there
        free = np.ones(fleet_size)
        booked = np.zeros(len(held))
        for _ in range(PASSES):
            can = able * free[device]
            together = np.bincount(held, can, count)
            use = np.divide(left, together, out=np.zeros(count), where=together > 0).clip(0, 1)
            share = use[held] * free[device]
            load = np.bincount(device, share * there, fleet_size)
            squeeze = np.minimum(1, np.divide(free, load, out=np.ones(fleet_size), where=load > 0))
            taken = able * share * squeeze[device]
            booked += taken
            left -= np.bincount(held, taken, count)
            free = np.maximum(0, free - load * squeeze)
        books.left[:, hour] *= free.astype(np.float32)
        spare = able * free[device]
        others = np.bincount(held, spare, count)[held] - spare
        books.earned += np.maximum(0, booked - others).astype(np.float32)
        unserved = np.divide(left + asked * (1 - someone_there), asked, out=np.zeros(count), where=asked > 0).clip(0, 1)
        books.wanted[:, hour] *= unserved[row_object].astype(np.float32)
    return books
