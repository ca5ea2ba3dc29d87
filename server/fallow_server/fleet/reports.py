"""A heartbeat as it is kept until the next one. Pure.

The fleet's heartbeats are most of what a server keeps in memory, and most of each is as it was in the one before, or
as in those of other devices: such parts are kept once. Those of the one before are found as it is read
(:func:`fallow_wire.session.read_upward`).
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from sys import intern

from fallow_wire.session import Environment, Heartbeat


def lasting(beat: Heartbeat, before: Heartbeat | None) -> Heartbeat:
    """The same heartbeat, sharing its words with those of other devices. Its forecast is an array of 64 bits each: so
    many integers of Python's own take 0.7 KiB more.

    :param before: what it was read against, so that what is as it was is the same already.
    """
    forecast, environment = beat.forecast_idle_up_bps, beat.environment
    if before is not None and forecast is before.forecast_idle_up_bps and environment is before.environment:
        return beat
    if not isinstance(forecast, array):
        forecast = array("Q", forecast)
    if before is None or environment is not before.environment:
        environment = _shared(environment)
    return replace(beat, forecast_idle_up_bps=forecast, environment=environment)


def _shared(environment: Environment) -> Environment:
    """Models, systems and versions are few."""
    return replace(
        environment, os=intern(environment.os), model=intern(environment.model), version=intern(environment.version)
    )
