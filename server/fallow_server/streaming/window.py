"""What of a live stream's playlist is held, and how much of it players are shown. Pure; times in seconds.

A segment is shown once devices hold it, so that its bytes do not come from here. That costs players part of a segment's
length in delay, and is given up after :data:`PATIENCE_SEGMENTS`: nobody waits for a device that is slow. What could not
be pulled is shown too, at its address below the site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .playlist import Playlist, Segment

PATIENCE_SEGMENTS = 2
"""So many lengths of a segment after it was first seen it is shown in any case."""
LANDED_SEGMENTS = 1
"""And so many after it was pulled. Both hold: a slow origin is waited for longer than slow devices."""
POLL_S_MIN, POLL_S_MAX = 0.5, 5.0
SEEN_MAX = 2000
"""Segments of one playlist that are looked at: further back players are led to the site."""


@dataclass(slots=True)
class Held:
    """A segment since it was seen. ``object_id`` None: it is being pulled, or ``failed``."""

    segment: Segment
    seen_at: float
    object_id: str | None = None
    pulled_at: float = 0.0
    failed: bool = False


class Window:
    """One media playlist of a live stream.

    :param window_s: the newest segments that are together no longer than this are held.
    :param carried: whether a segment at this address can be held at all.
    """

    def __init__(self, window_s: float, carried: Callable[[str], bool]) -> None:
        self._window_s = window_s
        self._carried = carried
        self.playlist: Playlist | None = None
        self._held: dict[tuple[int, str], Held] = {}

    @property
    def target_s(self) -> float:
        """Of a segment, at most."""
        return float(self.playlist.target_s) if self.playlist is not None else POLL_S_MAX

    @property
    def poll_s(self) -> float:
        """Until the origin is asked again."""
        return min(POLL_S_MAX, max(POLL_S_MIN, self.target_s / 2))

    @property
    def hold_s(self) -> float:
        """How long a segment that is new now is held: while it is shown, and as long again for who saw it last."""
        shown_ms = sum(one.duration_ms for one in self._newest())
        return 2 * shown_ms / 1000 + self.target_s

    def take(self, playlist: Playlist, now: float) -> list[Held]:
        """The origin's playlist as it is now. :returns: what is to be pulled, oldest first."""
        self.playlist = playlist
        newest = [(one.sequence, one.url) for one in self._newest()]
        self._held = {key: held for key, held in self._held.items() if key in set(newest)}
        fresh = []
        for segment in self._newest():
            key = (segment.sequence, segment.url)
            if key not in self._held and not segment.is_range and self._carried(segment.url):
                held = self._held[key] = Held(segment, now)
                fresh.append(held)
        return fresh

    def shown(self, now: float, landed: Callable[[str], bool]) -> int:
        """How many segments from the first players may see now.

        :param landed: whether enough devices hold the object.
        """
        assert self.playlist is not None
        count = 0
        for segment in self.playlist.segments:
            held = self._held.get((segment.sequence, segment.url))
            if held is not None and not self._is_ready(held, now, landed):
                break
            count += 1
        return count

    def objects(self) -> dict[str, str]:
        """Objects of the segments that are held, by the address on the origin."""
        return {held.segment.url: held.object_id for held in self._held.values() if held.object_id is not None}

    def _is_ready(self, held: Held, now: float, landed: Callable[[str], bool]) -> bool:
        if held.failed:
            return True
        if held.object_id is None:
            return now >= held.seen_at + PATIENCE_SEGMENTS * self.target_s
        return landed(held.object_id) or now >= held.pulled_at + LANDED_SEGMENTS * self.target_s

    def _newest(self) -> list[Segment]:
        """The newest segments of the window, at least one, oldest first."""
        found: list[Segment] = []
        left_ms = self._window_s * 1000
        for segment in reversed(self.playlist.segments[-SEEN_MAX:] if self.playlist is not None else ()):
            left_ms -= segment.duration_ms
            if found and left_ms < 0:
                break
            found.append(segment)
        return found[::-1]
