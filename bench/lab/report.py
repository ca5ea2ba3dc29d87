"""The figures of one case, with the goals that they must meet. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from fallow_agent.line.budget import USABLE_SHARE, YIELD_SHARE
from harness import Figure

from .measure import Records, Spread, p95, spread_of
from .sharing import FALLOW, NONE, PEERS

AGAINST = "without sharing"
USED_SHARE = 0.3
"""Of the capacity: where we sent less in the second before an onset, it is not counted as one."""
CPU_MBPS = 20
"""The goal of ``own_cpu_share`` is of a line that carries so much."""


def figure(
    name: str, spread: Spread, unit: str, goal: str = "", met: Callable[[float], bool] | None = None, against: str = ""
) -> Figure:
    return Figure(name, spread.value, unit, spread.low, spread.high, goal, met(spread.value) if met else None, against)


def figures_of(case: str, up_mbps: int, cpu_share: float, records: Records) -> list[Figure]:
    """Those of Fallow with their goals, then the peers' without."""
    found: list[Figure] = []
    if times := records.yields_ms(FALLOW, USED_SHARE * up_mbps, YIELD_SHARE * up_mbps):
        low, high = min(times), max(times)
        p50 = Spread(statistics.median(times), low, high)
        found += [
            figure(f"yield_p50_ms.{case}", p50, "ms", "<= 200", lambda ms: ms <= 200),
            figure(f"yield_p95_ms.{case}", Spread(p95(times), low, high), "ms", "<= 500", lambda ms: ms <= 500),
            *_ratios(case, records.household_ratios(FALLOW)),
        ]
    if records.of(FALLOW, "call"):
        found += _call(case, records)
    for window in records.of(FALLOW, "idle"):
        used = [rate / (USABLE_SHARE * up_mbps) for rate in records.each_second(window)]
        mean = Spread(statistics.fmean(used), min(used), max(used))
        found.append(figure(f"idle_used_ratio.{case}", mean, "ratio", ">= 0.90", lambda ratio: ratio >= 0.90))
    goal = ("<= 0.05", lambda share: share <= 0.05) if up_mbps == CPU_MBPS else ("", None)
    found.append(figure(f"own_cpu_share.{case}", Spread(cpu_share, cpu_share, cpu_share), "cores", *goal))
    if records.of(FALLOW, "pages"):
        found.append(
            figure(f"page_time_ratio.{case}", spread_of(records.page_ratios(FALLOW)), "ratio", against=AGAINST)
        )
    if records.of(FALLOW, "on-off"):
        found += [
            figure(
                f"on_off_ratio.{case}", spread_of(records.household_ratios(FALLOW, "on-off")), "ratio", against=AGAINST
            ),
            figure(f"own_mbps_on_off.{case}", records.own_mbps(FALLOW, "on-off"), "Mbit/s"),
        ]
    for peer in PEERS:
        if records.of(peer, "bulk"):
            found += _peer(f"{case}_{peer}", records, peer)
    return found


def _ratios(case: str, ratios: Sequence[float]) -> list[Figure]:
    spread = spread_of(ratios)
    worst = Spread(spread.low, spread.low, spread.high)
    return [
        figure(f"household_ratio_median.{case}", spread, "ratio", ">= 0.98", lambda ratio: ratio >= 0.98, AGAINST),
        figure(f"household_ratio_worst.{case}", worst, "ratio", ">= 0.95", lambda ratio: ratio >= 0.95, AGAINST),
    ]


def _call(case: str, records: Records) -> list[Figure]:
    goal, bound_ms, against = "<= 10", 10.0, AGAINST
    if records.of("ledbat", "call"):
        ledbat_ms = records.added_rtt_ms("ledbat").value
        goal, bound_ms, against = "<= 10, < LEDBAT", min(bound_ms, ledbat_ms), f"LEDBAT: {ledbat_ms:.0f} ms"
    added = records.added_rtt_ms(FALLOW)
    return [
        figure(f"added_rtt_p95_ms.{case}", added, "ms", goal, lambda ms: ms <= bound_ms, against),
        figure(
            f"call_late_excess.{case}", records.late_excess(FALLOW), "share", "<= 0.001",
            lambda share: share <= 0.001, AGAINST,
        ),
        figure(f"own_mbps_call.{case}", records.own_mbps(FALLOW, "call"), "Mbit/s"),
    ]  # fmt: skip


def _peer(case: str, records: Records, peer: str) -> list[Figure]:
    return [
        figure(f"own_mbps.{case}", spread_of(records.before_mbps(peer)), "Mbit/s"),
        figure(f"household_ratio_median.{case}", spread_of(records.household_ratios(peer)), "ratio", against=AGAINST),
        *(
            [
                figure(f"added_rtt_p95_ms.{case}", records.added_rtt_ms(peer), "ms", against=AGAINST),
                figure(f"call_late_excess.{case}", records.late_excess(peer), "share", against=AGAINST),
                figure(f"own_mbps_call.{case}", records.own_mbps(peer, "call"), "Mbit/s"),
            ]
            if records.of(peer, "call")
            else []
        ),
    ]


def note_of(case: str, up_mbps: int, yields: int, delay: str, records: Records) -> str:
    words = [f"{case}: {delay}"]
    if onsets := records.of(FALLOW, "bulk"):
        counted = len(records.yields_ms(FALLOW, USED_SHARE * up_mbps, YIELD_SHARE * up_mbps))
        before, alone = spread_of(records.before_mbps(FALLOW)), records.alone_mbps()
        words.append(
            f"{counted} of {len(onsets)} onsets count, the agent saw {yields} yields, and sent {before.low:.1f} to "
            f"{before.high:.1f} Mbit/s in the second before; an upload alone got {alone.low:.1f} to "
            f"{alone.high:.1f} Mbit/s"
        )
    if calls := records.of(NONE, "call"):
        alone_ms = p95([rtt_ms for window in calls for rtt_ms in records.probes.within(window)])
        words.append(f"in a call alone 95 % of round trips took at most {alone_ms:.1f} ms")
    return "; ".join(words) + "."
