"""What the line carries, from a test that the owner started: a few streams each way that fill it. Pure.

A direction is measured after its slow start, by the payload that has arrived: what the other end has acknowledged, and
what came here. Payload travels with headers, and capacities are of the wire. What the household had of the line
meanwhile is missing in the result, so that a test beside a busy household is no measurement: a capacity that is too low
would be believed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fallow_wire.limits import SPEEDTEST_BYTES_MAX, SPEEDTEST_STREAMS_MAX

from .capacity import Estimate, as_json, from_json
from .pacer import WIRE_PERMILLE
from .train import Spoilt

SPEEDTEST = "speedtest"
"""Name of the rung, of the setting, and of the member of the status."""
STREAMS = SPEEDTEST_STREAMS_MAX
STREAM_BYTES_MAX = SPEEDTEST_BYTES_MAX // STREAMS
RUN_S = 8.0
"""For one direction."""
WARM_UP_S = 2.0
"""Slow start, and the tokens of shapers that let a burst pass, are over by then."""
MEASURED_S_MIN = 1.0
"""Less is too short to tell: the streams end by their bytes on lines of more than 1.4 Gbit/s."""
HOUSEHOLD_SHARE_MAX = 0.05
"""Of what was measured: with more, the household's part is missing in it."""
BUSY_SHARE_MAX = 0.9
"""Of a core, by this process: with more, the device has measured itself."""
ANSWERED_SHARE_MIN = 0.9
"""Of what was acknowledged: where the server has read less, something on the way took it in its stead."""
RUNNING, DONE, FAILED = "running", "done", "failed"
QUIET, USED, UNSEEN = "quiet", "used", "unseen"
"""The household meanwhile."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters, as they stand. ``payload_bytes``: of the direction's streams. ``own_bytes``: all of ours on the wire;
    ``line_bytes``: all through the WAN interface, None where that is not the home's. Both in the test's direction.
    ``busy_s``: processor time of this process."""

    at: float
    payload_bytes: int
    busy_s: float = 0.0
    own_bytes: int = 0
    line_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """``bps``: on the wire. ``household_bps``: None where it was not seen."""

    bps: int
    household_bps: int | None

    @property
    def household(self) -> str:
        if self.household_bps is None:
            return UNSEEN
        return USED if self.household_bps > HOUSEHOLD_SHARE_MAX * self.bps else QUIET


@dataclass(frozen=True, slots=True)
class Course:
    """One direction's test. Times are monotonic seconds."""

    started_at: float
    first: Reading | None = None
    """After the slow start."""
    last: Reading | None = None

    def after(self, reading: Reading) -> Course:
        if reading.at - self.started_at < WARM_UP_S:
            return self
        return dataclasses.replace(self, first=self.first or reading, last=reading)

    def left_s(self, now: float) -> float:
        return max(0.0, self.started_at + RUN_S - now)

    def measured(self) -> Measured | Spoilt:
        first, last = self.first, self.last
        if first is None or last is None or last.at - first.at < MEASURED_S_MIN:
            return Spoilt("the line is faster than this test can tell")
        elapsed = last.at - first.at
        if last.busy_s - first.busy_s > BUSY_SHARE_MAX * elapsed:
            return Spoilt("the device is slower than its line")
        bps = int((last.payload_bytes - first.payload_bytes) * 8 * WIRE_PERMILLE / 1000 / elapsed)
        if first.line_bytes is None or last.line_bytes is None or last.line_bytes < first.line_bytes:
            return Measured(bps, None)
        others = last.line_bytes - first.line_bytes - (last.own_bytes - first.own_bytes)
        return Measured(bps, max(0, int(others * 8 / elapsed)))


def believed(acked_bytes: int, read_bytes: int) -> bool:
    """Whether what the upload's other end acknowledged has reached the server."""
    return read_bytes >= ANSWERED_SHARE_MIN * acked_bytes


@dataclass(frozen=True, slots=True)
class Result:
    """A test that ended. ``household``: as in :attr:`Measured.household`, of both directions the worse."""

    up_bps: int
    down_bps: int
    measured_at: int
    household: str

    @property
    def counts(self) -> bool:
        """Whether it is a capacity."""
        return self.household != USED and self.up_bps > 0 and self.down_bps > 0

    def estimates(self) -> tuple[list[Estimate], list[Estimate]]:
        """For up and down; empty where it is no capacity."""
        if not self.counts:
            return [], []
        up, down = (Estimate(bps, SPEEDTEST, self.measured_at) for bps in (self.up_bps, self.down_bps))
        return [up], [down]

    def as_status(self) -> dict[str, Any]:
        return {"state": DONE, **dataclasses.asdict(self), "counts": self.counts}


def result_of(up: Measured, down: Measured, now_s: int) -> Result:
    both = {up.household, down.household}
    household = USED if USED in both else UNSEEN if UNSEEN in both else QUIET
    return Result(up.bps, down.bps, now_s, household)


def stored(result: Result) -> dict[str, Any]:
    up, down = result.estimates()
    return {"up": as_json(up), "down": as_json(down), "household": result.household}


def restored(value: object) -> Result | None:
    """The last test that was a capacity; None for none, and for what cannot be read: it can be measured again."""
    if not isinstance(value, dict):
        return None
    up, down = from_json(value.get("up")), from_json(value.get("down"))
    household = value.get("household")
    if len(up) != 1 or len(down) != 1 or household not in (QUIET, UNSEEN):
        return None
    if {up[0].source, down[0].source} != {SPEEDTEST} or up[0].measured_at is None:
        return None
    return Result(up[0].bps, down[0].bps, up[0].measured_at, household)
