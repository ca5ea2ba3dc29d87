"""What is kept of heartbeats: the same values, each equal part once."""

from __future__ import annotations

from dataclasses import replace

from fallow_server.fleet.reports import lasting
from fallow_wire.session import Heartbeat, read_upward, write
from heartbeats import HEARTBEAT, MBIT, plain, with_line


def received(beat: Heartbeat, before: Heartbeat | None = None) -> Heartbeat:
    """As it comes over the wire and is kept."""
    found = read_upward(write(beat), before)
    assert isinstance(found, Heartbeat)
    return lasting(found, before)


def test_what_did_not_change_is_kept_once() -> None:
    first = received(HEARTBEAT)
    said = with_line(idle_up_bps=3 * MBIT)
    second = received(said, first)
    assert plain(first) == HEARTBEAT
    assert plain(second) == said
    assert second is not first
    for part in ("environment", "forecast_idle_up_bps", "disk", "processor", "services"):
        assert getattr(second, part) is getattr(first, part)


def test_what_changed_is_as_it_is_said() -> None:
    said = Heartbeat(
        "paused",
        replace(HEARTBEAT.line, rtt_ms=7),
        (MBIT,) * 24,
        replace(HEARTBEAT.disk, used_bytes=5),
        replace(HEARTBEAT.processor, spare_percent=1),
        replace(HEARTBEAT.environment, nat="carrier", service_ports=()),
        ("fill",),
        3,
        4,
    )
    assert plain(received(said, received(HEARTBEAT))) == said


def test_devices_of_one_kind_share_its_names() -> None:
    one, other = (received(HEARTBEAT) for _ in range(2))
    assert one.environment.model is other.environment.model
    assert one.environment.os is other.environment.os
    # Words that the wire names are the wire's own.
    assert one.disk.medium is other.disk.medium
