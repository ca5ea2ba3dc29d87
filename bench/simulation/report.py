"""Figures of weeks that were played."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from harness import Figure

from .bound import Bound
from .homes import Homes
from .recordings import HOURS, Floats
from .week import Outcome

OURS = "ours"
SERVED_MIN = 0.90
OVERRUNS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Played:
    """One week under one policy, in numbers. Shares from 0 to 1; ``..._by_hour`` in bytes."""

    load: str
    policy: str
    seed: int
    demand_over_idle: float
    peak_over_idle: float
    served_over_bound: float
    offload_net: float
    bound_offload_net: float
    fill_share: float
    hit_ratio: float
    found_ratio: float
    idle_used: float
    jain: float
    jain_per_idle: float
    overruns: float
    booked_over_idle: float
    refusals: float
    took_p50_s: float
    took_p95_s: float
    rtt_ms: float
    route_us: float
    route_us_p99: float
    round_s: float
    round_s_max: float
    served_by_hour: list[float]
    demand_by_hour: list[float]
    idle_by_hour: list[float]


def jain(shares: Floats) -> float:
    """1 where all get the same, 1/n where one gets all (Jain, Chiu and Hawe, 1984)."""
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / len(shares) / squares if squares else 1.0


def played(load: str, policy: str, seed: int, homes: Homes, outcome: Outcome, limit: Bound) -> Played:
    idle = homes.idle_bytes()
    by_hour, asked = idle.sum(axis=1), outcome.requests.bytes_by_hour()
    there = idle.sum(axis=0) > 0
    points = outcome.served_bytes[there]
    took = np.concatenate(outcome.took_s) if outcome.took_s else np.zeros(1)
    weeks = homes.hours / (7 * HOURS)
    peak = int(np.argmax(asked / by_hour))
    return Played(
        load=load,
        policy=policy,
        seed=seed,
        demand_over_idle=float(asked.sum() / by_hour.sum()),
        peak_over_idle=float(asked[peak] / by_hour[peak]),
        served_over_bound=outcome.net_bytes / limit.net_bytes,
        offload_net=outcome.net_bytes / outcome.demand_bytes,
        bound_offload_net=limit.net_bytes / outcome.demand_bytes,
        fill_share=outcome.fill_bytes / outcome.demand_bytes,
        hit_ratio=outcome.served_requests / len(outcome.requests),
        found_ratio=outcome.found / len(outcome.requests),
        idle_used=float(outcome.served_bytes.sum() / by_hour.sum()),
        jain=jain(points),
        jain_per_idle=jain(points / idle.sum(axis=0)[there]),
        overruns=float(outcome.overruns[there].mean()) / weeks,
        booked_over_idle=float(outcome.booked_by_hour.sum() / by_hour.sum()),
        refusals=outcome.refusals / max(1, outcome.asked),
        took_p50_s=float(np.percentile(took, 50)),
        took_p95_s=float(np.percentile(took, 95)),
        rtt_ms=float(np.median(outcome.rtt_ms)) if outcome.rtt_ms else 0.0,
        route_us=_percentile(outcome.route_us, 50),
        route_us_p99=_percentile(outcome.route_us, 99),
        round_s=statistics.fmean(outcome.round_s),
        round_s_max=max(outcome.round_s),
        served_by_hour=outcome.by_hour.tolist(),
        demand_by_hour=asked.tolist(),
        idle_by_hour=by_hour.tolist(),
    )


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else 0.0


def figures(weeks: Sequence[Played], headline: str, *, judged: bool) -> list[Figure]:
    """Those of ours under the headline load have no case; others are ``id.load_policy``.

    :param judged: whether they are held against their goals.
    """
    found: list[Figure] = []

    def of(load: str, policy: str) -> list[Played]:
        return [week for week in weeks if (week.load, week.policy) == (load, policy)]

    def add(
        name: str, unit: str, take: Callable[[Played], float], goal: str = "",
        meets: Callable[[float], bool] | None = None, against: str = "", cases: Sequence[tuple[str, str]] | None = None,
    ) -> None:  # fmt: skip
        for load, policy in pairs if cases is None else cases:
            values = [take(week) for week in of(load, policy)]
            ours = (load, policy) == (headline, OURS)
            value = statistics.median(values)
            met = meets(value) if ours and judged and meets is not None else None
            case = name if ours else f"{name}.{load}_{policy}"
            found.append(
                Figure(case, value, unit, min(values), max(values), goal if ours and judged else "", met, against)
            )

    pairs = sorted({(week.load, week.policy) for week in weeks}, key=lambda pair: (pair != (headline, OURS), pair))
    rivals = [policy for load, policy in pairs if load == headline and policy not in (OURS, "clairvoyant")]
    best = max(
        (statistics.median(week.served_over_bound for week in of(headline, policy)) for policy in rivals), default=0.0
    )
    loads = sorted({load for load, policy in pairs if policy == OURS}, key=lambda load: load != headline)
    add(
        "served_over_bound", "ratio", lambda week: week.served_over_bound, f">= {SERVED_MIN}, > {best:.3f}",
        lambda value: value >= SERVED_MIN and value > best, "hourly LP",
    )  # fmt: skip
    add(
        "overruns_per_device_week", "hours", lambda week: week.overruns, f"<= {OVERRUNS_MAX:g}",
        lambda value: value <= OVERRUNS_MAX,
    )  # fmt: skip
    add("offload_net", "share", lambda week: week.offload_net)
    headlines = [(load, policy) for load, policy in pairs if load == headline]
    add("fill_share", "share", lambda week: week.fill_share, cases=headlines)
    add("hit_ratio", "share", lambda week: week.hit_ratio, cases=headlines)
    add("found_ratio", "share", lambda week: week.found_ratio, cases=headlines)
    add("idle_used", "share", lambda week: week.idle_used, cases=headlines)
    add("jain_points", "index", lambda week: week.jain, cases=headlines)
    add("jain_points_per_idle", "index", lambda week: week.jain_per_idle, cases=headlines)
    add("refused", "share", lambda week: week.refusals, cases=headlines)
    add("done_p50_s", "s", lambda week: week.took_p50_s, cases=headlines)
    add("done_p95_s", "s", lambda week: week.took_p95_s, cases=headlines)
    add("rtt_p50_ms", "ms", lambda week: week.rtt_ms, cases=headlines)
    ours = [(load, OURS) for load in loads]
    add("booked_over_idle", "share", lambda week: week.booked_over_idle, cases=ours)
    add("route_p50_us", "us", lambda week: week.route_us, cases=ours[:1])
    add("route_p99_us", "us", lambda week: week.route_us_p99, cases=ours[:1])
    add("round_s", "s", lambda week: week.round_s, cases=ours[:1])
    add("round_max_s", "s", lambda week: week.round_s_max, cases=ours[:1])
    add("load", "demand / idle", lambda week: week.demand_over_idle, cases=ours)
    add("load_peak", "demand / idle", lambda week: week.peak_over_idle, cases=ours)
    add("bound_offload_net", "share", lambda week: week.bound_offload_net, cases=ours)
    return found


def table(weeks: Sequence[Played]) -> str:
    """One line a policy and load: what one reads first."""
    lines = ["", "load     policy       served/bound  offload net  idle used  overruns  hit    p50 s  p95 s  refused"]
    for load, policy in dict.fromkeys((week.load, week.policy) for week in weeks):
        those = [week for week in weeks if (week.load, week.policy) == (load, policy)]

        def median(name: str, those: list[Played] = those) -> float:
            return statistics.median(getattr(week, name) for week in those)

        lines.append(
            f"{load:8} {policy:12} {median('served_over_bound'):12.3f} {median('offload_net'):12.3f} "
            f"{median('idle_used'):10.3f} {median('overruns'):9.2f} {median('hit_ratio'):6.3f} "
            f"{median('took_p50_s'):6.0f} {median('took_p95_s'):6.0f} {median('refusals'):8.4f}"
        )
    return "\n".join(lines)
