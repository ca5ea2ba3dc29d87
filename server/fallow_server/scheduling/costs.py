"""What placement weighs a copy's bytes against."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("served", "distance", "risk", "fill", "disk")
"""Of a value, which is the first less the others; each in bytes over the coming day."""


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``booked_share``: of the forecast, so much is reckoned with: about what routing then promises of a line, three
    quarters of what is idle, of which the forecast is some seven eighths. With more there were too few copies for each
    consumer to find a line that is free, with less the fills cost more than they brought.
    ``overrun_price``: what a byte costs in an hour that is booked to the full; it grows with the square of what is
    booked, so that a round spreads over lines. Above 1/3 a byte more could lower the value of a copy.
    ``fill_price``: of a byte that fills a copy, in the hour of most demand. ``quiet_discount``: how much cheaper it is
    when nobody asks for anything: copies for the evening are made at night.
    ``disk_price``: of a byte on a disk that is full; it grows with the square of what is used.
    ``consumer_bps``, ``consumer_s_min``: what a consumer wants of all lines together, a small object within so long.
    It is twice what routing books four devices with: others ask at the same time, and some lines are full just then.
    ``copies_max``: made in one round; more than the origin could fill until the next one.
    ``looked_at_min``, ``looked_at_max``: devices drawn for an object, strong and near ones rather; the best of some
    hundred is about as good as the best of all (Mirzasoleiman and others, 2015).
    ``often_requests``, ``often_replicas``: of an object that is asked for so often in a day there are so many copies on
    different lines: where only two lines have it, who serves whom cannot be told from cheating.
    ``crowded_share``: of its quota that a device must hold before a copy is dropped. ``idle_share``: of its size that a
    copy must earn in a day, else it may be dropped. Making one takes ten times as much, so that none comes and goes.
    ``drop_share``: of the copies beyond the wanted ones, dropped in one round.
    """

    booked_share: float = 0.85
    overrun_price: float = 0.3
    fill_price: float = 1.0
    quiet_discount: float = 0.75
    disk_price: float = 0.25
    consumer_bps: float = 20_000_000
    consumer_s_min: float = 30
    copies_max: int = 20_000
    looked_at_min: int = 64
    looked_at_max: int = 2048
    often_requests: float = 24
    often_replicas: int = 3
    crowded_share: float = 0.9
    idle_share: float = 0.025
    drop_share: float = 0.125
