"""Devices as placement and routing see them."""

from __future__ import annotations

from dataclasses import replace

from fallow_server.scheduling.views import DeviceView

MIB = 2**20


def device(number: int = 0, **changes: object) -> DeviceView:
    """One that everything can be asked of, with ``changes``."""
    good = DeviceView(
        device_id=f"fd-{number:024d}",
        owner=f"owner-{number}",
        state="active",
        heartbeat_age_s=3,
        service_urls=("http://203.0.113.5:32557",),
        services=frozenset({"object"}),
        idle_up_bps=20_000_000,
        own_up_bps=0,
        forecast_idle_up_bps=(10_000_000,) * 24,
        disk_free_bytes=1000 * MIB,
        disk_quota_bytes=2000 * MIB,
        spare_percent=80,
        connections=0,
        connections_max=100,
    )
    return replace(good, **changes)  # type: ignore[arg-type]
