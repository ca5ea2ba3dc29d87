"""Settings and limits of network tasks, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..scheduling.filters import Config as FilterConfig
from .probes import ProbeConfig


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``gap_s``: between two rounds; a burst of events is one round.
    ``tick_s``: a round without an event, while tasks are open: for what only time changes.
    ``repair_s``: how often copies are counted against what publishers want.
    ``gone_s_max``: a device away for longer is replaced; most reconnects are within a minute, a reboot within five.
    ``unanswered_s_max``, ``sends_max``: a connected device that does not say that it took a task is asked again.
    ``stalled_s_max``: without a byte for so long, a copy is tried elsewhere; a household may use its line all evening.
    ``retry_s``: a device that failed at a task is left alone for so long.
    ``lifetime_s``, ``lifetime_s_max``: of a task that names no deadline, and of any.
    ``sources_max``: devices offered to fill from, before the origin.
    ``publisher_open_max``: open tasks of one publisher; each is kept in memory.
    ``sending_max``: messages to devices under way at once; each may carry a manifest.
    ``round_tasks_max``, ``candidates_max``: tasks that one round places, and devices looked at for each; more would
    hold the loop, and the best of some hundred devices is as good as the best of all.
    ``kept_s``: ended tasks can be asked for so long, ``results_kept_s``: and what they measured.
    """

    gap_s: float = 0.2
    tick_s: float = 30
    repair_s: float = 300
    gone_s_max: float = 600
    unanswered_s_max: float = 60
    sends_max: int = 5
    stalled_s_max: float = 6 * 3600
    retry_s: int = 600
    lifetime_s: int = 7 * 86_400
    lifetime_s_max: int = 30 * 86_400
    sources_max: int = 2
    publisher_open_max: int = 20_000
    sending_max: int = 32
    round_tasks_max: int = 64
    candidates_max: int = 500
    kept_s: int = 30 * 86_400
    results_kept_s: int = 7 * 86_400
    filters: FilterConfig = field(default_factory=FilterConfig)
    probes: ProbeConfig = field(default_factory=ProbeConfig)
