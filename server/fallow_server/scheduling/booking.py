"""The books of the coming day: what each device's hours may be booked with, and what its copies book of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .columns import HOUR_S, HOURS, Copies, Fleet, Floats, Objects

PASSES = 3
"""Of sharing out an hour: what a busy device cannot take goes to the other holders; little is left after the third."""
OFFLINE_SHARE_MIN = 1e-3
"""Nothing is online for ever; also keeps the logarithm of the share finite."""


@dataclass(slots=True)
class Books:
    """Bytes by hour. Placement writes ``left`` and ``wanted`` as it goes.

    ``bookable`` [n, 24]: of each device; ``left`` [n, 24]: of that not booked. ``wanted`` [k, 24]: demand that no copy
    serves. ``earned`` [c]: what would go unserved over the day without the copy, the others taking over what they can.
    """

    bookable: Floats
    left: Floats
    wanted: Floats
    earned: Floats


def bookable_bytes(forecast_up_bps: Floats, booked_share: float) -> Floats:
    """What each hour is reckoned with."""
    return (forecast_up_bps * np.float32(booked_share * HOUR_S / 8)).astype(np.float32)


def open_books(fleet: Fleet, objects: Objects, copies: Copies, booked_share: float) -> Books:
    """Share the demand out among the copies that there are, in proportion to what their devices can give, as routing
    does: it sends each request where more is left. What is asked while every holder is away is not served."""
    bookable = bookable_bytes(fleet.forecast_up_bps, booked_share)
    books = Books(bookable, bookable.copy(), objects.demand_bytes.copy(), np.zeros(len(copies.object), np.float32))
    if not len(copies.object) or not len(objects.demand_bytes):
        return books
    held, device, count, fleet_size = copies.object, copies.device, len(objects), len(fleet)
    row_object = np.repeat(np.arange(count), np.diff(objects.first_row))
    online = np.minimum(fleet.online_share[device], 1 - OFFLINE_SHARE_MIN)
    someone_there = -np.expm1(np.bincount(held, np.log1p(-online), count))
    for hour in range(HOURS):
        asked = np.bincount(row_object, objects.demand_bytes[:, hour], count)
        left = asked * someone_there
        able = bookable[device, hour] * online
        free = np.ones(fleet_size)
        booked = np.zeros(len(held))
        for _ in range(PASSES):
            can = able * free[device]
            together = np.bincount(held, can, count)
            use = np.divide(left, together, out=np.zeros(count), where=together > 0).clip(0, 1)
            share = use[held] * free[device]
            load = np.bincount(device, share, fleet_size)
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
