"""When a report cannot wait for the next heartbeat. Pure."""

from __future__ import annotations

from fallow_wire.session import Heartbeat

IDLE_CHANGE = 0.25
"""A change of idle upload by so much of the capacity is large: consumers are being routed by it. So is an end of own
traffic that was so much of what may be used."""


def changed_largely(before: Heartbeat, after: Heartbeat) -> bool:
    """True when the scheduler should know at once: it would send consumers or tasks in vain, or none."""
    if (before.state, before.services) != (after.state, after.services):
        return True
    if before.environment.service_ports != after.environment.service_ports:
        return True
    if before.disk.quota_bytes != after.disk.quota_bytes or before.connections_max != after.connections_max:
        return True
    capacity = max(before.line.up_capacity_bps, after.line.up_capacity_bps)
    large = IDLE_CHANGE * capacity
    # That we use more is no news: the scheduler has sent those consumers. That a transfer ended is: to a line that was
    # reported full nobody is sent, and it would stand empty until the next heartbeat. By what may be used, which can be
    # a small part of the line. Only a heartbeat reports more again, so that these reports are few.
    freed = before.line.own_up_bps - after.line.own_up_bps
    usable = max(before.line.idle_up_bps, after.line.idle_up_bps)
    return abs(before.line.idle_up_bps - after.line.idle_up_bps) > large or freed > IDLE_CHANGE * usable
