"""What placement and routing see of a device and of an object."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from fallow_wire.limits import INTEGER_MAX

from .bookings import bookable_bps
from .needs import ANY_PORT, Needs
from .places import NOWHERE, Place

NOTHING: frozenset[str] = frozenset()
COPY = Needs(ports=ANY_PORT)
"""What each device that holds an object must have, besides its room."""


@dataclass(slots=True, kw_only=True)
class ServingView:
    """What routing sees of a connected device, as of its last heartbeat. Rates in bit/s. Nobody changes one; but each
    request makes eight, so that it has nothing that only placement asks for, and is not frozen: that takes four times
    as long to make.

    ``service_urls``: addresses that a dial-back has proven. ``idle_up_bps``: what the household leaves of the line.
    ``forecast_idle_up_bps``: of each coming hour, as the device says it; ``line_up_bps``: what its line is believed to
    carry. ``routed_bps``: what consumers were sent to it for and is not over, as far as is known; ``routed_requests``:
    since the heartbeat, which therefore does not show them. ``rests``: its household took back what was promised a
    while ago, and nothing is for now.
    """

    device_id: str
    state: str
    heartbeat_age_s: float
    service_urls: tuple[str, ...]
    services: Collection[str]
    idle_up_bps: int
    forecast_idle_up_bps: Sequence[int]
    connections: int
    connections_max: int
    held: Set[str] = NOTHING
    routed_bps: int = 0
    routed_requests: int = 0
    rests: bool = False
    line_up_bps: int = INTEGER_MAX

    @property
    def remaining_up_bps(self) -> int:
        """What may still be promised of what is idle now: it lasts longer than a transfer most of the time."""
        return 0 if self.rests else max(0, bookable_bps(self.idle_up_bps) - self.routed_bps)

    @property
    def lasting_up_bps(self) -> int:
        """What is left of it if no more is idle than was foreseen for this hour. That holds nine times out of ten, so
        it keeps nobody away and says who is chosen rather."""
        if self.rests:
            return 0
        forecast = self.forecast_idle_up_bps
        likely = min(self.idle_up_bps, forecast[0], self.line_up_bps) if forecast else self.idle_up_bps
        return max(0, bookable_bps(likely) - self.routed_bps)


@dataclass(slots=True, kw_only=True)
class DeviceView(ServingView):
    """What placement sees of it.

    ``reachability`` says in a word of :data:`fallow_wire.session.REACH` what stands before its addresses, or in the
    way. ``own_up_bps``: what Fallow itself uses of ``idle_up_bps``. ``disk_free_bytes``: room under the owner's quota
    and on the disk. ``committed_bytes``: fills that were assigned and are not on the disk yet. ``place``: where its
    line is.
    """

    owner: str
    own_up_bps: int
    disk_free_bytes: int
    disk_quota_bytes: int
    spare_percent: int
    temperature_c: int | None = None
    reachability: str = "unknown"
    committed_bytes: int = 0
    place: Place = NOWHERE

    @property
    def foreseen_up_bps(self) -> Sequence[int]:
        """What is believed of the forecast."""
        said, most = self.forecast_idle_up_bps, self.line_up_bps
        return said if max(said, default=0) <= most else [min(one, most) for one in said]

    @property
    def disk_room_bytes(self) -> int:
        return max(0, self.disk_free_bytes - self.committed_bytes)

    def coming_bytes(self, hours: int) -> int:
        """Idle upload of so many coming hours together, the current one included, as far as it is foreseen."""
        return sum(self.foreseen_up_bps[: max(1, hours)]) * 3600 // 8


@dataclass(frozen=True, slots=True)
class Demand:
    """``replicas`` further devices are wanted for a task: to hold an object, or where there is none to do something.

    ``holders``: devices that hold it or are filling it (or that do the task), with their owners in ``owners``.
    ``excluded``: devices that failed at it. ``hours``: until the task's deadline, for ``needs.bytes``.
    """

    task_id: str
    object_id: str
    size_bytes: int
    replicas: int
    holders: frozenset[str] = NOTHING
    owners: frozenset[str] = NOTHING
    excluded: frozenset[str] = NOTHING
    needs: Needs = COPY
    hours: int = 24


@dataclass(frozen=True, slots=True)
class Assignment:
    task_id: str
    object_id: str
    device_id: str
    size_bytes: int
