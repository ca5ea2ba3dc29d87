"""The choice of devices for a request: near ones first, the less used of two, with honest odds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from fallow_server.scheduling.holders import Holders
from fallow_server.scheduling.places import NOWHERE, Place
from fallow_server.scheduling.routing import Choice, choose, pick_one, pick_several
from hypothesis import example, given, settings
from hypothesis import strategies as st

OBJECT = "a" * 64
MBIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    lasting_up_bps: int


class Fleet:
    """Holders of one object with what they have left in Mbit/s; one with nothing left may not serve."""

    def __init__(self, *devices: tuple[Place, int], line: str | None = None) -> None:
        self.holders = Holders()
        self.left: dict[str, int] = {}
        self.asked = 0
        self.random = random.Random(11)
        for place, left in devices:
            self.add(place, left, line)

    def add(self, place: Place, left: int, line: str | None = None) -> str:
        name = f"fd-{len(self.left)}"
        self.left[name] = left * MBIT
        self.holders.join(name, place, line)
        self.holders.hold(name, frozenset({OBJECT}))
        return name

    def candidate(self, name: str) -> Device | None:
        self.asked += 1
        return Device(name, self.left[name]) if self.left[name] else None

    def choose(self, count: int = 1, place: Place = NOWHERE, near: tuple[str, ...] = ()) -> list[Choice[Device]]:
        return choose(self.holders, OBJECT, count, self.candidate, self.random.random, place, near)

    def names(self, count: int = 1, place: Place = NOWHERE, near: tuple[str, ...] = ()) -> list[str]:
        return [choice.device.name for choice in self.choose(count, place, near)]


DE1, DE2, FR3, US4 = Place(1, "DE"), Place(2, "DE"), Place(3, "FR"), Place(4, "US")


def test_the_nearest_four_are_chosen_from() -> None:
    fleet = Fleet(*[(DE1, 5)] * 4, (DE2, 50), (FR3, 50), (US4, 50))

    def seen(place: Place, near: tuple[str, ...] = ()) -> set[int]:
        return {int(fleet.names(1, place, near)[0].removeprefix("fd-")) for _ in range(200)}

    assert seen(DE1) == {0, 1, 2, 3}
    # One of a provider is no choice: its country is asked, then those with short round trips, then all.
    assert seen(DE2) == {0, 1, 2, 3, 4}
    assert seen(FR3, near=("DE",)) == {0, 1, 2, 3, 4, 5}
    assert seen(FR3) == set(range(7))
    assert {choice.pool for choice in fleet.choose(place=DE1)} == {"as DE/1"}
    assert {choice.pool for choice in fleet.choose(place=US4)} == {"all"}


def test_who_is_busy_nearby_is_passed_over() -> None:
    fleet = Fleet(*[(DE1, 0)] * 3, (DE1, 5), (DE2, 5), (FR3, 5))
    assert {fleet.names(place=DE1)[0] for _ in range(60)} == {"fd-3", "fd-4"}
    fleet = Fleet((DE1, 0), (DE1, 5), (FR3, 0))
    (only,) = fleet.choose(place=DE1)
    assert (only.device.name, only.odds) == ("fd-1", 1000)
    assert Fleet((DE1, 0), (DE1, 0)).choose(place=DE1) == []
    assert Fleet().choose() == []


def test_several_are_of_different_lines_the_nearest_first() -> None:
    fleet = Fleet((DE1, 5), (DE1, 6), (DE1, 0), (DE1, 0), (DE2, 50), (FR3, 7), (US4, 50))
    for _ in range(20):
        found = fleet.names(4, DE1)
        assert found[:3] == ["fd-1", "fd-0", "fd-4"]
        assert found[3] in ("fd-5", "fd-6")
    swarm = Fleet(*[(DE1, 50)] * 30, line="line-c")
    swarm.add(DE1, 5, "line-h")
    assert sorted(name == "fd-30" for name in swarm.names(4, DE1)) == [False, True]


def test_a_choice_looks_at_few_however_many_hold_the_object() -> None:
    fleet = Fleet(*[(Place(number % 50, "DE"), 1 + number % 7) for number in range(3000)])
    fleet.choose(place=Place(7, "DE"))
    assert fleet.asked == 8
    busy = Fleet(*[(Place(number % 50, "DE"), 0) for number in range(3000)])
    assert busy.choose(place=Place(7, "DE"), near=("FR",)) == []
    assert busy.asked == 2 * 32


def test_the_line_counts_and_not_its_devices() -> None:
    fleet = Fleet(*[(DE1, 5)] * 100, line="line-c")
    for _ in range(3):
        fleet.add(DE1, 5)
    names = Counter(fleet.names(place=DE1)[0] for _ in range(2000))
    assert 400 < sum(names[f"fd-{n}"] for n in range(100)) < 600


def test_of_two_the_one_with_more_left_is_taken_mostly() -> None:
    strong, weak = Device("s", 9), Device("w", 1)
    assert pick_one([strong, weak], lambda: 0.5) == [(strong, 0.875)]
    assert pick_one([strong, weak], lambda: 0.1) == [(weak, 0.125)]
    assert pick_one([strong], lambda: 0.5) == [(strong, 1.0)]
    assert pick_one([], lambda: 0.5) == []
    draws = iter((0.0, 0.0))
    assert pick_one([weak, strong, Device("m", 5)], lambda: next(draws))[0][0] is strong


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(
    "left", [(5, 5), (9, 1), (9, 1, 1), (100, 10, 1, 1, 1), (3, 3, 2, 2, 1, 1), tuple(range(1, 9))]
)
def test_the_odds_are_those_of_the_choice(count: int, left: Iterable[int]) -> None:
    """Of few holders exactly: the share of the tickets that each gets, against what its tickets say."""
    fleet = Fleet(*[(NOWHERE, one) for one in left])
    tickets: Counter[str] = Counter()
    said: dict[str, set[int]] = {}
    for _ in range(3000):
        for choice in fleet.choose(count):
            tickets[choice.device.name] += 1
            said.setdefault(choice.device.name, set()).add(choice.odds)
    for name, odds in said.items():
        (one,) = odds
        assert abs(tickets[name] / tickets.total() - one / 1000) < 0.025


@pytest.mark.parametrize("busy", [0, 30, 54, 57])
@pytest.mark.parametrize("count", [1, 4])
def test_of_many_holders_no_device_exceeds_its_odds(count: int, busy: int) -> None:
    """The strongest of 60 gets no more of the tickets than the mean of what its tickets say."""
    fleet = Fleet((NOWHERE, 90), *[(NOWHERE, 0 if number < busy else 10) for number in range(59)])
    own, total = [], 0
    for _ in range(2000):
        for choice in fleet.choose(count):
            total += 1
            if choice.device.name == "fd-0":
                own.append(choice.odds)
    assert len(own) / total <= sum(own) / len(own) / 1000 * 1.1  # of chance


def test_full_lines_come_after_free_ones_that_are_further_away() -> None:
    fleet = Fleet(*[(DE1, 0)] * 6, *[(US4, 5)] * 3)
    everybody = {name: Device(name, left) for name, left in fleet.left.items()}
    for _ in range(50):
        found = choose(
            fleet.holders, OBJECT, 4, fleet.candidate, fleet.random.random, DE1, full=lambda name: everybody[name]
        )
        assert {one.device.name for one in found[:3]} == {"fd-6", "fd-7", "fd-8"}
        assert found[3].device.name in {f"fd-{number}" for number in range(6)}
        # What they deliver is compared with others of their kind.
        assert [one.pool for one in found] == ["all"] * 3 + ["as DE/1, full"]
        # Whose turn it is, is even.
        assert found[3].odds == pytest.approx(1000 / 6, abs=1)
    one_left = Fleet((DE1, 5), (DE1, 0), line=None)
    both = {name: Device(name, left) for name, left in one_left.left.items()}
    found = choose(
        one_left.holders, OBJECT, 4, one_left.candidate, one_left.random.random, full=lambda name: both[name]
    )
    assert [one.device.name for one in found] == ["fd-0", "fd-1"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 100), max_size=20),
    st.integers(0, 6),
    st.floats(0, 1, exclude_max=True),
)
@example([0, 0], 2, 0.9999999999999999)
@example([1] * 7, 3, 0.9999999999999999)
def test_several_are_as_many_as_there_are_the_strongest_first(left: list[int], count: int, mark: float) -> None:
    candidates = [Device(f"fd-{n}", bps) for n, bps in enumerate(left)]
    picked = pick_several(candidates, count, lambda: mark)
    names = [device.name for device, _ in picked]
    assert len(set(names)) == len(names) == min(count, len(left))
    found = [device.lasting_up_bps for device, _ in picked]
    assert found == sorted(found, reverse=True)
    assert all(0 < share <= 1 / len(picked) + 1e-9 for _, share in picked)
