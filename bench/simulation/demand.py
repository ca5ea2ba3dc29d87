"""What consumers ask for: popularity and its drift of a recorded trace, hours of homes; the rest is made up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .homes import HOUR_S, Networks
from .recordings import Floats, Integers, Recordings

OBJECT_BYTES = 2**31
"""A film, a game's update: what is large is what is worth a home's line."""
DRIFT_HOURS = 12
"""Over so much of the trace, either side, popularity is averaged: the trace is thin, the simulated demand is not."""
AT_HOME_SHARE = 0.5
"""Of an object's consumers: in its own country; the rest are spread as homes are."""


@dataclass(frozen=True, slots=True)
class Requests:
    """In order of time: ``at_s`` [r], ``object`` [r], ``network`` [r] of the consumer. ``size_bytes`` [objects].

    ``part_bytes`` [r]: what each asks for of the object; None where all ask for the whole. ``replicas`` [objects]: the
    fewest copies that publishers want; None where they want none.
    """

    at_s: Floats
    object: Integers
    network: Integers
    size_bytes: Integers
    hours: int
    part_bytes: Integers | None = None
    replicas: Integers | None = None

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def objects(self) -> int:
        return len(self.size_bytes)

    def bytes_asked(self) -> Floats:
        """By each request."""
        return (self.size_bytes[self.object] if self.part_bytes is None else self.part_bytes).astype(float)

    def bytes_by_hour(self) -> Floats:
        hour = (self.at_s // HOUR_S).astype(np.int64)
        return np.bincount(hour, self.bytes_asked(), self.hours)


def hourly_shape(recordings: Recordings, networks: Networks, hours: int) -> Floats:
    """Hours × networks: share of the week's requests."""
    slots = (np.arange(hours)[:, None] + networks.zone_h) % len(recordings.home_shape)
    shape = recordings.home_shape[slots] * networks.share
    return np.asarray(shape / shape.sum())


def requests_of(
    recordings: Recordings, networks: Networks, objects: int, hours: int, total: float, seed: int
) -> Requests:
    """About ``total`` requests over ``hours`` for the most requested ``objects`` of the trace."""
    draw = np.random.default_rng([seed, 2])
    trace = recordings.requests[recordings.requests < objects]
    shape = hourly_shape(recordings, networks, hours)
    drift = _popularity(trace, objects, shape.sum(axis=1))
    country_of = np.unique(networks.country, return_inverse=True)[1]
    by_country = np.bincount(country_of, networks.share)
    # Which country an object is of does not follow from its rank.
    home = draw.choice(len(by_country), objects, p=by_country)
    found = []
    for hour in range(hours):
        counts = draw.poisson(total * shape[hour])
        network = np.repeat(np.arange(len(counts)), counts)
        asked = draw.choice(objects, len(network), p=drift[hour])
        asked = _at_home(draw, asked, country_of[network], home, drift[hour])
        at_s = np.sort(HOUR_S * (hour + draw.random(len(network))))
        order = draw.permutation(len(network))
        found.append((at_s, asked[order], network[order]))
    at_s, asked, network = (np.concatenate(part) for part in zip(*found, strict=True))
    return Requests(at_s, asked, network, np.full(objects, OBJECT_BYTES), hours)


def _popularity(trace: Integers, objects: int, shape: Floats) -> Floats:
    """Hours × objects: the trace is laid over the week so that its requests come when consumers are awake."""
    ends = np.concatenate([[0], np.cumsum(shape) / shape.sum()])
    hour = np.clip(np.searchsorted(ends, (np.arange(len(trace)) + 0.5) / len(trace)) - 1, 0, len(shape) - 1)
    counts = np.zeros((len(shape), objects))
    np.add.at(counts, (hour, trace), 1.0)
    sums = np.concatenate([np.zeros((1, objects)), np.cumsum(counts, axis=0)])
    at = np.arange(len(shape))
    smooth = sums[np.minimum(at + DRIFT_HOURS + 1, len(shape))] - sums[np.maximum(at - DRIFT_HOURS, 0)]
    return np.asarray(smooth / smooth.sum(axis=1, keepdims=True))


def _at_home(
    draw: np.random.Generator, asked: Integers, country: Integers, home: Integers, popularity: Floats
) -> Integers:
    """A share of the requests is for objects of the consumer's own country instead, where there are any."""
    found = asked.copy()
    native = draw.random(len(asked)) < AT_HOME_SHARE
    for one in np.unique(country[native]):
        weights = popularity * (home == one)
        if weights.sum() > 0:
            who = np.flatnonzero(native & (country == one))
            found[who] = draw.choice(len(weights), len(who), p=weights / weights.sum())
    return found
