"""How much of batches may lie in memory at once, before anything is known of them.

A batch has up to 3.5 MiB and comes from anyone. Who it says it is from stands in its first bytes, so that much is
looked at before the rest is read; but device ids are no secret, and a signature covers the whole batch. What is read
therefore has to find room: here, and in the share of the caller's address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..delivery.pseudonym import prefix_of
from ..http import refusal

BYTES_MAX = 128 * 1024 * 1024
"""Of all batches under way: 36 of the largest, thousands of the usual size."""
BYTES_PER_CALLER_MAX = 16 * 1024 * 1024
"""Of one IPv4 address or IPv6 /64: four of the largest, from the devices of a house or an office."""
RETRY_S = 10


class Intake:
    """Counts bytes that are held."""

    def __init__(self, bytes_max: int = BYTES_MAX, bytes_per_caller_max: int = BYTES_PER_CALLER_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes_per_caller_max = bytes_per_caller_max
        self._held = 0
        self._held_by: Counter[str] = Counter()

    @contextmanager
    def room(self, address: str) -> Iterator[Room]:
        """Room for one batch of the caller at ``address``; given back at the end."""
        room = Room(self, prefix_of(address))
        try:
            yield room
        finally:
            self._add(room.caller, -room.taken)

    def take(self, room: Room, size: int) -> None:
        more = size - room.taken
        if self._held_by[room.caller] + more > self._bytes_per_caller_max:
            raise refusal(
                429,
                "too-many",
                "Too many batches from this address at once",
                remedy="Send one after another.",
                headers={"Retry-After": str(RETRY_S)},
            )
        if self._held + more > self._bytes_max:
            raise refusal(
                503,
                "too-many",
                "Too many batches are under way",
                fault="here",
                remedy="Keep the proofs and try again later.",
                headers={"Retry-After": str(RETRY_S)},
            )
        room.taken = size
        self._add(room.caller, more)

    def _add(self, caller: str, count: int) -> None:
        self._held += count
        self._held_by[caller] += count
        if not self._held_by[caller]:
            del self._held_by[caller]


class Room:
    """``taken``: bytes so far."""

    __slots__ = ("_intake", "caller", "taken")

    def __init__(self, intake: Intake, caller: str) -> None:
        self._intake = intake
        self.caller = caller
        self.taken = 0

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes in all. :raises ApiProblem: 429 or 503 when there is no room for them."""
        self._intake.take(self, size)
