"""How far the capacity that the agent sees by itself is from the one that was measured, by the code it runs.

A home's half-hourly speed tests are the line; the agent is told nothing of it but what its counters and round trips
show: ``Observed`` sees every second of the household's use, and each half hour what ``capacity_of`` then says is
judged against the test of that half hour, before anything in that half hour was seen. The first two weeks are learnt
from only.

The household is synthetic, for the recording has none: it fills upload ``FILLS_PER_DAY`` times a day and download
three times as often, by hour as homes do, for 20 to 60 s each, the queue growing to 50–300 ms; and it uses 5 to 90 %
of the line without a queue in half of the half hours. Round trips have up to 4 ms of jitter. Filling and measuring
are of the same half hour, though a speed test itself is off by some 5 %: that error is part of the figures, as is
what the line changes by until the household fills it again.

``capacity_error``: median of |said ÷ measured − 1|. ``capacity_over``: share of half hours in which more than 110 %
of what was measured was said. ``low`` and ``high`` are months. Means: ``ladder`` is what the agent uses; ``ceiling``
the standing queues' rate alone; ``last`` the rate of the last filling, the simplest estimator; ``test_before`` the
speed test of the half hour before, what an active test every half hour would know; ``contract`` the highest of the
half hours that were learnt from, as an owner would configure it; ``contract_corrected`` the ladder with that
configured. ``capacity_known``: share of half hours in which the ladder's answer was no assumption.

``--data DIR`` is a folder with ``speedtests.csv.gz`` (columns ``datetimestart``, ``download``, ``upload`` in Mbit/s),
or the folder above ``line_cable_au`` with it. Without it the line is synthetic too, and says only that the estimator
works.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fallow_agent.line.capacity import DAY_S, MBIT, Capacity, LineConfig, capacity_of
from fallow_agent.line.observed import Observed, Sample
from harness import Figure, arguments, publish

FILE = "speedtests.csv.gz"
HALF_HOUR_S = 1800
LEARN_S = 14 * DAY_S
FILLS_PER_DAY = 2.0
DOWN_FILLS = 3
BY_HOUR = (1, 1, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 5, 6, 7, 8, 9, 9, 8, 5, 3)
"""How often a line is filled, hour by hour, as a home's traffic goes."""
OVER = 1.10
SEED = 20171013
QUICK_DAYS = 60
STATE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class HalfHour:
    """``up``, ``down`` in bit/s; ``at`` Unix time, as if the local time of the recording were UTC."""

    at: int
    up: float
    down: float


def recorded(folder: Path) -> list[HalfHour]:
    """The tests of the file. Those that failed, at 0, are left out: nothing was measured."""
    path = next((path for path in (folder / FILE, folder / "line_cable_au" / FILE) if path.is_file()), None)
    if path is None:
        raise SystemExit(f"{folder}: neither {FILE} nor line_cable_au/{FILE} is in it")
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            at = int(datetime.fromisoformat(row["datetimestart"]).replace(tzinfo=UTC).timestamp())
            up, down = float(row["upload"]) * MBIT, float(row["download"]) * MBIT
            if up > 0 and down > 0:
                found.append(HalfHour(at, up, down))
    return found


def synthetic() -> list[HalfHour]:
    """SYNTHETIC: 20 up and 100 down that sag by up to a third in the evening, and double after ten weeks."""
    chance = random.Random(SEED)
    found = []
    for index in range(20 * 7 * 48):
        hour = index % 48 / 2
        sag = 1 - 0.33 * max(0.0, 1 - abs(hour - 20.5) / 3) * chance.random()
        plan = (2 if index > 10 * 7 * 48 else 1) * sag * chance.gauss(1, 0.04)
        found.append(HalfHour(1_700_000_000 + index * HALF_HOUR_S, 20e6 * plan, 100e6 * plan))
    return found


class Home:
    """The counters and round trips of a household on a line, second by second."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.up = self.down = 0.0

    def seconds(self, half: HalfHour, way: str, use: list[tuple[float, float]]) -> Iterator[tuple[float, float, float]]:
        """``use``: this direction's rate entering, as a share of capacity, and the queue after it in ms; a second each.
        Gives the bytes of both directions and the queueing as measured."""
        for share, queue_ms in use:
            up = share * half.up if way == "up" else 0.02 * half.up
            down = share * half.down if way == "down" else 0.02 * half.down
            self.up += up / 8
            self.down += down / 8
            yield self.up, self.down, max(0.0, queue_ms + self._chance.uniform(-4, 4))

    def filling(self) -> list[tuple[float, float]]:
        """A transfer that fills the line: the queue grows to its height within two seconds, stands, and empties."""
        height_ms = self._chance.uniform(50, 300)
        length = self._chance.randint(20, 60)
        grown = [(1 + height_ms / 2000, height_ms / 2), (1 + height_ms / 2000, height_ms)]
        stands = []
        before = height_ms
        for _ in range(length):
            queue_ms = height_ms * self._chance.uniform(0.8, 1.0)
            stands.append((1 + (queue_ms - before) / 1000, queue_ms))
            before = queue_ms
        return [*grown, *stands, (1 - before / 1000, 0.0)]

    def light(self) -> list[tuple[float, float]]:
        share = self._chance.uniform(0.05, 0.9)
        return [(share, 0.0)] * 5


@dataclass(slots=True)
class Judged:
    errors: list[float] = field(default_factory=list)
    over: list[bool] = field(default_factory=list)
    month: list[str] = field(default_factory=list)

    def add(self, at: int, said: float, measured: float) -> None:
        self.errors.append(abs(said / measured - 1))
        self.over.append(said > OVER * measured)
        self.month.append(time.strftime("%Y-%m", time.gmtime(at)))

    def figures(self, name: str, against: str) -> list[Figure]:
        months = sorted(set(self.month))
        errors, overs = [], []
        for month in months:
            of_month = [index for index, other in enumerate(self.month) if other == month]
            errors.append(statistics.median(self.errors[index] for index in of_month))
            overs.append(statistics.mean(self.over[index] for index in of_month))
        error, over = statistics.median(self.errors), statistics.mean(self.over)
        return [
            Figure(f"capacity_error.{name}", error, "ratio", min(errors), max(errors), against=against),
            Figure(f"capacity_over.{name}", over, "share", min(overs), max(overs), against=against),
        ]


def replay(line: list[HalfHour]) -> tuple[dict[str, Judged], float, int, float]:
    """What was said and measured, by means and direction; the share known; bytes of state; µs per second of samples."""
    chance = random.Random(SEED)
    home = Home(chance)
    up, down = Observed(), Observed()
    capacity = capacity_of(LineConfig())
    judged: dict[str, Judged] = {}
    last: dict[str, float] = {}
    contract = before = (0.0, 0.0)
    known, halves, samples, spent, state = 0, 0, 0, 0.0, 0
    begins = line[0].at + LEARN_S
    monotonic = 0.0

    def judge(means: str, half: HalfHour, said: tuple[float, float]) -> None:
        for way, value, measured in (("up", said[0], half.up), ("down", said[1], half.down)):
            judged.setdefault(f"{means}.{way}", Judged()).add(half.at, value, measured)

    for half in line:
        capacity = capacity_of(LineConfig(), half.at, seen_up=up.seen, seen_down=down.seen)
        if half.at < begins:
            contract = (max(contract[0], half.up), max(contract[1], half.down))
        else:
            halves += 1
            known += capacity.source != "unknown"
            judge("ladder", half, (capacity.up_bps, capacity.down_bps))
            ceilings = (up.seen.ceiling, down.seen.ceiling)
            if ceilings[0] is not None and ceilings[1] is not None:
                judge("ceiling", half, (ceilings[0].bps, ceilings[1].bps))
            if len(last) == 2:
                judge("last", half, (last["up"], last["down"]))
            judge("test_before", half, before)
            judge("contract", half, contract)
            configured = LineConfig(contract[0] / MBIT, contract[1] / MBIT)
            corrected = capacity_of(configured, half.at, seen_up=up.seen, seen_down=down.seen)
            judge("contract_corrected", half, (corrected.up_bps, corrected.down_bps))
        before = (half.up, half.down)
        weight = BY_HOUR[half.at % DAY_S // 3600] / sum(BY_HOUR) / 2
        for way, per_day in (("up", FILLS_PER_DAY), ("down", DOWN_FILLS * FILLS_PER_DAY)):
            uses = []
            if chance.random() < per_day * weight:
                uses.append(home.filling())
                last[way] = half.up if way == "up" else half.down
            if chance.random() < 0.5:
                uses.append(home.light())
            for use in uses:
                monotonic += 100.0
                for second, (sent, received, queue_ms) in enumerate(home.seconds(half, way, use)):
                    began = time.perf_counter()
                    up, down = _seen(up, down, capacity, monotonic + second, half.at + second, sent, received, queue_ms)
                    spent += time.perf_counter() - began
                    samples += 1
                monotonic += len(use)
        state = max(state, *(len(json.dumps(one.as_json(), separators=(",", ":"))) for one in (up, down)))
    return judged, known / halves, state, spent / samples * 1e6


def _seen(
    up: Observed,
    down: Observed,
    thought: Capacity,
    at: float,
    now_s: int,
    bytes_up: float,
    bytes_down: float,
    ms: float,
) -> tuple[Observed, Observed]:
    sent, received = int(bytes_up), int(bytes_down)
    return (
        up.after(Sample(at, now_s, sent, received, ms, thought.up_bps, thought.down_bps)),
        down.after(Sample(at, now_s, received, sent, ms, thought.down_bps, thought.up_bps)),
    )


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    line = synthetic() if options.data is None else recorded(options.data)
    if options.quick:
        line = line[: QUICK_DAYS * 48]
    judged, known, state, us = replay(line)
    figures = []
    for name, of_name in judged.items():
        figures += of_name.figures(name, f"{len(of_name.errors)} half hours")
    figures += [
        Figure("capacity_known", known, "share", known, known),
        Figure("capacity_state", state, "bytes", state, state, f"<= {STATE_BYTES_MAX}", state <= STATE_BYTES_MAX),
        Figure("capacity_sample", us, "us", us, us),
    ]
    what = "A SYNTHETIC line" if options.data is None else "A recorded line"
    notes = [f"{what}, filled by a synthetic household; see the docstring."]
    publish("capacity", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
