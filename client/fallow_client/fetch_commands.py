"""What the machine of :mod:`.fetch_plan` is told and what it wants: settings, sources, commands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Config:
    """``requests_max`` bounds memory: each request holds one chunk. ``requests_first``: under way before any device has
    shown what it can; ``requests_min``: so many may be in a crowd, so that all of it get about as much.
    ``long_wait_ms``, ``short_wait_ms``: a device that lets a request wait for so long has too many, or hardly any;
    ``deep_wait_ms``: it has so many more than the crowd needs that fewer than that are right.
    ``requests_per_source_max``: enough to fill a long path. ``ahead_chunks_max``: how far beyond the first missing
    chunk to ask, for output in order.

    ``silent_ms_min``, ``silent_rtt_factor``: a device that shows no first byte for so long is dead or overrun, and its
    chunk is asked of another source. ``help_permille``, ``help_chunks_min``: the share of the object that the origin
    helps with while devices serve, on average over all downloads: each consumer of a crowd waits for slow devices, and
    together they would trample it (Dean and Barroso, The Tail at Scale, 2013).

    ``help_in_part_permille``: the same share where devices hold the object in part, for what they fetch themselves is
    the origin's too; only when no more than ``help_in_part_pending_max`` are not asked for yet, which few devices have.

    ``tie_after_ms``: at the end, a chunk that waits for so long is asked of an idle device too; ``tie_again_after_ms``:
    of another when it still waits then, up to ``ties_max`` in all. ``tie_early_after_ms``, ``ties_early_max``: the same
    before the end, once for a chunk, and so many at once. ``far_after_ms``: by then a chunk is worth to be asked of a
    device that would have to fetch it first."""

    requests_max: int = 20
    requests_first: int = 5
    requests_min: int = 5
    long_wait_ms: int = 1000
    deep_wait_ms: int = 25_000
    short_wait_ms: int = 250
    requests_per_source_max: int = 4
    ahead_chunks_max: int | None = None
    silent_ms_min: int = 300
    silent_rtt_factor: int = 2
    help_permille: int = 90
    help_in_part_permille: int = 32
    help_in_part_pending_max: int = 2
    help_chunks_min: int = 1
    tie_after_ms: int = 500
    tie_again_after_ms: int = 2000
    ties_max: int = 4
    tie_early_after_ms: int = 2000
    ties_early_max: int = 5
    far_after_ms: int = 30_000
    hedge_after_ms_min: int = 1000
    hedge_origin_after_ms_min: int = 4000
    hedge_factor: int = 2
    slow_chunk_ms: int = 4000
    fast_chunk_ms: int = 1000
    failures_max: int = 3
    origin_failures_max: int = 6
    origin_wrong_max: int = 3
    rest_ms_min: int = 500
    rest_ms_max: int = 60_000
    replan_ms_min: int = 2000
    replan_ms_max: int = 300_000


class Failure(Enum):
    """Why a request brought nothing."""

    BUSY = "busy"
    """Refused for now, nothing was sent."""
    GONE = "gone"
    """This ticket or device serves no more, nothing was sent."""
    BROKEN = "broken"
    """No answer, or it broke off; some of it may have been sent."""
    WRONG = "wrong"
    """The bytes are not the chunk that the manifest lists."""


@dataclass(frozen=True, slots=True)
class TicketSource:
    """A device as the plan offers it. ``key`` is the ticket's ``jti``; nothing is asked of it from ``until_ms`` on.
    ``first_chunk``: where to begin with it. ``rtt_ms``: the round trip to it, None where nobody knows. ``chunks``: it
    holds the object in part, and is for so many chunks from the first one on; None: it holds all."""

    key: str
    device_id: str
    max_bytes: int
    until_ms: int
    first_chunk: int = 0
    rtt_ms: int | None = None
    chunks: int | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask ``source`` for ``chunk``; answer with :meth:`FetchPlan.verified` or :meth:`FetchPlan.failed`."""

    request: int
    source: str
    chunk: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Another source was faster; the machine has forgotten this request."""

    request: int


@dataclass(frozen=True, slots=True)
class Replan:
    """Get a new plan; answer with :meth:`FetchPlan.planned` or :meth:`FetchPlan.replan_failed`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Every chunk is verified."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Neither a device nor the origin can bring what is missing."""


Command = Fetch | Abort | Replan | Finish | GiveUp
