"""How near to the optimum the scheduler comes: a simulated week of 10,000 devices under the server's own code.

``bench/simulation`` plays it: ``fallow_server.scheduling`` places copies each hour and routes each request, knowing
heartbeats of 30 s, what it sent since, and the forecast that devices report (the agent's own arithmetic). Homes differ
from one another as a seeded generator makes them: they are SYNTHETIC. Shapes of days, churn, countries, ways in, round
trips and popularity are recorded ones where ``--data DIR`` has them (folders ``household_shapes``, ``home_churn``,
``rtt``, ``web_traces``), and SYNTHETIC too without it; then no figure is held against a goal.

Loads are named by demand ÷ truly idle upload in the worst hour: ``light`` 0.3, ``medium`` 0.6, ``heavy`` 0.9. Figures
without a case are ours under ``heavy``: where there is plenty, any policy finds a device, and beyond 1 all lines are
full whoever is sent where; just below it is where placement and routing decide. ``low`` and ``high`` are seeds.

``served_over_bound``: bytes that devices served, less bytes that filled them, ÷ the optimum of an hourly linear program
with true idle and true demand (``simulation/bound.py`` says what it relaxes). ``overruns_per_device_week``: hours in
which the rates that a device was booked with came to more bytes than its household truly left, of reachable devices,
with nobody slowing anything down. ``offload_net``: the same bytes ÷ demand. ``hit_ratio``: requests that at least one
device took, ``found_ratio``: for which one held the object. ``jain_points``: of bytes served, which is what points are
given for; ``.._per_idle``: in proportion to what the line had idle. ``refused``: of devices asked. ``round_s``: of
placement, ``route_..._us``: of one request, both on this machine, beside other work.

Policies: ``ours``; ``no_forecast``: ours, which takes the idle upload of the last heartbeat to last; ``random`` and
``nearest``: copies and holders by chance, or where the consumers are; ``clairvoyant``: ours, told the truth.

All of it takes long. ``--out DIR`` keeps each week that was played: what is there is not played again, and figures are
of all weeks in the folder. So ``--loads heavy --policies ours --seeds 1 --out DIR`` is one part of it. ``--minutes 8``
puts by what is under way then, and the same command goes on with it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import repeat
from pathlib import Path

import numpy as np
from harness import RESULTS, arguments, publish
from simulation.bound import Bound, bound
from simulation.demand import OBJECT_BYTES, Requests, hourly_shape, requests_of
from simulation.homes import Homes, homes_of
from simulation.parts import Parts, made_of
from simulation.policies import Nearest, Ours, Random
from simulation.recordings import HOURS, Recordings, read
from simulation.report import OURS, Played, figures, played, table
from simulation.week import Policy, Week

LOADS = {"light": 0.3, "medium": 0.6, "heavy": 0.9}
HEADLINE = "heavy"
DEVICES, DAYS, OBJECTS = 10_000, 7, 1_000
QUICK_DEVICES, QUICK_DAYS, QUICK_OBJECTS = 600, 2, 100
SEEDS = 3
"""Of the headline, after the first with fewer policies; other loads are played once."""
AGAIN = (OURS, "random")
Job = tuple[str, int, str]
"""Load, seed and policy of a week."""
POLICIES: dict[str, Callable[[Homes, Requests, int], Policy]] = {
    OURS: Ours,
    "no_forecast": lambda homes, requests, seed: Ours(homes, requests, seed, foreseen=False),
    "random": Random,
    "nearest": Nearest,
    "clairvoyant": lambda homes, requests, seed: Ours(homes, requests, seed, clairvoyant=True),
}


@lru_cache(maxsize=1)
def _recordings(data: Path | None) -> Recordings:
    return read(data)


@lru_cache(maxsize=1)
def _homes(data: Path | None, devices: int, days: int, seed: int) -> Homes:
    return homes_of(_recordings(data), devices, days * HOURS, seed)


def requests_for(recordings: Recordings, homes: Homes, objects: int, peak: float, seed: int) -> Requests:
    """So many that demand ÷ idle upload is ``peak`` in the worst hour."""
    shape = hourly_shape(recordings, homes.networks, homes.hours).sum(axis=1)
    total = peak * float(np.min(homes.idle_bytes().sum(axis=1) / shape)) / OBJECT_BYTES
    return requests_of(recordings, homes.networks, objects, homes.hours, total, seed)


@lru_cache(maxsize=1)
def _week(data: Path | None, size: tuple[int, int, int], seed: int, load: str) -> tuple[Homes, Requests, Bound]:
    devices, days, objects = size
    homes = _homes(data, devices, days, seed)
    requests = requests_for(_recordings(data), homes, objects, LOADS[load], seed)
    return homes, requests, bound(homes, requests)


def week(job: Job, data: Path | None, size: tuple[int, int, int], parts: Parts | None, until: float) -> Played | None:
    """Played in a process of its own; None where it was put by, for ``until`` (monotonic) has come."""
    load, seed, policy = job
    if time.monotonic() >= until:
        return None
    homes, requests, limit = _week(data, size, seed, load)
    begun = None if parts is None else parts.begun(*job, homes, requests)
    one = begun or Week(homes, requests, POLICIES[policy](homes, requests, seed))
    while one.hours_left:
        if parts is not None and time.monotonic() >= until:
            parts.put_by(*job, one, homes, requests)
            return None
        one.play_hour()
    found = played(load, policy, seed, homes, one.end(), limit)
    if parts is not None:
        parts.keep(found)
    print(table([found]).splitlines()[-1], flush=True)
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="weeks of the headline load")
    parser.add_argument("--size", nargs=3, type=int, metavar=("DEVICES", "DAYS", "OBJECTS"), help="of another fleet")
    parser.add_argument("--out", type=Path, help="keep weeks here, and join those that are there")
    parser.add_argument("--minutes", type=float, help="put by what is not done then; needs --out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="weeks that are played at once")
    options = parser.parse_args()
    if options.minutes is not None and options.out is None:
        parser.error("--minutes needs --out, where what is not done is put by")
    until = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    usual = (QUICK_DEVICES, QUICK_DAYS, QUICK_OBJECTS) if options.quick else (DEVICES, DAYS, OBJECTS)
    devices, days, objects = options.size or usual
    size = (devices, days, objects)
    parts = None if options.out is None else Parts(options.out, made_of(options.data, size))
    weeks = [] if parts is None else parts.kept()
    there = {(week.load, week.seed, week.policy) for week in weeks}
    jobs = [
        (load, seed, policy)
        for load in sorted(options.loads, key=lambda load: -LOADS[load])
        for seed in range(1, 1 + (options.seeds if load == HEADLINE and not options.quick else 1))
        for policy in options.policies
        if (seed == 1 or policy in AGAIN) and (load, seed, policy) not in there
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = list(pool.map(week, jobs, *(repeat(one) for one in (options.data, size, parts, until))))
    weeks += [one for one in found if one is not None]
    if None in found:
        print(f"{found.count(None)} weeks are not done: the same command goes on with them.")
    if not weeks:
        return
    weeks.sort(key=lambda week: (-LOADS[week.load], week.seed, list(POLICIES).index(week.policy)))
    print(table(weeks))
    notes = [
        f"{size[0]} devices, {size[1]} days, {size[2]} objects of {OBJECT_BYTES >> 20} MiB; every home is SYNTHETIC."
    ]
    if options.data is None:
        notes.append("No --data: shapes, churn and demand are SYNTHETIC too, and no figure is held against a goal.")
    if size != (DEVICES, DAYS, OBJECTS):
        notes.append(
            "Another size than the published one: held against no goal; in a short time nothing is known at first."
        )
    publish(
        "fleet",
        figures(weeks, HEADLINE, judged=options.data is not None and size == (DEVICES, DAYS, OBJECTS)),
        quick=size != (DEVICES, DAYS, OBJECTS),
        notes=notes,
    )
    if not any((week.load, week.policy) == (HEADLINE, OURS) for week in weeks):
        return
    try:
        from simulation import picture

        picture.draw(RESULTS / "fleet.png", weeks, HEADLINE)
    except ModuleNotFoundError as missing:
        print(f"No picture: {missing.name} is missing; make bench NAME=fleet installs it.")


if __name__ == "__main__":
    main()
