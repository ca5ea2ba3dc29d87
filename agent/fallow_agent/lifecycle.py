"""The device's life: dormant → activating → active ⇄ paused → leaving → dormant, and activating → dormant on failure.

Pure: :func:`step` takes the life and an event and gives the next life and commands; a driver performs them. Rules:

1. ``Save`` is always the first command, so a kill at any point loses no decision: after it, ``Started`` gives the
   commands of the saved state again, and each of them may be carried out twice.
2. Nothing but ``Announce`` is commanded while dormant, and no state but dormant is without the owner's consent.
3. Pause and leave work in every state in which the device serves, and wait for nobody.

Time that must survive a power cut is kept as a :class:`.life.Countdown`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fallow_wire.enrolment import Enrolled
from fallow_wire.http import Problem
from fallow_wire.limits import PROOF_AGE_S_MAX

from .life import ACTIVATING, ACTIVE, DORMANT, LEAVING, PAUSED, Countdown, Life

ENROLMENT_ATTEMPTS_MAX = 20
"""With the delays below about ten minutes: as long as a claim token lives."""
ENROLMENT_DELAY_S_MAX = 30
LEAVING_S_MAX = PROOF_AGE_S_MAX
"""A ledger that stays away longer would refuse the last proofs anyway."""
COUNTDOWN_SAVE_S = 300
"""How often a driver reports ``TimerProgress``: a power cut repeats at most so much of a pause, and flash is spared."""


# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Started:
    """The process has started, with whatever life was saved."""

    now: int


@dataclass(frozen=True, slots=True)
class ActivationRequested:
    """The owner consented and gave a scheduler and a claim."""

    scheduler: str
    claim_token: str
    terms_version: str
    now: int


@dataclass(frozen=True, slots=True)
class EnrolmentSucceeded:
    claim_token: str
    enrolled: Enrolled


@dataclass(frozen=True, slots=True)
class EnrolmentRefused:
    """The scheduler said no, finally."""

    claim_token: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class EnrolmentDelayed:
    """The scheduler could not be reached; ``problem`` says how."""

    claim_token: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class PauseRequested:
    now: int
    for_s: int | None = None


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    pass


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    now: int


@dataclass(frozen=True, slots=True)
class TimerProgress:
    """The timer still has ``left_s`` to go."""

    now: int
    left_s: int


@dataclass(frozen=True, slots=True)
class TimerElapsed:
    pass


@dataclass(frozen=True, slots=True)
class ProofsHandedOver:
    """The ledger has acknowledged all proofs."""


@dataclass(frozen=True, slots=True)
class Erased:
    pass


Request = ActivationRequested | PauseRequested | ResumeRequested | LeaveRequested
Event = (
    Request
    | Started
    | EnrolmentSucceeded
    | EnrolmentRefused
    | EnrolmentDelayed
    | TimerProgress
    | TimerElapsed
    | ProofsHandedOver
    | Erased
)


# ------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class Save:
    """Keep ``life`` so that it survives a power cut, before anything else is done."""

    life: Life


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the LAN the state."""

    state: str


@dataclass(frozen=True, slots=True)
class StartEnrolment:
    """Enrol at ``scheduler`` after ``after_s``; ends in one of the three enrolment events."""

    scheduler: str
    claim_token: str
    after_s: int


@dataclass(frozen=True, slots=True)
class StopEnrolment:
    pass


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the service port, the session with the scheduler and the way to the ledger. Nothing is served yet."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    pass


@dataclass(frozen=True, slots=True)
class StartService:
    """Let consumers in, and fill."""


@dataclass(frozen=True, slots=True)
class StopService:
    """End transfers and fills within a second; turn new ones away."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """In place of any timer before: ``TimerElapsed`` after ``after_s``, ``TimerProgress`` on the way."""

    after_s: int


@dataclass(frozen=True, slots=True)
class ClearTimer:
    pass


@dataclass(frozen=True, slots=True)
class Drain:
    """Seal all tickets and bring the proofs to the ledger; ends in ``ProofsHandedOver``."""


@dataclass(frozen=True, slots=True)
class Erase:
    """Forget owner, content and phones, not the device key and its chain of batches; ends in ``Erased``."""


Command = (
    Save
    | Announce
    | StartEnrolment
    | StopEnrolment
    | Connect
    | Disconnect
    | StartService
    | StopService
    | SetTimer
    | ClearTimer
    | Drain
    | Erase
)
Step = tuple[Life, tuple[Command, ...]]


class RequestRefused(Exception):
    """The state does not allow what the owner asked for; ``problem`` says what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


# ------------------------------------------------------------------ transitions


def _announce(life: Life, event: Started) -> Step:
    return life, (Announce(life.state),)


def _begin(life: Life, event: ActivationRequested) -> Step:
    after = Life(
        ACTIVATING,
        terms_version=event.terms_version,
        consented_at=event.now,
        scheduler=event.scheduler,
        claim_token=event.claim_token,
    )
    return after, (Save(after), Announce(ACTIVATING), StartEnrolment(event.scheduler, event.claim_token, 0))


def _enrol_again(life: Life, event: Started) -> Step:
    assert life.scheduler is not None
    assert life.claim_token is not None
    return life, (Announce(ACTIVATING), StartEnrolment(life.scheduler, life.claim_token, 0))


def _retry(life: Life, event: EnrolmentDelayed) -> Step:
    if event.claim_token != life.claim_token:
        return life, ()
    if life.attempts + 1 >= ENROLMENT_ATTEMPTS_MAX:
        return _give_up(life, event)
    assert life.scheduler is not None
    after = dataclasses.replace(life, attempts=life.attempts + 1, error=event.problem)
    delay_s = min(ENROLMENT_DELAY_S_MAX, 2**after.attempts)
    return after, (Save(after), StartEnrolment(life.scheduler, event.claim_token, delay_s))


def _give_up(life: Life, event: EnrolmentRefused | EnrolmentDelayed) -> Step:
    if event.claim_token != life.claim_token:
        return life, ()
    after = Life(error=event.problem)
    return after, (Save(after), Announce(DORMANT))


def _cancel(life: Life, event: LeaveRequested) -> Step:
    after = Life()
    return after, (Save(after), StopEnrolment(), Announce(DORMANT))


def _join(life: Life, event: EnrolmentSucceeded) -> Step:
    if event.claim_token != life.claim_token:
        return life, ()
    after = Life(
        ACTIVE,
        terms_version=life.terms_version,
        consented_at=life.consented_at,
        scheduler=life.scheduler,
        enrolled=event.enrolled,
    )
    return after, (Save(after), Announce(ACTIVE), Connect(), StartService())


def _serve(life: Life, event: Started) -> Step:
    return life, (Announce(ACTIVE), Connect(), StartService())


def _pause(life: Life, event: PauseRequested) -> Step:
    countdown = None if event.for_s is None else Countdown(event.for_s, event.now)
    after = dataclasses.replace(life, state=PAUSED, countdown=countdown)
    timer: Command = ClearTimer() if event.for_s is None else SetTimer(event.for_s)
    return after, (Save(after), StopService(), timer, Announce(PAUSED))


def _stay_paused(life: Life, event: Started) -> Step:
    if life.countdown is None:
        return life, (Announce(PAUSED), Connect())
    left_s = life.countdown.left_at(event.now)
    after = dataclasses.replace(life, countdown=Countdown(left_s, event.now))
    return after, (Save(after), Announce(PAUSED), Connect(), SetTimer(left_s))


def _resume(life: Life, event: ResumeRequested | TimerElapsed) -> Step:
    after = dataclasses.replace(life, state=ACTIVE, countdown=None)
    return after, (Save(after), ClearTimer(), StartService(), Announce(ACTIVE))


def _unchanged(life: Life, event: Event) -> Step:
    return life, ()


def _leave(life: Life, event: LeaveRequested) -> Step:
    countdown = Countdown(LEAVING_S_MAX, event.now)
    after = dataclasses.replace(life, state=LEAVING, countdown=countdown)
    commands = (Save(after), StopService(), Disconnect(), Announce(LEAVING), SetTimer(LEAVING_S_MAX), Drain())
    return after, commands


def _go_on_leaving(life: Life, event: Started) -> Step:
    assert life.countdown is not None
    if life.handed_over:
        return life, (Announce(LEAVING), Erase())
    left_s = life.countdown.left_at(event.now)
    after = dataclasses.replace(life, countdown=Countdown(left_s, event.now))
    return after, (Save(after), Announce(LEAVING), SetTimer(left_s), Drain())


def _erase(life: Life, event: ProofsHandedOver | TimerElapsed) -> Step:
    if life.handed_over:
        return life, ()
    after = dataclasses.replace(life, handed_over=True)
    return after, (Save(after), ClearTimer(), Erase())


def _forget(life: Life, event: Erased) -> Step:
    if not life.handed_over:
        return life, ()
    after = Life()
    return after, (Save(after), Announce(DORMANT))


def _progress(life: Life, event: TimerProgress) -> Step:
    if life.countdown is None:
        return life, ()
    after = dataclasses.replace(life, countdown=Countdown(event.left_s, event.now))
    return after, (Save(after),)


TRANSITIONS: Mapping[tuple[str, type[Any]], Callable[[Life, Any], Step]] = {
    (DORMANT, Started): _announce,
    (DORMANT, ActivationRequested): _begin,
    (ACTIVATING, Started): _enrol_again,
    (ACTIVATING, EnrolmentSucceeded): _join,
    (ACTIVATING, EnrolmentDelayed): _retry,
    (ACTIVATING, EnrolmentRefused): _give_up,
    (ACTIVATING, LeaveRequested): _cancel,
    (ACTIVE, Started): _serve,
    (ACTIVE, PauseRequested): _pause,
    (ACTIVE, ResumeRequested): _unchanged,
    (ACTIVE, LeaveRequested): _leave,
    (PAUSED, Started): _stay_paused,
    (PAUSED, PauseRequested): _pause,
    (PAUSED, ResumeRequested): _resume,
    (PAUSED, TimerProgress): _progress,
    (PAUSED, TimerElapsed): _resume,
    (PAUSED, LeaveRequested): _leave,
    (LEAVING, Started): _go_on_leaving,
    (LEAVING, LeaveRequested): _unchanged,
    (LEAVING, TimerProgress): _progress,
    (LEAVING, TimerElapsed): _erase,
    (LEAVING, ProofsHandedOver): _erase,
    (LEAVING, Erased): _forget,
}
"""What each state does with an event. A request that is not here is refused; any other event came late, after the
state it belonged to, and changes nothing."""


def step(life: Life, event: Event) -> Step:
    """The next life and what to do, in order.

    :raises RequestRefused: for an owner's request that the state does not allow.
    """
    transition = TRANSITIONS.get((life.state, type(event)))
    if transition is not None:
        return transition(life, event)
    if isinstance(event, Request):
        raise RequestRefused(_refusal(life, event))
    return life, ()


def _refusal(life: Life, event: Request) -> Problem:
    if isinstance(event, ActivationRequested):
        remedy = (
            "Wait until it has left." if life.state == LEAVING else "Leave first, from the phone that activated it."
        )
        return Problem(409, "already-activated", "This device has an owner", f"It is {life.state}.", "caller", remedy)
    if life.state == LEAVING:
        return Problem(
            409, "leaving", "The device is leaving", "It serves nobody any more.", "caller", "Activate it again later."
        )
    return not_active(life)


def not_active(life: Life) -> Problem:
    return Problem(
        409, "not-active", "The device is not active", f"It is {life.state}.", "caller", "Activate the device first."
    )
