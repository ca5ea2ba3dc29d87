"""The picture: who had the line when. Needs matplotlib, of the extra ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from .measure import EVENING, Counters, Records, Window
from .sharing import FALLOW, NAMES, NONE, PEERS

TITLES = {
    "evening": "Fallow all the while",
    "bulk": "Uploads with Fallow and without",
}
STEP_S = 0.1
TURNS, AHEAD_S = 3, 4.0
"""Where no evening was recorded: the first uploads, and the seconds before them."""
BEFORE_S = 1.5
OWN, HOUSEHOLD, MARK, INK = "#3f8f5b", "#3b6fb6", "#c8452f", "#333333"
LOW_SHARE, HIGH_SHARE = 0.10, 0.30
"""Of the capacity: a yield is drawn where our rate falls from the one to the other."""


def draw(path: Path, case: str, up_mbps: int, records: Records) -> None:
    """Above, a stretch of time with Fallow; below, one upload of the household under each policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    policies = [name for name in (NONE, FALLOW, *PEERS) if records.of(name, "bulk")]
    figure = pyplot.figure(figsize=(13, 7.5), layout="constrained")
    rows = figure.add_gridspec(2, max(1, len(policies)), height_ratios=(1.15, 1))
    figure.suptitle(
        f"Who has the upload line of {up_mbps} Mbit/s ({case}), measured behind it", fontsize=13, x=0.01, ha="left"
    )
    top = figure.add_subplot(rows[0, :])
    load, start, end = _stretch(records)
    _stack(top, records.got, start, end, start, up_mbps)
    yields = records.sent.falls(start, end, HIGH_SHARE * up_mbps, LOW_SHARE * up_mbps)
    top.plot([at - start for at in yields], [up_mbps * 1.1] * len(yields), "v", color=MARK, label="Fallow has yielded")
    top.set_title(TITLES[load], fontsize=10, loc="left")
    top.set_xlabel("seconds")
    for window in records.windows:
        if window.load.startswith(EVENING):
            middle = (window.start + window.end) / 2 - start
            top.text(
                middle, up_mbps * 1.17, window.load.removeprefix(EVENING), ha="center", fontsize=9, color=HOUSEHOLD
            )
    top.legend(loc="lower center", bbox_to_anchor=(0.8, 1.0), ncols=4, fontsize=9, frameon=False)
    first = None
    for column, policy in enumerate(policies):
        axes = figure.add_subplot(rows[1, column], sharey=first)
        first = first or axes
        window, ratio = _typical(records, policy)
        _stack(axes, records.got, window.start - BEFORE_S, window.end, window.start, up_mbps)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        if policy == FALLOW:
            took_s = records.sent.yield_ms(window.start, window.end, LOW_SHARE * up_mbps) / 1000
            axes.plot([took_s], [up_mbps * 1.1], "v", color=MARK)
        share = "" if policy == NONE else f"\nupload gets {100 * ratio:.0f} %"
        axes.set_title(NAMES[policy] + share, fontsize=9)
        axes.set_xlabel("seconds from its start", fontsize=8)
        if column:
            axes.tick_params(labelleft=False)
            axes.set_ylabel("")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _stretch(records: Records) -> tuple[str, float, float]:
    """What is shown above, and from when to when."""
    for window in records.windows:
        if window.load == "evening":
            return window.load, window.start, window.end
    turns = [window for window in records.windows if window.load == "bulk"]
    found = [*takewhile(lambda window: window.policy in (FALLOW, NONE), turns)][:TURNS] or turns[:1]
    return "bulk", found[0].start - AHEAD_S, found[-1].end + 1


def _typical(records: Records, policy: str) -> tuple[Window, float]:
    """The window of the median ratio."""
    windows = records.of(policy, "bulk")
    if policy == NONE:
        return windows[len(windows) // 2], 1.0
    ratios: Sequence[float] = records.household_ratios(policy)
    ranked = sorted(zip(ratios, range(len(windows)), strict=True))
    ratio, place = ranked[len(ranked) // 2]
    return windows[place], ratio


def _stack(axes, counters: Counters, start: float, end: float, zero: float, up_mbps: int) -> None:  # type: ignore[no-untyped-def]
    """The household below, ours on it, the capacity as a line."""
    times = [start + step * STEP_S for step in range(int((end - start) / STEP_S))]
    household = [counters.household_mbps(at, at + STEP_S) for at in times]
    own = [counters.own_mbps(at, at + STEP_S) for at in times]
    axes.stackplot(
        [at - zero for at in times], household, own, colors=(HOUSEHOLD, OWN), labels=("household", "shared"), alpha=0.9
    )
    axes.axhline(up_mbps, color=INK, linewidth=0.8, linestyle="--", label="capacity")
    axes.set_ylim(0, up_mbps * 1.25)
    axes.set_xlim(start - zero, end - zero)
    axes.set_ylabel("Mbit/s")
    axes.spines[["top", "right"]].set_visible(False)
