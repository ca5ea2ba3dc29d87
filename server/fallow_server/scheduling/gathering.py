"""The question that a round of placement is asked: gathered a row at a time, so that whoever gathers may stop in
between, and small enough to be handed to another process, where it becomes columns and is answered.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from .demand import HOURS, Saved
from .filters import Config, placement_refusal
from .places import Place
from .views import Demand, DeviceView

ANY_OBJECT = Demand("", "any", 0, 1)
"""Of no size, held by nobody: what refuses a device for it refuses it for every object."""
ONLINE_SHARE_MIN = 0.25
"""What is there for less than six hours of a day is not there when it is asked."""
SELDOM_THERE = "seldom-there"
AWAY = "away"
PUTS_OFF = "puts-off"

ROW = struct.Struct(f"<?xxxiiiqqqf{HOURS}f")


@dataclass(frozen=True, slots=True)
class Question:
    """``devices``: packed rows, so many as ``device_count``. ``places``, ``same_home``: what the numbers in them stand
    for. ``sizes``, ``replicas``: of ``object_ids``. ``held``: object rows of each device in turn, as many as its row
    says. ``coming``, ``refused``: pairs of row numbers, object and device by turns. ``now`` in Unix seconds."""

    device_count: int
    devices: bytearray
    places: tuple[Place, ...]
    same_home: array[int]
    object_ids: tuple[str, ...]
    sizes: array[int]
    replicas: array[int]
    held: array[int]
    coming: array[int]
    refused: array[int]
    demand: Saved
    now: float


class Gathering:
    """Objects and devices have the rows in which they were added: first all objects, then all devices.

    :param devices_max: that will be added at most.
    """

    def __init__(self, config: Config, devices_max: int) -> None:
        self._config = config
        # All of it at once: to grow, it would be copied now and then as a whole.
        self._packed = bytearray(devices_max * ROW.size)
        self._places: dict[Place, int] = {}
        self._names: list[Place] = []
        self._owners: dict[str, int] = {}
        self._lines: dict[str, int] = {}
        self._same = array("i")
        self._sizes, self._replicas = array("q"), array("i")
        self._held, self._coming, self._refused = array("i"), array("i"), array("i")
        self.devices: dict[str, int] = {}
        self.objects: dict[str, int] = {}
        self.unfit: dict[str, int] = {}
        """How many devices a filter keeps from every object, by the reason."""

    def add_object(self, object_id: str, size_bytes: int, replicas: int) -> None:
        """:param replicas: the fewest that its publishers want."""
        self.objects[object_id] = len(self.objects)
        self._sizes.append(size_bytes)
        self._replicas.append(replicas)

    def add_device(self, view: DeviceView, online_share: float, line: str | None, waiting: bool = False) -> None:
        """:param line: what stands for the line that it may share with others; None when nobody knows.
        :param waiting: it puts off what it was asked for already.
        """
        reason = placement_refusal(view, ANY_OBJECT, self._config)
        if reason is None and online_share < ONLINE_SHARE_MIN:
            reason = SELDOM_THERE
        if reason is None and waiting:
            reason = PUTS_OFF
        if reason is not None:
            self.unfit[reason] = self.unfit.get(reason, 0) + 1
        held = self._hold(view.device_id, view.held)
        ROW.pack_into(
            self._packed,
            self.devices[view.device_id] * ROW.size,
            reason is None,
            held,
            self._places.setdefault(view.place, len(self._places)),
            self._home(view.owner, line),
            max(0, view.disk_room_bytes - self._config.disk_reserve_bytes),
            view.disk_quota_bytes,
            view.committed_bytes,
            online_share,
            *view.foreseen_up_bps,
        )

    def add_away(self, device_id: str, held: Iterable[str], before: Gathering) -> None:
        """A device that is away since a moment, as it was ``before``: what it holds counts, and it gets nothing."""
        at = before.devices[device_id] * ROW.size
        _, _, place, _, *rest = ROW.unpack_from(before._packed, at)
        count = self._hold(device_id, held)
        place = self._places.setdefault(before._place_names()[place], len(self._places))
        home = len(self._same)
        self._same.append(home)
        ROW.pack_into(self._packed, self.devices[device_id] * ROW.size, False, count, place, home, *rest)
        self.unfit[AWAY] = self.unfit.get(AWAY, 0) + 1

    def add_task(self, object_id: str, coming: Iterable[str], refused: Iterable[str]) -> None:
        """What is under way for an object.

        :param coming: devices that fill it. :param refused: that failed at it lately.
        """
        row = self.objects.get(object_id)
        for names, found in ((coming, self._coming), (refused, self._refused)):
            for name in names:
                device = self.devices.get(name)
                if row is not None and device is not None:
                    found.append(row)
                    found.append(device)

    def _hold(self, device_id: str, held: Iterable[str]) -> int:
        """Gives the device its row; of how many objects it holds something is asked."""
        self.devices[device_id] = len(self.devices)
        known = [row for row in map(self.objects.get, held) if row is not None]
        self._held.fromlist(known)
        return len(known)

    def _place_names(self) -> list[Place]:
        if len(self._names) < len(self._places):
            self._names = list(self._places)
        return self._names

    def question(self, demand: Saved, now: float) -> Question:
        return Question(
            len(self.devices),
            self._packed,
            tuple(self._places),
            self._same,
            tuple(self.objects),
            self._sizes,
            self._replicas,
            self._held,
            self._coming,
            self._refused,
            demand,
            now,
        )

    def _home(self, owner: str, line: str | None) -> int:
        """Owners and lines that meet in one device are one home."""
        home = self._owners.get(owner)
        if home is None:
            home = self._owners[owner] = len(self._same)
            self._same.append(home)
        if line is not None:
            other = root(self._same, self._lines.setdefault(line, home))
            self._same[root(self._same, home)] = other
        return home


def root(same: array[int], home: int) -> int:
    """The number that stands for all that are the same as ``home``."""
    while same[home] != home:
        same[home] = home = same[same[home]]
    return home
