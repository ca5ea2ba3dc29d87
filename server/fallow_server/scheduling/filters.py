"""Who may be chosen: named filters, each with the reason code that it gives when it refuses.

The first filter that refuses gives the reason. Order is from what is cheap and permanent to what changes by the second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .views import Demand, DeviceView

UNREACHABLE = "unreachable"
PAUSED = "paused"
STALE = "stale"
SERVICE_OFF = "service-off"
NOT_HELD = "not-held"
OTHER_FAMILY = "other-family"
FULL = "full"
LINE_BUSY = "line-busy"
HELD = "held"
FAILED_BEFORE = "failed-before"
NO_DISK = "no-disk"
TOO_HOT = "too-hot"
PROCESSOR_BUSY = "processor-busy"
LINE_TOO_SLOW = "line-too-slow"


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``heartbeat_age_s_max``: three heartbeats of 15 s; a device that missed them may be gone.
    ``request_bps_min``: a device with less left would serve a consumer slower than any origin.
    ``fill_forecast_bps_min``: a copy on a line that never gets this fast serves nobody.
    ``disk_reserve_bytes``: left free, for what the device itself writes.
    ``temperature_c_max``: small boards throttle at 80 °C and more.
    ``spare_percent_min``: filling hashes and writes; a device without this much left is busy with its own work.
    """

    heartbeat_age_s_max: int = 45
    request_bps_min: int = 256_000
    fill_forecast_bps_min: int = 64_000
    disk_reserve_bytes: int = 16 * 2**20
    temperature_c_max: int = 80
    spare_percent_min: int = 5


@dataclass(frozen=True, slots=True)
class Request:
    """A consumer's request. ``family``: ``ipv4``, ``ipv6``, or None where it does not matter."""

    object_id: str
    service: str = "object"
    family: str | None = None


Refuses = Callable[[DeviceView, Request, Config], bool]
RefusesFill = Callable[[DeviceView, Demand, Config], bool]


_IPV4_URL = re.compile(r"https?://[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:[:/]|\Z)")
_IPV6_URL = re.compile(r"https?://\[")


def _family(url: str) -> str | None:
    """Of the address in a URL, None for a name. By its look, for each candidate of a request is asked."""
    if _IPV4_URL.match(url) is not None:
        return "ipv4"
    return "ipv6" if _IPV6_URL.match(url) is not None else None


def url_for(device: DeviceView, family: str | None) -> str | None:
    """The service address to hand to a consumer of ``family``: one of the same where there is one.

    Consumers with IPv6 nearly always reach IPv4 too; the reverse is false. Names fit everybody.
    """
    for url in device.service_urls:
        if family is None or _family(url) in (None, family):
            return url
    if family == "ipv6" and device.service_urls:
        return device.service_urls[0]
    return None


ROUTING: tuple[tuple[str, Refuses], ...] = (
    (NOT_HELD, lambda device, request, config: request.object_id not in device.held),
    (UNREACHABLE, lambda device, request, config: not device.service_urls),
    (OTHER_FAMILY, lambda device, request, config: url_for(device, request.family) is None),
    (PAUSED, lambda device, request, config: device.state != "active"),
    (SERVICE_OFF, lambda device, request, config: request.service not in device.services),
    (STALE, lambda device, request, config: device.heartbeat_age_s > config.heartbeat_age_s_max),
    (FULL, lambda device, request, config: device.connections + device.routed_requests >= device.connections_max),
    (LINE_BUSY, lambda device, request, config: device.remaining_up_bps < config.request_bps_min),
)

PLACEMENT: tuple[tuple[str, RefusesFill], ...] = (
    (HELD, lambda device, demand, config: device.device_id in demand.holders or demand.object_id in device.held),
    (FAILED_BEFORE, lambda device, demand, config: device.device_id in demand.excluded),
    (UNREACHABLE, lambda device, demand, config: not device.service_urls),
    (PAUSED, lambda device, demand, config: device.state != "active"),
    (SERVICE_OFF, lambda device, demand, config: "object" not in device.services),
    (STALE, lambda device, demand, config: device.heartbeat_age_s > config.heartbeat_age_s_max),
    (
        NO_DISK,
        lambda device, demand, config: device.disk_room_bytes < demand.size_bytes + config.disk_reserve_bytes,
    ),
    (
        TOO_HOT,
        lambda device, demand, config: (
            device.temperature_c is not None and device.temperature_c > config.temperature_c_max
        ),
    ),
    (PROCESSOR_BUSY, lambda device, demand, config: device.spare_percent < config.spare_percent_min),
    (
        LINE_TOO_SLOW,
        lambda device, demand, config: (
            max(device.forecast_idle_up_bps, default=device.idle_up_bps) < config.fill_forecast_bps_min
        ),
    ),
)


def routing_refusal(device: DeviceView, request: Request, config: Config) -> str | None:
    """The reason why ``device`` may not serve ``request`` now, or None."""
    for reason, refuses in ROUTING:
        if refuses(device, request, config):
            return reason
    return None


def placement_refusal(device: DeviceView, demand: Demand, config: Config) -> str | None:
    """The reason why ``device`` may not be asked to hold the object of ``demand``, or None."""
    return next((reason for reason, refuses in PLACEMENT if refuses(device, demand, config)), None)


def explain(devices: Iterable[DeviceView], demand: Demand, config: Config) -> dict[str, int]:
    """How many devices each reason keeps from ``demand``: what a publisher is told while a task waits."""
    found: dict[str, int] = {}
    for device in devices:
        reason = placement_refusal(device, demand, config)
        if reason is not None:
            found[reason] = found.get(reason, 0) + 1
    return dict(sorted(found.items()))
