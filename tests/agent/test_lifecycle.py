"""The lifecycle: scripts of events and commands, then any order of events with a crash at any command."""

from __future__ import annotations

import dataclasses

import pytest
from fallow_agent import lifecycle
from fallow_agent.life import ACTIVATING, ACTIVE, DORMANT, LEAVING, PAUSED, Countdown, Life, read_life
from fallow_agent.lifecycle import (
    ENROLMENT_ATTEMPTS_MAX,
    LEAVING_S_MAX,
    ActivationRequested,
    Announce,
    ClearTimer,
    Command,
    Connect,
    Disconnect,
    Drain,
    EnrolmentDelayed,
    EnrolmentRefused,
    EnrolmentSucceeded,
    Erase,
    Erased,
    Event,
    LeaveRequested,
    PauseRequested,
    ProofsHandedOver,
    RequestRefused,
    ResumeRequested,
    Save,
    SetTimer,
    Started,
    StartEnrolment,
    StartService,
    StopEnrolment,
    StopService,
    TimerElapsed,
    TimerProgress,
    step,
)
from fallow_wire.enrolment import Enrolled
from fallow_wire.errors import Malformed
from fallow_wire.fields import encode
from fallow_wire.http import Problem
from fallow_wire.keys import JwkSet, PrivateKey
from fallow_wire.session import Policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

NOW = 1_760_000_000
CLAIM = "claim-token-1"
SCHEDULER = "http://scheduler.example:32550"
KEYS = JwkSet((PrivateKey(bytes(range(32))).public.jwk(with_kid=True),))
ENROLLED = Enrolled(
    PrivateKey(bytes(range(32))).public.device_id(),
    "owner-1",
    "http://ledger.example:32551",
    "ledger-token",
    KEYS,
    Policy(KEYS, "http://ledger.example:32551"),
)
AWAY = Problem(503, "scheduler-away", "away", fault="upstream")
NO = Problem(403, "bad-claim", "no", fault="upstream")
ACTIVATE = ActivationRequested(SCHEDULER, CLAIM, "1", NOW)
JOINED = EnrolmentSucceeded(CLAIM, ENROLLED)


def play(*events: Event, life: Life | None = None) -> tuple[Life, tuple[Command, ...]]:
    """The life after ``events`` and the commands of the last one."""
    life = life or Life()
    commands: tuple[Command, ...] = ()
    for event in events:
        life, commands = step(life, event)
        life.check()
    return life, commands


def kinds(commands: tuple[Command, ...]) -> list[type]:
    return [type(command) for command in commands]


def test_the_main_path() -> None:
    life, commands = play(Started(NOW))
    assert commands == (Announce(DORMANT),)

    life, commands = play(ACTIVATE, life=life)
    assert life.state == ACTIVATING
    assert commands == (Save(life), Announce(ACTIVATING), StartEnrolment(SCHEDULER, CLAIM, 0))

    life, commands = play(JOINED, life=life)
    assert life.state == ACTIVE
    assert life.claim_token is None
    assert commands == (Save(life), Announce(ACTIVE), Connect(), StartService())

    life, commands = play(PauseRequested(NOW, 60), life=life)
    assert commands == (Save(life), StopService(), SetTimer(60), Announce(PAUSED))

    life, commands = play(TimerElapsed(), life=life)
    assert life.state == ACTIVE
    assert kinds(commands) == [Save, ClearTimer, StartService, Announce]

    life, commands = play(LeaveRequested(NOW), life=life)
    assert kinds(commands) == [Save, StopService, Disconnect, Announce, SetTimer, Drain]

    life, commands = play(ProofsHandedOver(), life=life)
    assert life.state == LEAVING
    assert kinds(commands) == [Save, ClearTimer, Erase]

    life, commands = play(Erased(), life=life)
    assert life == Life()
    assert commands == (Save(life), Announce(DORMANT))


def test_a_refused_enrolment_ends_dormant_with_its_reason() -> None:
    life, commands = play(ACTIVATE, EnrolmentRefused(CLAIM, NO))
    assert life == Life(error=NO)
    assert kinds(commands) == [Save, Announce]


def test_an_absent_scheduler_is_tried_again_but_not_for_ever() -> None:
    life, _ = play(ACTIVATE)
    delays = []
    for _ in range(ENROLMENT_ATTEMPTS_MAX - 1):
        life, commands = play(EnrolmentDelayed(CLAIM, AWAY), life=life)
        assert life.error == AWAY
        delays += [c.after_s for c in commands if isinstance(c, StartEnrolment)]
    assert delays[:5] == [2, 4, 8, 16, 30]
    assert 450 < sum(delays) < 600
    life, commands = play(EnrolmentDelayed(CLAIM, AWAY), life=life)
    assert life == Life(error=AWAY)


def test_an_answer_that_comes_after_the_owner_gave_up_binds_nobody() -> None:
    life, commands = play(ACTIVATE, LeaveRequested(NOW))
    assert life == Life()
    assert StopEnrolment() in commands
    assert play(JOINED, life=life) == (life, ())
    again = ActivationRequested(SCHEDULER, "claim-token-2", "1", NOW)
    life, _ = play(again, life=life)
    assert play(JOINED, life=life) == (life, ())


def test_an_activation_clears_the_error_of_the_last() -> None:
    life, _ = play(ACTIVATE, EnrolmentRefused(CLAIM, NO), ACTIVATE)
    assert life.error is None


@pytest.mark.parametrize("events", [(ACTIVATE,), (ACTIVATE, JOINED), (ACTIVATE, JOINED, LeaveRequested(NOW))])
def test_a_device_has_one_owner(events: tuple[Event, ...]) -> None:
    life, _ = play(*events)
    with pytest.raises(RequestRefused) as refused:
        step(life, ACTIVATE)
    assert (refused.value.problem.status, refused.value.problem.type) == (409, "already-activated")


@pytest.mark.parametrize("request_", [PauseRequested(NOW), ResumeRequested(), LeaveRequested(NOW)])
def test_a_dormant_device_has_nothing_to_pause_or_leave(request_: lifecycle.Request) -> None:
    with pytest.raises(RequestRefused) as refused:
        step(Life(), request_)
    assert refused.value.problem.type == "not-active"
    assert refused.value.problem.remedy


def test_a_restart_goes_on_where_it_was() -> None:
    activating, _ = play(ACTIVATE)
    assert play(Started(NOW), life=activating)[1] == (Announce(ACTIVATING), StartEnrolment(SCHEDULER, CLAIM, 0))
    active, _ = play(ACTIVATE, JOINED)
    assert play(Started(NOW), life=active)[1] == (Announce(ACTIVE), Connect(), StartService())
    paused, _ = play(PauseRequested(NOW), life=active)
    assert play(Started(NOW), life=paused)[1] == (Announce(PAUSED), Connect())
    leaving, _ = play(LeaveRequested(NOW), life=paused)
    assert kinds(play(Started(NOW), life=leaving)[1]) == [Save, Announce, SetTimer, Drain]
    erasing, _ = play(ProofsHandedOver(), life=leaving)
    assert play(Started(NOW), life=erasing)[1] == (Announce(LEAVING), Erase())


def test_a_pause_goes_on_after_a_power_cut() -> None:
    life, _ = play(ACTIVATE, JOINED, PauseRequested(NOW, 3600), TimerProgress(NOW + 600, 3000))
    after, commands = play(Started(NOW + 1600), life=life)
    assert SetTimer(2000) in commands
    assert after.countdown == Countdown(2000, NOW + 1600)


@pytest.mark.parametrize(
    ("saved_at", "now", "left_s"),
    [
        (NOW, NOW + 100, 500),
        (NOW, NOW + 900, 0),
        (NOW, 30, 600),  # the clock stands at 1970 now
        (40, NOW, 600),  # it stood there when the pause began
        (40, 90, 600),  # both: nobody knows how long the power was off
    ],
)
def test_what_is_left_of_a_pause(saved_at: int, now: int, left_s: int) -> None:
    assert Countdown(600, saved_at).left_at(now) == left_s


def test_a_ledger_that_stays_away_does_not_hold_an_owner_for_ever() -> None:
    life, commands = play(ACTIVATE, JOINED, LeaveRequested(NOW))
    assert SetTimer(LEAVING_S_MAX) in commands
    life, commands = play(TimerElapsed(), life=life)
    assert Erase() in commands
    assert play(ProofsHandedOver(), life=life) == (life, ())


def test_a_saved_life_reads_back_and_a_damaged_one_is_named() -> None:
    life, _ = play(ACTIVATE, JOINED, PauseRequested(NOW, 60))
    life = dataclasses.replace(life, error=NO)
    assert read_life(encode(life)) == life
    assert read_life(None) == Life()
    with pytest.raises(Malformed, match="state"):
        read_life({"state": "asleep"})
    with pytest.raises(Malformed, match="error"):
        read_life({"state": "dormant", "error": {"nonsense": 1}})


class Crashes(RuleBasedStateMachine):
    """A driver that carries commands out one by one, and may be killed before any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.saved = Life()
        self.life = Life()
        self.claims = 0
        self.now = NOW
        self.consented = False
        self.reset()
        self.start()

    def reset(self) -> None:
        self.enrolling: str | None = None
        self.online = False
        self.serving = False
        self.draining = False
        self.timer: int | None = None

    def start(self) -> None:
        self.life = read_life(encode(self.saved))
        self.handle(Started(self.now), None)

    def handle(self, event: Event, kill_before: int | None) -> None:
        try:
            after, commands = step(self.life, event)
        except RequestRefused:
            return
        after.check()
        assert not any(isinstance(c, Save) for c in commands[1:])
        assert after == self.life or commands[0] == Save(after), "a decision is saved before it is carried out"
        queue = list(commands)
        self.life = after
        for at, command in enumerate(queue):
            if at == kill_before:
                self.reset()
                self.start()
                return
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:
        match command:
            case Save(life):
                self.saved = life
            case StartEnrolment(_, claim, _):
                assert self.consented
                self.enrolling = claim
            case StopEnrolment():
                self.enrolling = None
            case Connect():
                assert self.consented
                self.online = True
            case Disconnect():
                self.online = False
            case StartService():
                assert self.online
                self.serving = True
            case StopService():
                self.serving = False
            case SetTimer(after_s):
                self.timer = after_s
            case ClearTimer():
                self.timer = None
            case Drain():
                self.draining = True
            case Erase():
                self.draining = False

    kills = st.one_of(st.none(), st.integers(0, 5))

    @rule(kill=kills)
    def activate(self, kill: int | None) -> None:
        self.claims += 1
        if self.life.state == DORMANT:
            self.consented = True
        self.handle(ActivationRequested(SCHEDULER, f"claim-number-{self.claims}", "1", self.now), kill)

    @rule(kind=st.sampled_from(["joined", "refused", "delayed"]), late=st.booleans(), kill=kills)
    def answer(self, kind: str, late: bool, kill: int | None) -> None:
        claim = f"claim-number-{self.claims - late}"
        events = {
            "joined": EnrolmentSucceeded(claim, ENROLLED),
            "refused": EnrolmentRefused(claim, NO),
            "delayed": EnrolmentDelayed(claim, AWAY),
        }
        self.handle(events[kind], kill)
        if self.life.state != ACTIVATING:
            self.enrolling = None

    @rule(for_s=st.one_of(st.none(), st.integers(1, 1000)), kill=kills)
    def pause(self, for_s: int | None, kill: int | None) -> None:
        before = self.life.state
        self.handle(PauseRequested(self.now, for_s), kill)
        if before in (ACTIVE, PAUSED) and kill != 0:
            assert self.life.state == PAUSED

    @rule(kill=kills)
    def resume(self, kill: int | None) -> None:
        self.handle(ResumeRequested(), kill)

    @rule(kill=kills)
    def leave(self, kill: int | None) -> None:
        before = self.life.state
        self.handle(LeaveRequested(self.now), kill)
        if before in (ACTIVE, PAUSED) and kill != 0:
            assert self.life.state == LEAVING

    @precondition(lambda self: self.timer is not None)
    @rule(part=st.integers(0, 2), kill=kills)
    def time_passes(self, part: int, kill: int | None) -> None:
        assert self.timer is not None
        passed = self.timer * part // 2
        self.now += passed
        self.timer -= passed
        self.handle(TimerProgress(self.now, self.timer) if self.timer else TimerElapsed(), kill)

    @precondition(lambda self: self.draining)
    @rule(kill=kills)
    def handed_over(self, kill: int | None) -> None:
        self.handle(ProofsHandedOver(), kill)

    @precondition(lambda self: self.life.handed_over)
    @rule(kill=kills)
    def erased(self, kill: int | None) -> None:
        self.handle(Erased(), kill)

    @rule()
    def kill(self) -> None:
        self.reset()
        self.start()

    @invariant()
    def the_world_is_what_the_state_says(self) -> None:
        self.life.check()
        assert self.saved == self.life
        state = self.life.state
        assert self.serving == (state == ACTIVE)
        assert self.online == (state in (ACTIVE, PAUSED))
        assert (self.enrolling is not None) == (state == ACTIVATING)
        assert (self.timer is not None) == (self.life.countdown is not None and not self.life.handed_over)
        assert self.draining == (state == LEAVING and not self.life.handed_over)

    @invariant()
    def consent_is_kept(self) -> None:
        if self.life.state != DORMANT:
            assert self.life.terms_version == "1"
            assert self.life.consented_at == NOW or self.life.consented_at is not None


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=60, stateful_step_count=30)
