"""Last week again under another policy: offload, time, income and harm, before anyone ships it.

``--trace DIR`` is a recorded week, such as the directory ``trace`` of a server's state (``simulation/trace.py`` has the
format). Without it one is made from the simulated fleet, labelled SYNTHETIC, and kept in
``bench/results/trace.jsonl.gz``. The week is played three times: ``recorded`` does what the trace says, ``now`` decides
with the code and the settings of this checkout, and ``changed`` with those that ``--set`` changes, such as
``--set booked_share=0.5 fill_price=2`` (``scheduling/costs.py`` names them), or as another policy of ``bench/fleet``
does: ``--policy random``.

``offload_net``: bytes that devices served, less those that filled them, ÷ demand. ``done_p95_s``: of requests, the
origin's share included. ``income``: bytes that a device served in the week, median device and tenth from below;
``income_lost``: share of devices that would earn less than half of what they earn ``now``. ``harm``: hours a device
and week for which it was booked with more than it then had idle, with nobody slowing anything down.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from fallow_server.scheduling import costs
from fleet import LOADS, OURS, POLICIES, requests_for
from harness import RESULTS, Figure, arguments, publish
from simulation.homes import Homes, homes_of
from simulation.policies import Ours
from simulation.recordings import HOURS
from simulation.recordings import read as recordings
from simulation.trace import Recorded, Recorder, Trace, read, write
from simulation.week import Outcome, Policy, play

MADE_DEVICES, MADE_DAYS, MADE_OBJECTS, MADE_LOAD, SEED = 2_000, 7, 400, "heavy", 7
QUICK_DEVICES, QUICK_DAYS, QUICK_OBJECTS = 400, 2, 80
GIB = 2**30


def made(data: Path | None, size: tuple[int, int, int]) -> Path:
    """A trace of the simulated fleet under today's code."""
    devices, days, objects = size
    shapes = recordings(data)
    homes = homes_of(shapes, devices, days * HOURS, SEED)
    requests = requests_for(shapes, homes, objects, LOADS[MADE_LOAD], SEED)
    recorder = Recorder(POLICIES[OURS](homes, requests, SEED))
    play(homes, requests, recorder)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "trace.jsonl.gz"
    write(path, homes, requests, recorder)
    return path


def setting(text: str) -> tuple[str, float | int]:
    """``name=number`` of placement's prices."""
    name, _, value = text.partition("=")
    kinds = {one.name: type(one.default) for one in dataclasses.fields(costs.Config)}
    if name not in kinds:
        raise argparse.ArgumentTypeError(f"no setting {name}; there are {', '.join(kinds)}")
    try:
        return name, kinds[name](value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{name} takes a number, not {value!r}") from None


def figures(outcomes: dict[str, Outcome], homes: Homes) -> list[Figure]:
    """Of devices that consumers could reach at all."""
    found = []
    there = homes.idle_bytes().sum(axis=0) > 0
    usual = outcomes["now"].served_bytes[there]
    for case, outcome in outcomes.items():
        took = np.concatenate(outcome.took_s) if outcome.took_s else np.zeros(1)
        income = outcome.served_bytes[there] / GIB
        lost = float((income * GIB < usual / 2).mean())
        for name, value, unit in (
            ("offload_net", outcome.net_bytes / outcome.demand_bytes, "share"),
            ("fill_share", outcome.fill_bytes / outcome.demand_bytes, "share"),
            ("done_p50_s", float(np.percentile(took, 50)), "s"),
            ("done_p95_s", float(np.percentile(took, 95)), "s"),
            ("income_p50", float(np.percentile(income, 50)), "GiB"),
            ("income_p10", float(np.percentile(income, 10)), "GiB"),
            ("income_lost", lost, "share of devices"),
            ("harm", float(outcome.overruns[there].mean()) * 7 * HOURS / homes.hours, "hours a week"),
            ("refused", outcome.refusals / max(1, outcome.asked), "share"),
        ):
            found.append(Figure(f"{name}.{case}", value, unit, value, value))
    return found


def policies(trace: Trace, policy: str, changes: dict[str, float | int]) -> dict[str, Policy]:
    homes, requests = trace.homes, trace.requests
    found: dict[str, Policy] = {"recorded": Recorded(trace), "now": Ours(homes, requests, SEED)}
    if policy != OURS:
        found["changed"] = POLICIES[policy](homes, requests, SEED)
    elif changes:
        prices = dataclasses.replace(costs.Config(), **changes)  # type: ignore[arg-type]
        found["changed"] = Ours(homes, requests, SEED, prices=prices)
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--trace", type=Path, help="a recorded week, a directory or a file; without it one is made from the simulation"
    )
    parser.add_argument("--policy", choices=list(POLICIES), default=OURS, help="what 'changed' does")
    parser.add_argument("--set", nargs="+", type=setting, default=[("booked_share", 0.5)], metavar="NAME=NUMBER")
    options = parser.parse_args()
    size = (QUICK_DEVICES, QUICK_DAYS, QUICK_OBJECTS) if options.quick else (MADE_DEVICES, MADE_DAYS, MADE_OBJECTS)
    trace = read(options.trace or made(options.data, size))
    changes = dict(options.set)
    outcomes = {
        case: play(trace.homes, trace.requests, policy, trace.held)
        for case, policy in policies(trace, options.policy, changes).items()
    }
    what = options.policy if options.policy != OURS else ", ".join(f"{name}={value}" for name, value in changes.items())
    notes = [f"{len(trace.homes)} devices, {trace.homes.hours} hours, {len(trace.requests)} requests; changed: {what}."]
    if trace.synthetic:
        notes.append("The trace is SYNTHETIC: it is of a simulated fleet.")
    publish("replay", figures(outcomes, trace.homes), quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
