"""How well the agent foresees the household's hours, by the code it runs.

Each series is replayed as the agent would see it, two readings an hour; at the beginning of every hour the agent's
24 coming hours are taken, as it reports them, and judged when those hours are over. From the second week on, for the
peer needs one: seasonal-naive, the same hour last week. What came before the second week is learnt from only.

``forecast_gain``: 1 − mean absolute error of expected use ÷ that of the peer; all 24 reported hours, median of the
series. ``.next_hour``, ``.day_ahead``: the first and the last of them. ``.yesterday``: against the same hour of the day
before. ``.from_week_4``: once the hours of the week are known. ``forecast_coverage``: share of hours whose use was at
most usable capacity less reported idle; all reported hours of all series. ``low`` and ``high`` are series, and for
``.by_hour`` hours of the day. ``bound_over_use``: the reported bound as a multiple of use, the price of coverage.

``--data DIR`` is a folder with ``milan_cells_half.csv.gz`` (a line a series, consecutive hours from Friday 2013-11-01
00:00, any unit), or the folder above ``household_shapes`` with it. Without it, and in ``.homes``, series come from a
seeded generator of bursty homes: they are synthetic and say only that such a home is survived, so they have no goal.
"""

from __future__ import annotations

import gzip
import json
import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from fallow_agent.line.forecast import HOUR_S, HOURS, SLOTS, Forecast
from harness import Figure, arguments, publish

GAIN_MIN = 0.20
COVERAGE_MIN, COVERAGE_MAX = 0.88, 0.92
STATE_BYTES_MAX = 4096
FILE = "milan_cells_half.csv.gz"
FIRST_SLOT = 4 * HOURS
"""1 November 2013 was a Friday."""
MEAN_BPS = 2_000_000
"""Series of arbitrary units are scaled to this mean; nothing depends on it."""
USABLE_BPS = 10**10
"""Above all use, so that no bound is cut off."""
QUICK_SERIES = 12
HOMES, HOME_WEEKS, SEED = 48, 9, 20131101
WEEK_4 = 3 * SLOTS


@dataclass(slots=True)
class Judged:
    """Sums over the judged hours of one series; by hours ahead (from 0) where lists."""

    hours: int = 0
    error: list[float] = field(default_factory=lambda: [0.0] * HOURS)
    late_error: float = 0.0
    covered: list[int] = field(default_factory=lambda: [0] * HOURS)
    covered_by_hour: list[int] = field(default_factory=lambda: [0] * HOURS)
    hours_by_hour: list[int] = field(default_factory=lambda: [0] * HOURS)
    bound: float = 0.0
    use: float = 0.0
    last_week: float = 0.0
    late_last_week: float = 0.0
    yesterday: float = 0.0
    state_bytes: int = 0
    hour_us: float = 0.0
    coming_us: float = 0.0


def gain(error: float, peer: float) -> float:
    return 1 - error / peer


def recorded(folder: Path) -> list[list[float]]:
    """The series of the file; a broken line of it is an error."""
    path = next((path for path in (folder / FILE, folder / "household_shapes" / FILE) if path.is_file()), None)
    if path is None:
        raise SystemExit(f"{folder}: neither {FILE} nor household_shapes/{FILE} is in it")
    with gzip.open(path, "rt", encoding="ascii") as lines:
        return [[float(item) for item in line.split(",")] for line in lines]


def home(seed: int) -> list[float]:
    """SYNTHETIC: an hourly series of a home with habits by hour and day, bursts that last, and long tails."""
    drawn = random.Random(seed)
    habits = [drawn.random() ** 2 for _ in range(2 * HOURS)]
    away = [drawn.random() < 0.3 for _ in range(SLOTS)]
    series, bursting = [], False
    for hour in range(HOME_WEEKS * SLOTS):
        slot = (FIRST_SLOT + hour) % SLOTS
        habit = habits[slot % HOURS + (HOURS if slot >= 5 * HOURS else 0)] * (0.3 if away[slot] else 1.0)
        bursting = drawn.random() < (0.7 if bursting else 0.15 * habit)
        burst = drawn.lognormvariate(1, 1) if bursting else 0.0
        series.append(min(17.0, 2 * habit * drawn.lognormvariate(0, 0.6) + burst))
    return series


def judge(series: list[float]) -> Judged:
    scale = MEAN_BPS / statistics.mean(series)
    uses = [round(use * scale) for use in series]
    judged, forecast = Judged(hours=len(uses) - SLOTS), Forecast()
    # Per hour, oldest first: what was expected of it, and reported, 24 … 1 hours ahead.
    expected: list[list[float]] = [[] for _ in range(len(uses) + HOURS)]
    bounds: list[list[int]] = [[] for _ in range(len(uses) + HOURS)]
    for hour, use in enumerate(uses):
        at_s = hour * HOUR_S
        began = time.perf_counter()
        forecast = forecast.after(at_s + 1, (FIRST_SLOT + hour) % SLOTS, use)
        closed = time.perf_counter()
        slots = [(FIRST_SLOT + hour + ahead) % SLOTS for ahead in range(HOURS)]
        coming = forecast.coming(at_s + 1, slots, USABLE_BPS, use)
        reported = time.perf_counter()
        judged.hour_us += (closed - began) * 1e6 / len(uses)
        judged.coming_us += (reported - closed) * 1e6 / len(uses)
        for ahead, (slot, idle) in enumerate(zip(slots, coming, strict=True)):
            expected[hour + ahead].append(forecast.history.expected_bps(slot, ahead + 1))
            bounds[hour + ahead].append(USABLE_BPS - idle)
        forecast = forecast.after(at_s + HOUR_S - 1, (FIRST_SLOT + hour) % SLOTS, use)
        if hour >= SLOTS:
            _judge_hour(judged, hour, uses, expected[hour][::-1], bounds[hour][::-1])
    judged.state_bytes = len(json.dumps(forecast.as_json(), separators=(",", ":")))
    return judged


def _judge_hour(judged: Judged, hour: int, uses: list[int], expected: list[float], bounds: list[int]) -> None:
    use = uses[hour]
    for ahead in range(HOURS):
        judged.error[ahead] += abs(use - expected[ahead])
        judged.covered[ahead] += use <= bounds[ahead]
        judged.covered_by_hour[hour % HOURS] += use <= bounds[ahead]
        judged.bound += bounds[ahead] / HOURS
    judged.hours_by_hour[hour % HOURS] += HOURS
    judged.use += use
    judged.last_week += abs(use - uses[hour - SLOTS])
    judged.yesterday += abs(use - uses[hour - HOURS])
    if hour >= WEEK_4:
        judged.late_error += sum(abs(use - value) for value in expected) / HOURS
        judged.late_last_week += abs(use - uses[hour - SLOTS])


def spread(
    name: str, values: list[float], unit: str, goal: str = "", met: bool | None = None, peer: str = ""
) -> Figure:
    return Figure(name, statistics.median(values), unit, min(values), max(values), goal, met, peer)


def gains(results: list[Judged], case: str, *, goal: bool) -> list[Figure]:
    week, day = "same hour last week", "same hour yesterday"
    whole = [gain(statistics.mean(found.error), found.last_week) for found in results]
    met = statistics.median(whole) >= GAIN_MIN if goal else None
    first = spread(f"forecast_gain{case}", whole, "share", f">= {GAIN_MIN:.2f}" if goal else "", met, week)
    if case:
        return [first]
    return [
        first,
        spread("forecast_gain.next_hour", [gain(f.error[0], f.last_week) for f in results], "share", peer=week),
        spread("forecast_gain.day_ahead", [gain(f.error[-1], f.last_week) for f in results], "share", peer=week),
        spread(
            "forecast_gain.from_week_4", [gain(f.late_error, f.late_last_week) for f in results], "share", peer=week
        ),
        spread(
            "forecast_gain.yesterday",
            [gain(statistics.mean(f.error), f.yesterday) for f in results],
            "share",
            peer=day,
        ),
    ]


def coverages(results: list[Judged], case: str, *, goal: bool) -> list[Figure]:
    def share(name: str, aheads: range, goal: bool) -> Figure:
        each = [sum(found.covered[ahead] for ahead in aheads) / found.hours / len(aheads) for found in results]
        covered = sum(sum(found.covered[ahead] for ahead in aheads) for found in results)
        value = covered / sum(found.hours for found in results) / len(aheads)
        met = COVERAGE_MIN <= value <= COVERAGE_MAX if goal else None
        words = f"{COVERAGE_MIN} - {COVERAGE_MAX}" if goal else ""
        return Figure(name, value, "share", min(each), max(each), words, met)

    whole = share(f"forecast_coverage{case}", range(HOURS), goal)
    if case:
        return [whole]
    by_hour = [
        sum(found.covered_by_hour[hour] for found in results) / sum(found.hours_by_hour[hour] for found in results)
        for hour in range(HOURS)
    ]
    return [
        whole,
        share("forecast_coverage.next_hour", range(1), False),
        share("forecast_coverage.day_ahead", range(HOURS - 1, HOURS), False),
        spread("forecast_coverage.by_hour", by_hour, "share"),
        spread("bound_over_use", [found.bound / found.use for found in results], "ratio"),
    ]


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    homes = [home(SEED + number) for number in range(QUICK_SERIES if options.quick else HOMES)]
    synthetic = [judge(series) for series in homes]
    notes = [f".homes: {len(homes)} SYNTHETIC series of {HOME_WEEKS} weeks."]
    if options.data is None:
        results = synthetic
        notes.append("No --data: every figure here is of SYNTHETIC series, and none is held against a goal.")
    else:
        found = recorded(options.data)
        series = found[:: max(1, len(found) // QUICK_SERIES)] if options.quick else found
        results = [judge(one) for one in series]
        notes.append(
            f"{len(series)} recorded series of cells of a city, of {len(series[0])} hours: not of single homes."
        )
    real, states = options.data is not None, [float(judged.state_bytes) for judged in results]
    figures = [
        *gains(results, "", goal=real),
        *gains(synthetic, ".homes", goal=False),
        *coverages(results, "", goal=real),
        *coverages(synthetic, ".homes", goal=False),
        spread("state_bytes", states, "bytes", f"<= {STATE_BYTES_MAX}", max(states) <= STATE_BYTES_MAX),
        spread("update_us", [judged.hour_us for judged in results], "us an hour"),
        spread("coming_us", [judged.coming_us for judged in results], "us a report"),
    ]
    publish("forecast", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
