"""SIEVE against a naive model of it, and admission at the second hit."""

from __future__ import annotations

from fallow_agent.edge.sieve import SecondHit, Sieve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

NAMES = st.sampled_from("abcdefgh")


def test_what_was_asked_for_again_survives_what_was_not() -> None:
    """The example of the paper's figure: the hand passes what is marked once, and new ones come in at the head."""
    sieve = Sieve("abcdefg")
    for name in "abg":
        sieve.visit(name)
    victims = []
    for new in "hij":
        victim = sieve.victim()
        assert victim is not None
        sieve.remove(victim)
        sieve.add(new)
        victims.append(victim)
    assert victims == ["c", "d", "e"]
    assert list(sieve) == list("abfghij")
    # The hand goes on from where it is: f, then g loses its mark, then the new ones; a and b have lost theirs.
    assert sieve.victim() == "f"


def test_what_must_stay_is_passed_over() -> None:
    sieve = Sieve("abc")
    assert sieve.victim(lambda name: name == "b") == "b"
    assert sieve.victim(lambda name: False) is None
    assert Sieve().victim() is None


def test_the_second_request_is_worth_a_write_and_memory_is_bounded() -> None:
    admission = SecondHit(remembered_max=2)
    assert [admission.admits(name) for name in "aabbb"] == [False, True, False, True, False]
    for name in "xyz":
        assert not admission.admits(name)
    assert not admission.admits("x")  # forgotten meanwhile
    assert admission.admits("z")


class AgainstModel(RuleBasedStateMachine):
    """The model: a list of [name, mark], oldest first, and the index of the hand."""

    def __init__(self) -> None:
        super().__init__()
        self.sieve = Sieve()
        self.model: list[list[object]] = []
        self.hand = 0

    def index(self, name: str) -> int | None:
        return next((place for place, (one, _) in enumerate(self.model) if one == name), None)

    @rule(name=NAMES)
    def add(self, name: str) -> None:
        self.sieve.add(name)
        if self.index(name) is None:
            # A hand that had reached the end stands before what comes now only if it has gone round already.
            if self.hand == len(self.model) and self.model:
                self.hand = 0
            self.model.append([name, False])

    @rule(name=NAMES)
    def visit(self, name: str) -> None:
        self.sieve.visit(name)
        place = self.index(name)
        if place is not None:
            self.model[place][1] = True

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.sieve.remove(name)
        place = self.index(name)
        if place is not None:
            self.take_out(place)

    def take_out(self, place: int) -> None:
        del self.model[place]
        if place < self.hand:
            self.hand -= 1
        elif self.hand >= len(self.model):
            self.hand = 0

    @rule(stay=st.sets(NAMES), gone=st.booleans())
    def victim(self, stay: set[str], gone: bool) -> None:
        found = self.sieve.victim(lambda name: name not in stay)
        expected = None
        for _ in range(2 * len(self.model)):
            self.hand %= len(self.model)
            name, marked = self.model[self.hand]
            if name not in stay:
                if not marked:
                    expected = name
                    break
                self.model[self.hand][1] = False
            self.hand += 1
        if self.model:
            self.hand %= len(self.model)
        assert found == expected
        if found is not None and gone:
            self.sieve.remove(found)
            self.take_out(self.hand)

    @invariant()
    def the_same_stand_there_in_order(self) -> None:
        assert list(self.sieve) == [name for name, _ in self.model]
        assert len(self.sieve) == len(self.model)


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstModel = AgainstModel.TestCase
