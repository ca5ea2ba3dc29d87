"""Who holds what, by where on the internet it is: a request draws a few holders near it and never looks at all."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .places import NOWHERE, Place

Draw = Callable[[], float]
"""Gives numbers in [0, 1)."""

DEVICE_BITS, ASN_BITS, COUNTRY_BITS = 22, 32, 10
"""Of a key, the lowest first: four million lines at once, AS numbers (RFC 6793), and two letters."""
NUMBER_MASK = (1 << DEVICE_BITS) - 1
WALK_MAX = 64
"""Devices of one line that a draw looks at for one that holds the object; behind a carrier's NAT may be thousands."""
DRAWN_MAX = 32
"""Lines of a pool that one request may look at: where one of ten may serve, two are found 84 times in 100."""
POOL_MIN = 4
"""Lines of a pool that is not all there are. In a smaller one each is chosen so often that deliveries which its owner
makes up, for consumers of the same provider, hardly show: with two they earned 2.7 times an honest wage, with four no
more than made-up consumers do anywhere."""
COMPARABLE_MIN = 2
"""Lines that may serve: with fewer there is no choice, and nothing to hold a line's share of the deliveries against."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Holders of one object in one region. ``name`` says which, ``lines`` how many; ``spans`` are where they stand."""

    name: str
    lines: int
    spans: tuple[tuple[int, int], ...]


class Holders:
    """For each object the lines that hold it, one sorted number of 64 bits each: country, AS, line.

    A line is what one household has, and counts once however many devices stand behind it, real or made up. It is
    where its first device is. Holders of a country, and within it of an AS, stand side by side, so that a region is a
    span that two bisections find, at 8 bytes a holder. Adding moves what stands behind: 2 µs among 10,000 holders.
    """

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._line_of: dict[str, _Line] = {}
        self._named: dict[str, _Line] = {}
        self._lines: list[_Line | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        """Devices that are known."""
        return len(self._line_of)

    # -------------------------------------------------------------- devices come, hold and go

    def join(self, device_id: str, place: Place, line: str | None) -> None:
        """A device that holds nothing yet; one that is known leaves first.

        :param line: the name of its line; None for a device that is known to share its line with nobody.
        """
        self.leave(device_id)
        known = self._named.get(line) if line is not None else None
        if known is None:
            number = self._free.pop() if self._free else len(self._lines)
            if number == len(self._lines):
                self._lines.append(None)
            assert number < 1 << DEVICE_BITS, "more lines than a key can tell apart"
            known = _Line(line, _start(place) + number)
            self._lines[number] = known
            if line is not None:
                self._named[line] = known
        elif known.key - (known.key & NUMBER_MASK) != _start(place):
            self._move(known, _start(place) + (known.key & NUMBER_MASK))
        known.devices.append(device_id)
        self._line_of[device_id] = known
        self._held[device_id] = frozenset()

    def _move(self, line: _Line, key: int) -> None:
        """The line turns out to be elsewhere: the table of addresses changed."""
        for object_id in frozenset[str]().union(*(self._held[device_id] for device_id in line.devices)):
            keys = self._objects[object_id].keys
            del keys[bisect_left(keys, line.key)]
            keys.insert(bisect_left(keys, key), key)
        line.key = key

    def leave(self, device_id: str) -> None:
        """Forget a device with all that it holds; nothing happens when it is not known."""
        line = self._line_of.get(device_id)
        if line is None:
            return
        self.hold(device_id, frozenset())
        del self._line_of[device_id], self._held[device_id]
        line.devices.remove(device_id)
        if not line.devices:
            number = line.key & NUMBER_MASK
            self._lines[number] = None
            self._free.append(number)
            if line.name is not None:
                del self._named[line.name]

    def hold(self, device_id: str, now: frozenset[str]) -> None:
        """From now on the device, which is known, holds exactly these objects."""
        before = self._held[device_id]
        self._held[device_id] = now
        line = self._line_of[device_id]
        for object_id in before - now:
            self._drop(object_id, line)
        for object_id in now - before:
            self._add(object_id, line)

    def _add(self, object_id: str, line: _Line) -> None:
        found = self._objects.get(object_id)
        if found is None:
            found = self._objects[object_id] = _Object()
        found.devices += 1
        place = bisect_left(found.keys, line.key)
        if place == len(found.keys) or found.keys[place] != line.key:
            found.keys.insert(place, line.key)

    def _drop(self, object_id: str, line: _Line) -> None:
        found = self._objects[object_id]
        found.devices -= 1
        if not found.devices:
            del self._objects[object_id]
        elif not any(object_id in self._held[device_id] for device_id in line.devices):
            del found.keys[bisect_left(found.keys, line.key)]

    # -------------------------------------------------------------- what is held

    def held_by(self, device_id: str) -> frozenset[str]:
        return self._held.get(device_id, frozenset())

    def line_of(self, device_id: str) -> str | None:
        """The name of the device's line; None where it shares none, or is not known."""
        line = self._line_of.get(device_id)
        return line.name if line is not None else None

    def count(self, object_id: str) -> int:
        """Devices that hold the object."""
        found = self._objects.get(object_id)
        return found.devices if found is not None else 0

    def devices_of(self, object_id: str) -> Iterator[str]:
        """All devices that hold the object; takes as long as there are holders."""
        found = self._objects.get(object_id)
        for key in found.keys if found is not None else ():
            for device_id in self._line(key).devices:
                if object_id in self._held[device_id]:
                    yield device_id

    # -------------------------------------------------------------- a request

    def pools(self, object_id: str, place: Place = NOWHERE, near: Sequence[str] = ()) -> Iterator[Pool]:
        """Where a consumer at ``place`` finds the object, the nearest pool first, each within the next: its provider,
        its country, the countries that are ``near``, everywhere. Pools of fewer than four lines are left out, and
        those that are no wider than the one before; everywhere is left out only when nobody holds it.

        :param near: countries whose round trips from the consumer are short, a few.
        """
        found = self._objects.get(object_id)
        if found is None:
            return
        keys, before = found.keys, 0
        country = _country(place.country)
        if place.asn is not None:
            asn = _start(place)
            pool = _pool(f"as {place.country}/{place.asn}", keys, [(asn, asn + (1 << DEVICE_BITS))])
            if pool.lines >= POOL_MIN:
                before = pool.lines
                yield pool
        if country:
            pool = _pool(f"in {place.country}", keys, [_bounds(country)])
            if pool.lines >= POOL_MIN and pool.lines > before:
                before = pool.lines
                yield pool
        if near:
            around = sorted({country, *map(_country, near)} - {0})
            pool = _pool(f"near {place.country}", keys, [_bounds(one) for one in around])
            if pool.lines >= POOL_MIN and pool.lines > before:
                before = pool.lines
                yield pool
        if len(keys) > before:
            yield Pool("all", len(keys), ((0, len(keys)),))

    def drawn(self, object_id: str, pool: Pool, draw: Draw) -> Iterator[tuple[int, str | None]]:
        """A few lines of ``pool`` in random order, each with one of its devices that holds the object, drawn at random;
        None where :data:`WALK_MAX` had none. Nothing may change between the first and the last that is taken.
        """
        keys = self._objects[object_id].keys
        for number in _shuffled(pool.lines, draw):
            key = keys[_place(pool.spans, number)]
            devices = self._line(key).devices
            yield key, devices[0] if len(devices) == 1 else self._one_of(devices, object_id, draw)

    def _one_of(self, devices: Sequence[str], object_id: str, draw: Draw) -> str | None:
        start = int(draw() * len(devices))
        for step in range(min(len(devices), WALK_MAX)):
            device_id = devices[(start + step) % len(devices)]
            if object_id in self._held[device_id]:
                return device_id
        return None

    def _line(self, key: int) -> _Line:
        line = self._lines[key & NUMBER_MASK]
        assert line is not None, "an object is held by a line that has left"
        return line


class _Line:
    """``key``: its number, its AS and its country."""

    __slots__ = ("devices", "key", "name")

    def __init__(self, name: str | None, key: int) -> None:
        self.name = name
        self.key = key
        self.devices: list[str] = []


class _Object:
    """``keys``: of its lines, sorted. ``devices``: how many hold it."""

    __slots__ = ("devices", "keys")

    def __init__(self) -> None:
        self.keys = array("Q")
        self.devices = 0


def _country(code: str | None) -> int:
    """1 … 676 for two capital letters, 0 for what is no country's code."""
    if code is None or len(code) != 2 or not ("A" <= code[0] <= "Z" and "A" <= code[1] <= "Z"):
        return 0
    return 26 * (ord(code[0]) - 65) + ord(code[1]) - 64


def _start(place: Place) -> int:
    """The lowest key of an AS in a country."""
    return (_country(place.country) << ASN_BITS | (place.asn or 0) & 0xFFFFFFFF) << DEVICE_BITS


def _bounds(country: int) -> tuple[int, int]:
    shift = ASN_BITS + DEVICE_BITS
    return country << shift, (country + 1) << shift


def _pool(name: str, keys: array[int], bounds: list[tuple[int, int]]) -> Pool:
    spans = []
    for first, end in bounds:
        start = bisect_left(keys, first)
        stop = bisect_left(keys, end, start)
        if stop > start:
            spans.append((start, stop))
    return Pool(name, sum(stop - start for start, stop in spans), tuple(spans))


def _place(spans: tuple[tuple[int, int], ...], number: int) -> int:
    """The index of the pool's line ``number`` among all keys of the object."""
    for start, stop in spans:
        if number < stop - start:
            return start + number
        number -= stop - start
    raise AssertionError("the number is not of this pool")


def _shuffled(size: int, draw: Draw) -> Iterator[int]:
    """The numbers below ``size`` in random order, :data:`DRAWN_MAX` of them at most."""
    if size <= 2 * DRAWN_MAX:
        left = list(range(size))
        for place in range(min(size, DRAWN_MAX)):  # Fisher and Yates, as far as is asked for
            other = place + int(draw() * (size - place))
            left[place], left[other] = left[other], left[place]
            yield left[place]
        return
    seen: set[int] = set()
    while len(seen) < DRAWN_MAX:  # at most every second draw is one that was there already
        number = int(draw() * size)
        if number not in seen:
            seen.add(number)
            yield number
