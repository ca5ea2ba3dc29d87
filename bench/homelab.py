"""Does the household notice? Homes, their lines and the internet in network namespaces, with the real programs.

Each case is a line speed, a depth of the modem's buffer and a place of the agent: on the gateway, or on a Pi behind
it, whose gateway tells its counters by UPnP IGD or tells nothing. Consumers download from the device, through the
scheduler's redirect, while the household uploads, calls, loads pages. Where other systems are compared, each upload is
under another policy in turn; one without sharing stands next to each. ``lab`` says how the laboratory is made.

``yield_ms``: from the upload's first byte until what we send before the modem is at most 10 % of capacity for 100 ms.
``household_ratio``: what the upload got behind the line, by that of the nearest upload without sharing.
``added_rtt_p95_ms``: 95th percentile of round trips from the house to the internet during a call, less that without
sharing. ``call_late_excess``: share of a call's frames lost or later than 100 ms, less that without sharing.
``idle_used_ratio``: our rate on an idle line after 5 s, by 85 % of the capacity. ``own_cpu_share``: of a core then.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from harness import RESULTS, Figure, arguments, publish
from lab.household import Household, Setting, read_records
from lab.network import Line, missing_programs, sweep
from lab.picture import draw
from lab.processes import end_with_parent
from lab.report import figures_of, note_of
from lab.sharing import FALLOW, NONE, PEERS

DEEP_MS, SHALLOW_MS = 500, 50
CASES = {
    "up20_deep": Setting(Line(20, 100, DEEP_MS), peers=True),
    "up20_shallow": Setting(Line(20, 100, SHALLOW_MS), peers=True),
    "up5_deep": Setting(Line(5, 50, DEEP_MS)),
    "up5_shallow": Setting(Line(5, 50, SHALLOW_MS)),
    "pi20_deep_igd": Setting(Line(20, 100, DEEP_MS), place="pi", igd=True),
    "pi20_deep_delay": Setting(Line(20, 100, DEEP_MS), place="pi"),
    "up100_deep": Setting(Line(100, 500, DEEP_MS)),
    "up100_shallow": Setting(Line(100, 500, SHALLOW_MS)),
}
PICTURED = "up20_deep"
ALONE_MBPS = 100
"""A line this fast needs the computer for itself, also with ``--parallel``."""
RAMP_S = 5.0
LEDBAT_S = 25.0
"""Until libtorrent's first queue, which is too deep, has come down towards the 100 ms that LEDBAT aims at: by 6 ms a
second here."""
MODULES = {"libtorrent": "libtorrent", "matplotlib": "matplotlib"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of windows and their seconds. ``recovery_s``: until a policy has found its rate, ``pause_s``: until the
    modem's buffer is empty."""

    onsets: int
    peer_onsets: int
    recovery_s: float
    upload_s: float
    pause_s: float
    idle_s: float
    calls: int
    peer_calls: int
    call_s: float
    others: int
    """Windows of pages and of on–off, where peers are compared."""
    cases: tuple[str, ...]


FULL = Plan(onsets=20, peer_onsets=6, recovery_s=4, upload_s=4, pause_s=0.7, idle_s=12, calls=3, peer_calls=2,
            call_s=12, others=2, cases=tuple(CASES))  # fmt: skip
QUICK = Plan(onsets=2, peer_onsets=0, recovery_s=2, upload_s=2.5, pause_s=0.6, idle_s=2, calls=1, peer_calls=0,
             call_s=3, others=0, cases=(PICTURED,))  # fmt: skip


def order(wanted: dict[str, int]) -> Iterator[str]:
    """Policies in turn, each so often, in rounds that begin with another one each. No sharing between each two: every
    upload has one beside it."""
    rounds = max(wanted.values(), default=0)
    turns = [[policy for policy, times in wanted.items() if number < times] for number in range(rounds)]
    rotated = (turn[number % len(turn) :] + turn[: number % len(turn)] for number, turn in enumerate(turns))
    for place, policy in enumerate(chain.from_iterable(rotated)):
        yield policy
        if place % 2 == 0:
            yield NONE


def run_case(case: str, plan: Plan, work: Path) -> None:
    """Everything that is measured in one case, into ``work``; what :func:`report` needs besides is in ``facts``."""
    setting = CASES[case]
    peers = PEERS if setting.peers and plan.peer_onsets else ()
    setting = dataclasses.replace(setting, peers=bool(peers))

    def sharing(policy: str) -> AbstractContextManager[None]:
        return household.shared(policy, LEDBAT_S if policy == "ledbat" else plan.recovery_s, plan.pause_s)

    def tell(what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {case}: {what}", file=sys.stderr, flush=True)

    tell("set up")
    with Household(setting, work) as household:
        tell("idle line")
        with household.shared(FALLOW, RAMP_S, plan.pause_s, wait=False):
            cpu_s, began = household.device.cpu_s(), time.monotonic()
            household.idle(FALLOW, plan.idle_s)
            cpu_share = (household.device.cpu_s() - cpu_s) / (time.monotonic() - began)
        yields = 0
        tell("uploads")
        for policy in order({FALLOW: plan.onsets} | dict.fromkeys(peers, plan.peer_onsets)):
            counted = household.device.status()["today"]["yields"]
            with sharing(policy):
                household.bulk(policy, plan.upload_s)
            if policy == FALLOW:
                yields += household.device.status()["today"]["yields"] - counted
        tell("calls")
        for number in range(plan.calls):
            for policy in (FALLOW, NONE, *(peers if number < plan.peer_calls else ())):
                with sharing(policy):
                    household.call(policy, plan.call_s)
        if setting.peers:
            tell("pages, on and off")
        for policy in (FALLOW, NONE) * (plan.others if setting.peers else 0):
            with sharing(policy):
                household.pages(policy, plan.call_s)
            with sharing(policy):
                household.on_off(policy, times=3)
        if case == PICTURED and setting.peers:
            with sharing(FALLOW):
                household.evening(FALLOW, plan.recovery_s)
        time.sleep(1)  # the samplers write the last of it
        facts = {"cpu_share": cpu_share, "yields": yields, "delay": household.delay_note()}
    (work / "facts").write_text(json.dumps(facts))
    tell("done")


def report(case: str, work: Path) -> tuple[list[Figure], str]:
    """Figures and the note of a case that has run."""
    facts, records = json.loads((work / "facts").read_text()), read_records(work)
    figures = figures_of(case, CASES[case].line.up_mbps, facts["cpu_share"], records)
    return figures, note_of(case, CASES[case].line.up_mbps, facts["yields"], facts["delay"], records)


def end(*_: object) -> None:
    """Leave by way of all clean-up, which a second request may not interrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit("ended")


def run_all(cases: Sequence[str], folder: Path, command: Sequence[str], parallel: int) -> list[str]:
    """Each case in a process of its own, at most ``parallel`` at once. :returns: those that failed."""
    waiting, failed = list(cases), []
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            alone = any(CASES[case].line.up_mbps >= ALONE_MBPS for case in (*waiting[:1], *running))
            if waiting and len(running) < (1 if alone else parallel):
                case = waiting.pop(0)
                (folder / case).mkdir()
                into = ("--into", str(folder / case), "--case", case)
                # In a session of its own: Ctrl-C comes to us alone, and we end the case.
                running[case] = subprocess.Popen([*command, *into], start_new_session=True)
            for case in [case for case, process in running.items() if process.poll() is not None]:
                if running.pop(case).returncode != 0:
                    failed.append(case)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def keep_records(folder: Path, to: Path) -> None:
    """Samples and logs, without the programs' state and the content."""
    for found in folder.glob("*/*"):
        if found.is_file():
            target = to / found.parent.name / found.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, target)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--case", nargs="+", choices=CASES, help="only these")
    parser.add_argument("--onsets", type=int, help="per case, instead of 20")
    parser.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="so many cases at once, but for the fastest"
    )
    parser.add_argument("--no-peers", action="store_true", help="Fallow and no sharing alone: half of the time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy samples and logs to this folder")
    parser.add_argument("--kept", type=Path, metavar="DIR", help="run nothing: show what --keep has put there")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    if options.no_peers:
        plan = dataclasses.replace(plan, peer_onsets=0)
    if options.onsets:
        peers = min(plan.peer_onsets, options.onsets)
        plan = dataclasses.replace(plan, onsets=options.onsets, peer_onsets=peers)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if options.into:
        end_with_parent()
        run_case(options.case[0], plan, options.into)
        return
    if absent := [name for name in MODULES if importlib.util.find_spec(name) is None]:
        raise SystemExit(f"homelab: {', '.join(absent)} not found: make bench NAME=homelab installs them")
    cases = options.case or plan.cases
    if options.kept:
        show([case for case in cases if (options.kept / case / "facts").exists()], options.kept, options.quick)
        return
    if lacking := missing_programs({"miniupnpd": "miniupnpd-nftables"} if any(CASES[c].igd for c in cases) else {}):
        raise SystemExit(f"homelab: {lacking}")
    sweep()
    command = [sys.executable, __file__, *(["--quick"] * options.quick)]
    command += ["--onsets", str(options.onsets)] if options.onsets else []
    command += ["--no-peers"] * options.no_peers
    folder = Path(tempfile.mkdtemp(prefix="fallow-homelab-"))
    try:
        failed = run_all(cases, folder, command, options.parallel)
        if good := [case for case in cases if case not in failed]:
            show(good, folder, options.quick)
        if failed:
            raise SystemExit(f"homelab: failed, and not in the table: {', '.join(failed)}")
    finally:
        if options.keep:
            keep_records(folder, options.keep)
        shutil.rmtree(folder, ignore_errors=True)


def show(cases: Sequence[str], folder: Path, quick: bool) -> None:
    """Table, result file and picture of cases that have run in ``folder``."""
    reports = [report(case, folder / case) for case in cases]
    pictured = PICTURED if PICTURED in cases else cases[0]
    picture = RESULTS / "homelab.png"
    RESULTS.mkdir(exist_ok=True)
    draw(picture, pictured, CASES[pictured].line.up_mbps, read_records(folder / pictured))
    notes = ["Shaped by the kernel's tbf.", *(note for _, note in reports), f"Picture: {picture}"]
    publish("homelab", [found for figures, _ in reports for found in figures], quick=quick, notes=notes)


if __name__ == "__main__":
    main()
