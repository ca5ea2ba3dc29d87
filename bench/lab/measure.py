"""From what was recorded to figures. Pure: rows and windows in, values out.

Rates are Mbit/s as the wire carries them, times are monotonic seconds, shares are of one.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .loads import FRAME_PACKETS

EVENING = "evening: "
"""Begins the names of what a household does in an evening, which is for the picture alone."""
YIELD_WINDOW_S = 0.100
"""Our rate has gone down where it stays so for so long: a single sample may fall between two packets."""
LATE_S = 0.100
LOST_MS = 1000.0
"""What a probe that never came back counts as."""
BEFORE_S = 1.0
"""What was sent in the second before an onset is what there was to yield."""


@dataclass(frozen=True, slots=True)
class Window:
    """One load of the household under one policy. ``start``: its first byte."""

    policy: str
    load: str
    start: float
    end: float


class Counters:
    """Bytes of ours and of the household, sampled. Rows are time, ours, household's; at least two, in order."""

    def __init__(self, rows: Iterable[tuple[float, int, int]]) -> None:
        self.times, self.own, self.household = (list(column) for column in zip(*rows, strict=True))

    def own_mbps(self, start: float, end: float) -> float:
        return self._mbps(self.own, start, end)

    def household_mbps(self, start: float, end: float) -> float:
        return self._mbps(self.household, start, end)

    def _mbps(self, column: list[int], start: float, end: float) -> float:
        first, last = self._at(start), self._at(end)
        elapsed = self.times[last] - self.times[first]
        return (column[last] - column[first]) * 8 / elapsed / 1e6 if elapsed > 0 else 0.0

    def _at(self, time: float) -> int:
        return min(bisect_left(self.times, time), len(self.times) - 1)

    def yield_ms(self, onset: float, end: float, low_mbps: float) -> float:
        """From the onset until our rate is at most ``low_mbps`` over 100 ms; all the time where it never is."""
        for at in self.times[self._at(onset) : bisect_right(self.times, end - YIELD_WINDOW_S)]:
            if self.own_mbps(at, at + YIELD_WINDOW_S) <= low_mbps:
                return max(0.0, (at - onset) * 1000)
        return (end - onset) * 1000

    def falls(self, start: float, end: float, high_mbps: float, low_mbps: float) -> list[float]:
        """When our rate came down to ``low_mbps`` after it had been at ``high_mbps``: yields."""
        found, above = [], False
        for at in self.times[self._at(start) : self._at(end - YIELD_WINDOW_S)]:
            rate = self.own_mbps(at, at + YIELD_WINDOW_S)
            if above and rate <= low_mbps:
                found.append(at)
            above = rate >= high_mbps or (above and rate > low_mbps)
        return found


def read_counters(text: str) -> Counters:
    return Counters((float(at), int(own), int(house)) for at, own, house in map(str.split, text.splitlines()))


def read_gateway(text: str) -> Counters:
    """Rows are time, all that left by the WAN, and what came from the house: the rest is ours."""
    rows = ((float(at), int(wan), int(house)) for at, wan, house in map(str.split, text.splitlines()))
    return Counters((at, wan - house, house) for at, wan, house in rows)


@dataclass(frozen=True, slots=True)
class Probes:
    """When each probe was sent, in order, and its round trip in ms."""

    sent: tuple[float, ...]
    rtt_ms: tuple[float, ...]

    def within(self, window: Window) -> list[float]:
        return list(self.rtt_ms[bisect_left(self.sent, window.start) : bisect_left(self.sent, window.end)])


def read_probes(text: str) -> Probes:
    sent: dict[int, float] = {}
    rtt_ms: dict[int, float] = {}
    for kind, number, at in map(str.split, text.splitlines()):
        if kind == "s":
            sent[int(number)] = float(at)
        elif int(number) in sent:
            rtt_ms[int(number)] = (float(at) - sent[int(number)]) * 1000
    return Probes(tuple(sent.values()), tuple(rtt_ms.get(number, LOST_MS) for number in sent))


@dataclass(frozen=True, slots=True)
class Frames:
    """When each frame of the calls was sent, in order, and whether it was lost or late."""

    sent: tuple[float, ...]
    late: tuple[bool, ...]

    def within(self, window: Window) -> list[bool]:
        return list(self.late[bisect_left(self.sent, window.start) : bisect_left(self.sent, window.end)])


def read_frames(sent_text: str, heard_text: str) -> Frames:
    """A frame is late when its last packet came later than 100 ms after it was sent, or one is missing."""
    came: dict[int, list[float]] = defaultdict(list)
    for number, _, _, at in map(str.split, heard_text.splitlines()):
        came[int(number)].append(float(at))
    rows = [(int(number), float(at)) for number, at in map(str.split, sent_text.splitlines())]
    late = (len(came[number]) < FRAME_PACKETS or max(came[number]) > at + LATE_S for number, at in rows)
    return Frames(tuple(at for _, at in rows), tuple(late))


def read_pages(text: str) -> list[tuple[float, float]]:
    """When each page began, and the seconds that it took."""
    return [(float(began), float(took)) for began, took in map(str.split, text.splitlines())]


def nearest_rank(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def p95(values: Sequence[float]) -> float:
    return nearest_rank(values, 0.95)


@dataclass(frozen=True, slots=True)
class Spread:
    value: float
    low: float
    high: float


def spread_of(values: Sequence[float]) -> Spread:
    """The median between the lowest and the highest."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Records:
    """One case. ``sent``: at the gateway, before the line; ``got``: on the internet, behind it."""

    windows: tuple[Window, ...]
    sent: Counters
    got: Counters
    probes: Probes
    frames: Frames
    pages: list[tuple[float, float]]

    def of(self, policy: str, load: str) -> list[Window]:
        return [window for window in self.windows if (window.policy, window.load) == (policy, load)]

    def yields_ms(self, policy: str, high_mbps: float, low_mbps: float) -> list[float]:
        """Of the uploads before which we had sent at least ``high_mbps``: else there was nothing to yield."""
        return [
            self.sent.yield_ms(window.start, window.end, low_mbps)
            for window, before in zip(self.of(policy, "bulk"), self.before_mbps(policy), strict=True)
            if before >= high_mbps
        ]

    def before_mbps(self, policy: str) -> list[float]:
        return [self.got.own_mbps(window.start - BEFORE_S, window.start) for window in self.of(policy, "bulk")]

    def paired(self, policy: str, load: str) -> list[tuple[Window, Window]]:
        """Each window with the nearest one of the same load without sharing."""
        alone = self.of("none", load)
        return [
            (window, min(alone, key=lambda other: abs(other.start - window.start))) for window in self.of(policy, load)
        ]

    def household_ratios(self, policy: str, load: str = "bulk") -> list[float]:
        """The household's rate by that without sharing."""
        rate = self.got.household_mbps
        return [rate(one.start, one.end) / rate(base.start, base.end) for one, base in self.paired(policy, load)]

    def alone_mbps(self) -> Spread:
        return spread_of([self.got.household_mbps(window.start, window.end) for window in self.of("none", "bulk")])

    def added_rtt_ms(self, policy: str) -> Spread:
        """The 95th percentile over all calls, less that of calls without sharing; its spread is from call to call."""
        return self._added(policy, self.probes.within, p95)

    def late_excess(self, policy: str) -> Spread:
        """The share of late frames of all calls, less that without sharing; its spread is from call to call."""
        return self._added(policy, self.frames.within, statistics.fmean)

    def _added(
        self,
        policy: str,
        within: Callable[[Window], Sequence[float]],
        whole: Callable[[Sequence[float]], float],
    ) -> Spread:
        pairs = self.paired(policy, "call")
        each = [whole(within(one)) - whole(within(base)) for one, base in pairs]
        both = ([value for window in self.of(name, "call") for value in within(window)] for name in (policy, "none"))
        mine, alone = map(whole, both)
        return Spread(mine - alone, min(each), max(each))

    def own_mbps(self, policy: str, load: str) -> Spread:
        return spread_of([self.got.own_mbps(window.start, window.end) for window in self.of(policy, load)])

    def page_ratios(self, policy: str) -> list[float]:
        """Median page time by that without sharing."""

        def took(window: Window) -> float:
            return statistics.median([took for began, took in self.pages if window.start <= began < window.end])

        return [took(one) / took(base) for one, base in self.paired(policy, "pages")]

    def each_second(self, window: Window) -> list[float]:
        """Our rate in each whole second."""
        seconds = range(int(window.end - window.start))
        return [self.sent.own_mbps(window.start + second, window.start + second + 1) for second in seconds]
