"""The question of a round of placement, as columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import HOURS, Copies, Fleet, Ints, Objects, Pairs
from .expectation import Expected, expected
from .gathering import ROW, Question, root
from .regions import Config, Regions

ROWS_PER_OBJECT_MAX = 8
"""Regions of one object's demand; the rest counts as the least of them."""

ROWS = np.dtype(
    {
        "names": ["fit", "held", "place", "home", "room", "quota", "waiting", "online", "forecast"],
        "formats": ["?", "<i4", "<i4", "<i4", "<i8", "<i8", "<i8", "<f4", f"({HOURS},)<f4"],
        "offsets": [0, 4, 8, 12, 16, 24, 32, 40, 44],
        "itemsize": ROW.size,
    }
)


@dataclass(frozen=True, slots=True)
class Columns:
    fleet: Fleet
    objects: Objects
    copies: Copies
    refused: Pairs


def columns(question: Question, nearness: Config) -> Columns:
    coming = expected(question.demand, question.now)
    rows = np.frombuffer(question.devices, ROWS, question.device_count)
    weights = dict.fromkeys(question.places, 0.0)
    for place, asked in zip(coming.places, coming.bytes_by_hour.sum(axis=1).tolist(), strict=True):
        weights[place] = weights.get(place, 0) + asked
    regions = Regions(weights, nearness)
    region = np.array([regions.row(place) for place in question.places] or [0], np.int32)
    homes = np.array([root(question.same_home, home) for home in range(len(question.same_home))] or [0], np.int32)
    fleet = Fleet(
        fit=np.ascontiguousarray(rows["fit"]),
        home=homes[rows["home"]],
        region=region[rows["place"]],
        room_bytes=np.ascontiguousarray(rows["room"]),
        quota_bytes=np.ascontiguousarray(rows["quota"]),
        waiting_bytes=np.ascontiguousarray(rows["waiting"]),
        online_share=np.ascontiguousarray(rows["online"]),
        forecast_up_bps=np.ascontiguousarray(rows["forecast"]),
    )
    return Columns(
        fleet, _objects(question, coming, regions), _copies(question, rows["held"]), Pairs(*_pairs(question.refused))
    )


def _pairs(flat: array[int]) -> tuple[Ints, Ints]:
    both = np.array(flat, np.int32).reshape(-1, 2)
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def _copies(question: Question, held_each: Ints) -> Copies:
    """By object. A copy that is made again is held."""
    held, by = np.array(question.held, np.int32), np.repeat(np.arange(len(held_each), dtype=np.int32), held_each)
    coming, to = _pairs(question.coming)
    if len(coming):
        concerned = np.zeros(len(held_each), np.bool_)
        concerned[to] = True
        there = concerned[by]
        known = np.isin(_keys(coming, to, question), _keys(held[there], by[there], question))
        coming, to = coming[~known], to[~known]
    of, device = np.concatenate((held, coming)), np.concatenate((by, to))
    # Numbers of 16 bits are counted rather than compared.
    order = np.argsort(of.astype(np.min_scalar_type(len(question.object_ids))), kind="stable")
    return Copies(of[order], device[order], order < len(held))


def _keys(of: Ints, device: Ints, question: Question) -> NDArray[np.int64]:
    return of.astype(np.int64) * question.device_count + device


def _objects(question: Question, coming: Expected, regions: Regions) -> Objects:
    """What is expected of each region for each object; other objects' demand is left out."""
    known = {object_id: row for row, object_id in enumerate(question.object_ids)}
    those = [row for row, object_id in enumerate(coming.objects) if object_id in known]
    of = np.array([known[coming.objects[row]] for row in those], np.int64)
    region = np.array([regions.row(coming.places[row]) for row in those], np.int64)
    count = len(regions.places)
    keys, inverse = np.unique(of * count + region, return_inverse=True)
    demand = np.zeros((len(keys), HOURS))
    np.add.at(demand, inverse, coming.bytes_by_hour[those].astype(np.float64))
    demand, keys = _few_rows(demand, keys, count)
    return Objects(
        size_bytes=np.array(question.sizes, np.int64),
        replicas=np.array(question.replicas, np.int32),
        first_row=np.searchsorted(keys // count, np.arange(len(known) + 1)).astype(np.int32),
        region=(keys % count).astype(np.int32),
        demand_bytes=demand.astype(np.float32),
        nearness=np.array(regions.nearness, np.float32),
    )


def _few_rows(
    demand: NDArray[np.float64], keys: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The regions that ask most for each object, with what the others ask for added to the last of them."""
    of = keys // count
    order = np.lexsort((-demand.sum(axis=1), of))
    rank = np.arange(len(order)) - np.searchsorted(of[order], of[order])
    target = order.copy()
    many = rank >= ROWS_PER_OBJECT_MAX
    target[many] = order[np.flatnonzero(many) - (rank[many] - ROWS_PER_OBJECT_MAX + 1)]
    folded = np.zeros_like(demand)
    np.add.at(folded, target, demand[order])
    kept = np.sort(order[~many])
    return folded[kept], keys[kept]
