"""Stripes: which chunks of an object each of those that hold it in part is for. Pure.

Left to themselves, consumers would have each device fetch most of the object sooner or later: whoever has a line free
is asked for whatever is wanted. So each device is for the chunks from its start up to the start of the
:data:`COVER`-th after it: every chunk has so many devices, however many there are, and a device that comes or goes
changes the stripes of its neighbours alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fallow_wire.plans import Stripe

COVER = 3
"""Devices for each chunk. Each is one transfer from the origin: with four, a crowd of sixty is done 4 % sooner, and
takes a fifth more from the origin."""
GOLDEN = (5**0.5 - 1) / 2
"""The fractions of its multiples are spread evenly, however many are taken (Knuth, TAOCP 3, section 6.4)."""


class Stripes:
    """Those of one object, by device."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._made: tuple[int, dict[str, Stripe]] | None = None
        """What :meth:`of` gave last, for every consumer of a crowd asks; until somebody comes or goes."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def add(self, device_id: str) -> None:
        """It takes the least number that is free, so that the place of one that left is filled first."""
        if device_id not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[device_id] = next(number for number in range(len(taken) + 1) if number not in taken)
            self._made = None

    def discard(self, device_id: str) -> None:
        if self._numbers.pop(device_id, None) is not None:
            self._made = None

    def of(self, chunks: int) -> Mapping[str, Stripe]:
        """:param chunks: of the object."""
        if self._made is None or self._made[0] != chunks:
            self._made = chunks, self._make(chunks)
        return self._made[1]

    def _make(self, chunks: int) -> dict[str, Stripe]:
        starts = sorted(
            (int(number * GOLDEN % 1 * chunks), number, device_id) for device_id, number in self._numbers.items()
        )
        if len(starts) <= COVER:
            return {device_id: Stripe(first, chunks) for first, _, device_id in starts}
        found = {}
        for at, (first, _, device_id) in enumerate(starts):
            end = starts[(at + COVER) % len(starts)][0] + chunks * (at + COVER >= len(starts))
            # Of a small object several devices begin with the same chunk.
            found[device_id] = Stripe(first, max(1, end - first))
        return found
