"""The picture: a week of demand, idle lines and what each policy serves. Needs matplotlib, of the extra ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .recordings import HOURS
from .report import OURS, Played

COLOURS = {
    OURS: "#3f8f5b", "clairvoyant": "#8fc3a3", "no_forecast": "#d9a441", "random": "#3b6fb6", "nearest": "#c8452f",
}  # fmt: skip
INK, PALE = "#333333", "#bbbbbb"
TERABYTE = 1e12


def draw(path: Path, weeks: Sequence[Played], headline: str) -> None:
    """Left, the headline week by hour; right, served ÷ bound and overruns of every policy, by load."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 6.2), layout="constrained")
    cells = figure.add_gridspec(2, 2, width_ratios=(1.35, 1))
    figure.suptitle("A simulated fleet: homes and consumers are synthetic", fontsize=12, x=0.01, ha="left")
    first = {(week.load, week.policy): week for week in reversed(weeks)}
    shown = first[headline, OURS]
    days = np.arange(len(shown.served_by_hour)) / HOURS
    top = figure.add_subplot(cells[0, 0])
    top.plot(days, np.array(shown.idle_by_hour) / TERABYTE, color=PALE, label="truly idle")
    top.plot(days, np.array(shown.demand_by_hour) / TERABYTE, color=INK, linewidth=1, label="asked for")
    top.fill_between(days, np.array(shown.served_by_hour) / TERABYTE, color=COLOURS[OURS], alpha=0.75, label="served")
    top.set_title(f"{headline} load, ours: TB an hour", fontsize=10, loc="left")
    top.set_ylim(0)
    top.legend(fontsize=8, frameon=False, ncols=3, loc="lower right")
    below = figure.add_subplot(cells[1, 0], sharex=top)
    for (load, policy), week in first.items():
        if load == headline:
            share = np.array(week.served_by_hour) / np.maximum(
                1, np.minimum(week.demand_by_hour, week.idle_by_hour)
            )  # fmt: skip
            below.plot(days, share, color=COLOURS[policy], linewidth=1.8 if policy == OURS else 1, label=policy)
    below.set_title("served, of what could be", fontsize=10, loc="left")
    below.set_xlabel("days")
    below.set_ylim(0.5, 1.02)
    below.legend(fontsize=8, frameon=False, ncols=5, loc="lower right")
    loads = list(dict.fromkeys(week.load for week in weeks))
    for row, (name, title) in enumerate(
        (("served_over_bound", "served, net of fills ÷ bound"), ("overruns", "overruns a device and week, hours"))
    ):
        axes = figure.add_subplot(cells[row, 1])
        for place, policy in enumerate(COLOURS):
            values = [getattr(first[load, policy], name) if (load, policy) in first else 0 for load in loads]
            axes.bar(np.arange(len(loads)) + 0.16 * (place - 2), values, 0.15, color=COLOURS[policy], label=policy)
        axes.set_xticks(np.arange(len(loads)), loads)
        axes.set_title(title, fontsize=10, loc="left")
        if name == "overruns":
            axes.set_yscale("symlog", linthresh=1)
            axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
        else:
            axes.axhline(0.9, color=INK, linewidth=0.8, linestyle=":")
            axes.set_ylim(0.5, 1.02)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
