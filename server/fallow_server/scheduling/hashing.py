"""Which device an object or a segment is pulled through that is placed on none yet: consistent hashing with bounded
loads (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, SODA 2018)."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, insort
from collections.abc import Callable

LOAD_FACTOR = 1.25
"""No device is given more than so many times the mean, rounded up: at 1.25 some 16 devices are asked for a place at
most on average, at the bound, and as few keys move when one leaves."""
STEPS_MAX = 256
"""Devices that are asked for one key, those that ``fits`` refuses included."""
NO_KEYS: frozenset[str] = frozenset()
"""One for all devices that have none, as most: an empty set of its own takes 0.2 KiB."""


class Ring:
    """Keys on devices. A key stays where it was placed until it is released or its device leaves; the bound holds
    whenever a key is placed. Devices and keys stand on a circle by their hashes, and a key goes to the first device
    behind it that has room, so that the others hardly notice when one comes or goes."""

    def __init__(self, load_factor: float = LOAD_FACTOR) -> None:
        assert load_factor > 1
        self._load_factor = load_factor
        self._circle: list[tuple[int, str]] = []
        self._keys: dict[str, frozenset[str]] = {}
        self._placed: dict[str, str] = {}

    def __len__(self) -> int:
        """Devices on the ring."""
        return len(self._keys)

    def __contains__(self, device_id: str) -> bool:
        return device_id in self._keys

    def add(self, device_id: str) -> None:
        """Nothing moves: a new device gets new keys."""
        if device_id not in self._keys:
            self._keys[device_id] = NO_KEYS
            insort(self._circle, (_hash(device_id), device_id))

    def remove(self, device_id: str) -> frozenset[str]:
        """:returns: the keys that were on it and are on no device now."""
        keys = self._keys.pop(device_id, None)
        if keys is None:
            return NO_KEYS
        del self._circle[bisect_left(self._circle, (_hash(device_id), device_id))]
        for key in keys:
            del self._placed[key]
        return keys

    def place(self, key: str, fits: Callable[[str], bool] = lambda device_id: True) -> str | None:
        """The device of ``key``: the one that has it where it still fits, else the first that fits and has room.

        :param fits: whether the device may have it now.
        :returns: None when there is no such device; the key is then on none.
        """
        had = self._placed.get(key)
        if had is not None:
            if fits(had):
                return had
            self.release(key)
        room = self.room(len(self._placed) + 1)
        start = bisect_left(self._circle, (_hash(key), ""))
        for step in range(min(len(self._circle), STEPS_MAX)):
            device_id = self._circle[(start + step) % len(self._circle)][1]
            if len(self._keys[device_id]) < room and fits(device_id):
                self._keys[device_id] |= {key}
                self._placed[key] = device_id
                return device_id
        return None

    def release(self, key: str) -> None:
        """The key needs no device any longer."""
        device_id = self._placed.pop(key, None)
        if device_id is not None:
            self._keys[device_id] = self._keys[device_id] - {key} or NO_KEYS

    def device_of(self, key: str) -> str | None:
        return self._placed.get(key)

    def load(self, device_id: str) -> int:
        """Keys on the device."""
        return len(self._keys.get(device_id, ()))

    def room(self, keys: int | None = None) -> int:
        """The most that one device may have when there are ``keys`` in all (None: as many as there are)."""
        total = len(self._placed) if keys is None else keys
        return math.ceil(self._load_factor * total / len(self._keys)) if self._keys else 0


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
