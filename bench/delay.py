"""Which queueing delay tells of a busy line: how often thresholds are exceeded on idle lines, and on loaded ones.

Round trips of two homes, measured every five minutes for two months, are replayed through the agent's own base: the
idle ones teach it, a reading to the next as one minute to the next, so that the base is the lowest of five readings.
Judged is what each is above the base of its time. A few times a day the same was measured under a full upload and
under a full download.

``idle_over.T``: share of idle readings more than T above the base; each would have held Fallow back for nothing.
``upload_over.T``, ``download_over.T``: share of loaded ones; what is missing to 1 goes unnoticed by delay alone.
``low`` and ``high`` are weeks. ``idle_rise_ms``, ``upload_rise_ms``, ``download_rise_ms``: the median above the base,
with the 10th and 90th percentile. ``target_ms``: the lowest of the thresholds that idle readings of every home exceed
in at most 1 % of cases.

A reading of these records is the highest of several echoes, and homes that were called idle were lived in; the agent
takes the median of three. So it is held back more seldom than ``idle_over`` says, and sees less than ``upload_over``.
The far end was a server on the internet, not the provider's router.

``--data DIR``: the folder with ``tale_of_two_gigs_netrics.csv.gz``, or the folder above ``netrics`` with it. Without it
two homes come from a seeded generator: they are SYNTHETIC and show only that the bench runs.
"""

from __future__ import annotations

import csv
import gzip
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fallow_agent.line.budget import QUEUEING_MS_TARGET
from fallow_agent.line.delay import MINUTE_S, HopDelay
from harness import Figure, arguments, publish

FILE = "tale_of_two_gigs_netrics.csv.gz"
COLUMNS = {
    "idle": "google_rtt_max_ms",
    "upload": "google_rtt_max_ms_under_ul",
    "download": "google_rtt_max_ms_under_dl",
}
THRESHOLDS_MS = (5.0, 7.5, 10.0, 15.0, 20.0, 30.0)
IDLE_OVER_MAX = 0.01
WEEK_S = 7 * 86_400
QUICK_WEEKS = 2
SYNTHETIC_READINGS, SEED = 5000, 20210630


@dataclass(frozen=True, slots=True)
class Reading:
    at_s: int
    load: str
    rtt_ms: float


@dataclass(frozen=True, slots=True)
class Rise:
    """A reading above the base that the agent had then."""

    week: int
    load: str
    ms: float


def recorded(folder: Path) -> dict[str, list[Reading]]:
    """Readings by home, in the order of time; a broken line of the file is an error."""
    path = next((path for path in (folder / FILE, folder / "netrics" / FILE) if path.is_file()), None)
    if path is None:
        raise SystemExit(f"{folder}: neither {FILE} nor netrics/{FILE} is in it")
    homes: dict[str, list[Reading]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            at_s = int(datetime.fromisoformat(row["time"]).timestamp())
            name = row["install"].lower().replace(" ", "_")
            for load, column in COLUMNS.items():
                if row[column]:
                    homes.setdefault(name, []).append(Reading(at_s, load, float(row[column])))
    for readings in homes.values():
        readings.sort(key=lambda reading: reading.at_s)
    return homes


def synthetic(number: int) -> list[Reading]:
    """SYNTHETIC: a line of 10 ms with a little noise, rare stragglers, and queues of 10 to 200 ms under load."""
    drawn = random.Random(SEED + number)
    readings = []
    for count in range(SYNTHETIC_READINGS):
        rtt_ms = 10 + drawn.expovariate(0.7) + (drawn.expovariate(0.03) if drawn.random() < 0.005 else 0.0)
        readings.append(Reading(count * 300, "idle", rtt_ms))
        if count % 25 == 0:
            readings.append(Reading(count * 300 + 1, "upload", rtt_ms + drawn.uniform(10, 200)))
            readings.append(Reading(count * 300 + 2, "download", rtt_ms + drawn.uniform(2, 40)))
    return readings


def rises(readings: Sequence[Reading]) -> Iterator[Rise]:
    delay, minute = HopDelay(), 0
    for reading in readings:
        if reading.load == "idle":
            minute += 1
            delay = delay.after_answer(minute * MINUTE_S, reading.rtt_ms)
        if delay.base_ms is not None:
            week = (reading.at_s - readings[0].at_s) // WEEK_S
            yield Rise(week, reading.load, max(0.0, reading.rtt_ms - delay.base_ms))


def share_over(found: Sequence[Rise], threshold_ms: float) -> float:
    return sum(rise.ms > threshold_ms for rise in found) / len(found)


def figures_of(home: str, found: Sequence[Rise]) -> Iterator[Figure]:
    for load in COLUMNS:
        under = [rise for rise in found if rise.load == load]
        tenths = statistics.quantiles([rise.ms for rise in under], n=10)
        yield Figure(f"{load}_rise_ms.{home}", tenths[4], "ms", tenths[0], tenths[8])
    for threshold_ms in THRESHOLDS_MS:
        for load in COLUMNS:
            under = [rise for rise in found if rise.load == load]
            weeks = [[rise for rise in under if rise.week == week] for week in {rise.week for rise in under}]
            shares = [share_over(week, threshold_ms) for week in weeks]
            whole = share_over(under, threshold_ms)
            yield Figure(f"{load}_over.{threshold_ms:g}ms.{home}", whole, "share", min(shares), max(shares))


def target_of(homes: dict[str, list[Rise]]) -> Figure:
    lowest = []
    for found in homes.values():
        idle = [rise for rise in found if rise.load == "idle"]
        within = [one for one in THRESHOLDS_MS if share_over(idle, one) <= IDLE_OVER_MAX]
        lowest.append(min(within, default=float("inf")))
    against = f"the controller's target, {QUEUEING_MS_TARGET:g} ms"
    return Figure("target_ms", max(lowest), "ms", min(lowest), max(lowest), against=against)


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    notes = ["target_ms: low and high are homes."]
    if options.data is None:
        readings = {f"synthetic_{number}": synthetic(number) for number in (1, 2)}
        notes.append("No --data: every figure here is of SYNTHETIC homes.")
    else:
        readings = recorded(options.data)
    homes = {name: list(rises(found)) for name, found in readings.items()}
    if options.quick:
        homes = {name: [rise for rise in found if rise.week < QUICK_WEEKS] for name, found in homes.items()}
    for name, found in homes.items():
        counts = ", ".join(f"{sum(rise.load == load for rise in found)} {load}" for load in COLUMNS)
        notes.append(f"{name}: {counts} readings.")
    figures = [target_of(homes), *(figure for name, found in homes.items() for figure in figures_of(name, found))]
    publish("delay", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
