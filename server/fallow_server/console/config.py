"""What an operator may set about the console."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``session_s``: how long somebody stays signed in. ``sessions_per_account_max``: browsers at a time; the oldest goes.
    ``failures_burst``, ``failures_every_s``: wrong tokens from one address (an IPv6 /64), and seconds until one more.
    ``history_days``: how long it is kept what was asked for and who served it.
    """

    session_s: int = 12 * 3600
    sessions_per_account_max: int = 16
    failures_burst: int = 10
    failures_every_s: int = 60
    history_days: int = 31
