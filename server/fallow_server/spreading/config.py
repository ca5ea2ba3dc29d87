"""Settings and limits of copies that follow demand, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..scheduling.costs import Config as PlacementConfig
from ..scheduling.demand import Config as DemandConfig
from ..scheduling.regions import Config as NearnessConfig


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``every_s``: between two rounds; 0 makes no copies beyond those that publishers want.
    ``soon_s``: until the next round after a large event, or when the last one left work over.
    ``lost_copies``: which is a large event, when devices that hold so many copies together are lost.
    ``open_max``: when so many copies are being made or dropped no round begins, and what is short of it is the most
    that one makes, and drops; the driver of tasks looks at each in every round of its own.
    ``failed_s``: a device that failed at an object is not asked for it again for so long.
    ``objects_max``: that are reckoned with, those that consumers ask for first.
    ``slice_devices``: gathered before others have their turn; each takes some 20 µs.
    ``thread_pairs_max``: of devices and objects; more are placed in another process, for a thread would hold up the
    event loop, and starting a process takes half a second.
    ``save_s``: how often the demand is written down; what is newer is lost when the machine is.
    """

    every_s: float = 300
    soon_s: float = 30
    lost_copies: int = 1000
    open_max: int = 2000
    failed_s: int = 3600
    objects_max: int = 20_000
    slice_devices: int = 100
    thread_pairs_max: int = 1000
    save_s: float = 300
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    nearness: NearnessConfig = field(default_factory=NearnessConfig)
    demand: DemandConfig = field(default_factory=DemandConfig)
