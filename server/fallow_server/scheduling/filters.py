"""Who may be chosen: named filters, each with the reason code that it gives when it refuses.

The first filter that refuses gives the reason. Order is from what is cheap and permanent to what changes by the second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .needs import ANY_PORT, NO_PORT
from .views import Demand, DeviceView, ServingView

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
TOO_FEW_BYTES = "too-few-bytes"
PLACE_UNKNOWN = "place-unknown"
ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``heartbeat_age_s_max``: three heartbeats of 15 s; a device that missed them may be gone. Where the policy asks for
    fewer heartbeats, it is three of those at least.
    ``request_bps_min``: a device with less left would serve a consumer slower than any origin.
    ``shared_bps_min``: what a device must have for each that it serves, where a consumer has several to turn to.
    ``fill_forecast_bps_min``: a copy on a line that never gets this fast serves nobody.
    ``work_bps_min``: with less idle now the household is using the line, and a device would put the task off.
    ``disk_reserve_bytes``: left free, for what the device itself writes.
    ``temperature_c_max``: small boards throttle at 80 °C and more.
    ``spare_percent_min``: filling hashes and writes; a device without this much left is busy with its own work.
    """

    heartbeat_age_s_max: int = 45
    request_bps_min: int = 256_000
    shared_bps_min: int = 64_000
    fill_forecast_bps_min: int = 64_000
    work_bps_min: int = 64_000
    disk_reserve_bytes: int = 16 * 2**20
    temperature_c_max: int = 80
    spare_percent_min: int = 5


HEARTBEATS_MISSED_MAX = 3


def waiting_for_heartbeats(config: Config, heartbeat_s: int) -> Config:
    """The same filters where a heartbeat comes so often."""
    age_s_max = max(config.heartbeat_age_s_max, HEARTBEATS_MISSED_MAX * heartbeat_s)
    return replace(config, heartbeat_age_s_max=age_s_max)


@dataclass(frozen=True, slots=True)
class Request:
    """A consumer's request. ``family``: ``ipv4``, ``ipv6``, or None where it does not matter. ``shared``: it is one of
    several devices that serve the consumer. ``in_part``: it need not hold the whole object."""

    object_id: str
    service: str = "object"
    family: str | None = None
    shared: bool = False
    in_part: bool = False


RefusesFill = Callable[[DeviceView, Demand, Config], bool]


_IPV4_URL = re.compile(r"https?://[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:[:/]|\Z)")
_IPV6_URL = re.compile(r"https?://\[")


def family_of_url(url: str) -> str | None:
    """Of the address in a URL, None for a name. By its look, for each candidate of a request is asked."""
    if _IPV4_URL.match(url) is not None:
        return "ipv4"
    return "ipv6" if _IPV6_URL.match(url) is not None else None


def url_for(device: ServingView, family: str | None) -> str | None:
    """The service address to hand to a consumer of ``family``: one of the same where there is one.

    Consumers with IPv6 nearly always reach IPv4 too; the reverse is false. Names fit everybody.
    """
    for url in device.service_urls:
        if family is None or family_of_url(url) in (None, family):
            return url
    if family == "ipv6" and device.service_urls:
        return device.service_urls[0]
    return None


PLACEMENT: tuple[tuple[str, RefusesFill], ...] = (
    (HELD, lambda device, demand, config: device.device_id in demand.holders or demand.object_id in device.held),
    (FAILED_BEFORE, lambda device, demand, config: device.device_id in demand.excluded),
    (PLACE_UNKNOWN, lambda device, demand, config: bool(demand.needs.regions) and device.place.country is None),
    (ELSEWHERE, lambda device, demand, config: not demand.needs.admits(device.place)),
    (UNREACHABLE, lambda device, demand, config: demand.needs.ports != NO_PORT and not device.service_urls),
    (OTHER_FAMILY, lambda device, demand, config: not _has_port(device, demand.needs.ports)),
    (PAUSED, lambda device, demand, config: device.state != "active"),
    (SERVICE_OFF, lambda device, demand, config: demand.needs.service not in device.services),
    (STALE, lambda device, demand, config: device.heartbeat_age_s > config.heartbeat_age_s_max),
    (NO_DISK, lambda device, demand, config: device.disk_room_bytes < _disk_bytes(demand, config)),
    (
        TOO_HOT,
        lambda device, demand, config: (
            device.temperature_c is not None and device.temperature_c > config.temperature_c_max
        ),
    ),
    (
        PROCESSOR_BUSY,
        lambda device, demand, config: (
            device.spare_percent < max(config.spare_percent_min, demand.needs.processor_percent)
        ),
    ),
    (LINE_TOO_SLOW, lambda device, demand, config: _line_bps(device, demand) < _line_bps_min(demand, config)),
    (TOO_FEW_BYTES, lambda device, demand, config: 0 < demand.needs.bytes > device.coming_bytes(demand.hours)),
)


def _has_no_line(device: ServingView, request: Request, config: Config) -> bool:
    if not request.shared:
        return device.remaining_up_bps < config.request_bps_min
    return device.idle_up_bps // (1 + device.connections + device.routed_requests) < config.shared_bps_min


def _has_port(device: DeviceView, ports: str) -> bool:
    return ports in (NO_PORT, ANY_PORT) or any(family_of_url(url) in (None, ports) for url in device.service_urls)


def _disk_bytes(demand: Demand, config: Config) -> int:
    """Room that the task wants, with the reserve; a task that writes nothing wants none."""
    wanted = max(demand.size_bytes, demand.needs.disk_bytes)
    return wanted + config.disk_reserve_bytes if wanted or demand.object_id else 0


def _line_bps(device: DeviceView, demand: Demand) -> int:
    """A copy serves in the hours to come, of which the best counts; everything else begins now."""
    if demand.object_id:
        return min(max(device.forecast_idle_up_bps, default=device.idle_up_bps), device.line_up_bps)
    return device.remaining_up_bps


def _line_bps_min(demand: Demand, config: Config) -> int:
    least = config.fill_forecast_bps_min if demand.object_id else config.work_bps_min
    return max(least, demand.needs.up_bps)


def routing_refusal(device: ServingView, request: Request, config: Config) -> str | None:
    """The reason why ``device`` may not serve ``request`` now, or None. Not a table as for placement: each request asks
    it of eight devices."""
    if not request.in_part and request.object_id not in device.held:
        return NOT_HELD
    if not device.service_urls:
        return UNREACHABLE
    if url_for(device, request.family) is None:
        return OTHER_FAMILY
    if device.state != "active":
        return PAUSED
    if request.service not in device.services:
        return SERVICE_OFF
    if device.heartbeat_age_s > config.heartbeat_age_s_max:
        return STALE
    if device.connections + device.routed_requests >= device.connections_max:
        return FULL
    return LINE_BUSY if _has_no_line(device, request, config) else None


def placement_refusal(device: DeviceView, demand: Demand, config: Config) -> str | None:
    """The reason why ``device`` may not be asked to hold the object of ``demand``, or to do its task; or None."""
    return next((reason for reason, refuses in PLACEMENT if refuses(device, demand, config)), None)


def explain(devices: Iterable[DeviceView], demand: Demand, config: Config) -> dict[str, int]:
    """How many devices each reason keeps from ``demand``: what a publisher is told while a task waits."""
    found: dict[str, int] = {}
    for device in devices:
        reason = placement_refusal(device, demand, config)
        if reason is not None:
            found[reason] = found.get(reason, 0) + 1
    return dict(sorted(found.items()))
