"""A heartbeat as it is kept until the next one. Pure.

The fleet's heartbeats are most of what a server keeps in memory, and most of each is as it was in the one before, or
as in those of other devices: such parts are kept once.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from sys import intern

from fallow_wire.session import Environment, Heartbeat


def lasting(beat: Heartbeat, before: Heartbeat | None) -> Heartbeat:
    """The same heartbeat, sharing what it can with ``before`` and with other devices. Its forecast is an array of 64
    bits each: so many integers of Python's own take 0.7 KiB more."""
    forecast: array[int] = array("Q", beat.forecast_idle_up_bps)
    if before is None:
        return replace(beat, forecast_idle_up_bps=forecast, environment=_shared(beat.environment))
    same = beat.environment == before.environment
    # The forecast changes by the hour, the disk with each copy.
    return Heartbeat(
        beat.state,
        beat.line,
        before.forecast_idle_up_bps if forecast == before.forecast_idle_up_bps else forecast,
        before.disk if beat.disk == before.disk else beat.disk,
        before.processor if beat.processor == before.processor else beat.processor,
        before.environment if same else _shared(beat.environment),
        before.services if beat.services == before.services else beat.services,
        connections=beat.connections,
        connections_max=beat.connections_max,
    )


def _shared(environment: Environment) -> Environment:
    """Models, systems and versions are few."""
    return replace(
        environment, os=intern(environment.os), model=intern(environment.model), version=intern(environment.version)
    )
