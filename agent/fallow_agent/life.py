"""What the lifecycle remembers: the state, the consent, what enrolment gave. Pure.

Time that must survive a power cut is kept as a :class:`Countdown`, because the clock of a router may stand at 1970
after one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fallow_wire.enrolment import Enrolled
from fallow_wire.errors import Malformed
from fallow_wire.fields import boolean, decode, integer, one_of, record, text
from fallow_wire.http import Problem
from fallow_wire.lan import HTTP_URL, STATES

DORMANT, ACTIVATING, ACTIVE, PAUSED, LEAVING = STATES


CLOCK_PLAUSIBLE_FROM_S = 1_704_067_200
"""A clock before 2024 was never set."""


@dataclass(frozen=True, slots=True)
class Countdown:
    """``left_s`` seconds are left at Unix time ``saved_at``, by a clock that may be wrong."""

    left_s: Annotated[int, integer()]
    saved_at: Annotated[int, integer()]

    def left_at(self, now: int) -> int:
        """Seconds left at ``now``, after a restart.

        Where one of the two clock readings cannot be true, the time that passed is unknown and counts as none: a
        pause is repeated rather than cut short.
        """
        passed = now - self.saved_at
        if passed < 0 or self.saved_at < CLOCK_PLAUSIBLE_FROM_S:
            return self.left_s
        return max(0, self.left_s - passed)

    def ends_at(self) -> int:
        return self.saved_at + self.left_s


def _problem(value: Any, path: str, strict: bool) -> Problem:
    try:
        return Problem(**value)
    except TypeError:
        raise Malformed(f"{path}: a problem is wanted") from None


@dataclass(frozen=True, slots=True)
class Life:
    """All that the lifecycle remembers; saved as one value, so that it is never half old and half new."""

    state: Annotated[str, one_of(*STATES)] = DORMANT
    terms_version: Annotated[str | None, text(16, 1)] = None
    consented_at: Annotated[int | None, integer()] = None
    scheduler: Annotated[str | None, HTTP_URL] = None
    claim_token: Annotated[str | None, text(128, 8)] = None
    attempts: Annotated[int, integer()] = 0
    enrolled: Annotated[Enrolled | None, record(Enrolled)] = None
    countdown: Annotated[Countdown | None, record(Countdown)] = None
    handed_over: Annotated[bool, boolean()] = False
    error: Annotated[Problem | None, _problem] = None

    def check(self) -> None:
        """Assert what holds in every state; a driver and the tests call it."""
        known = self.enrolled is not None
        assert (self.state == DORMANT) == (self.terms_version is None), "consent belongs to every state but dormant"
        assert (self.scheduler is None) == (self.state == DORMANT)
        assert (self.claim_token is not None) == (self.state == ACTIVATING)
        assert known == (self.state in (ACTIVE, PAUSED, LEAVING))
        assert self.countdown is None or self.state in (PAUSED, LEAVING)
        assert not self.handed_over or self.state == LEAVING


def read_life(value: Any | None) -> Life:
    """The saved life; dormant where nothing was saved. :raises Malformed: when it was damaged."""
    if value is None:
        return Life()
    return decode(Life, value, strict=False)
