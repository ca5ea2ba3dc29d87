"""Tasks and homes are matched as well as can be: against every possible matching, where there are few."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

from device_views import device
from fallow_server.scheduling import filters
from fallow_server.scheduling.explanation import EXAMPLES_MAX, HOME_RESTED, HOME_TAKEN, SCORED_MAX, Scored, Sifted, sift
from fallow_server.scheduling.filters import Config
from fallow_server.scheduling.matching import SPREAD, Want, home_of, match, narrowed, work_score
from fallow_server.scheduling.needs import Needs
from fallow_server.scheduling.places import Place
from fallow_server.scheduling.views import Demand, DeviceView
from hypothesis import given, settings
from hypothesis import strategies as st

NEEDS = Needs("probe")
COUNTRIES = ("DE", "FR", None)


def demand(number: int = 0, replicas: int = 1, owners: frozenset[str] = frozenset()) -> Demand:
    return Demand(f"t-{number}", "", 0, replicas, owners=owners, needs=NEEDS)


def prober(number: int, owner: int | None = None, country: str | None = None, **changes: object) -> DeviceView:
    name = f"owner-{number if owner is None else owner}"
    return device(number, owner=name, place=Place(None, country), services=frozenset({"probe"}), **changes)


def want(asked: Demand, values: Sequence[tuple[DeviceView, float]], haste: float = 0.0) -> Want:
    scored = sorted((Scored(one, {"value": value}) for one, value in values), key=lambda one: -one.value)
    return Want(asked, tuple(scored), haste)


def worth(wants: list[Want], chosen: list[list[Scored]]) -> float:
    """Of a whole matching: every assignment counts more than any score."""
    total = 0.0
    for one_want, of_task in zip(wants, chosen, strict=True):
        countries = [one.device.place.country for one in of_task]
        total += sum(1000 + one_want.haste + one.value for one in of_task)
        total -= sum(SPREAD * countries[:at].count(country) for at, country in enumerate(countries))
    return total


def allowed(chosen: list[list[Scored]], rooms: dict[str, int]) -> bool:
    owners = [one.device.owner for of_task in chosen for one in of_task]
    homes_differ = all(len({home_of(one.device) for one in of_task}) == len(of_task) for of_task in chosen)
    return homes_differ and all(owners.count(owner) <= rooms[owner] for owner in set(owners))


def best(wants: list[Want], rooms: dict[str, int]) -> float:
    """By trying everything."""
    every = [
        [list(some) for count in range(one.demand.replicas + 1) for some in combinations(one.choices, count)]
        for one in wants
    ]
    return max(worth(wants, list(chosen)) for chosen in product(*every) if allowed(list(chosen), rooms))


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Want], dict[str, int]]:
    devices = [
        prober(number, draw(st.integers(0, 3)), draw(st.sampled_from(COUNTRIES)))
        for number in range(draw(st.integers(1, 5)))
    ]
    rooms = {one.owner: draw(st.integers(0, 2)) for one in devices}
    wants = []
    for number in range(draw(st.integers(1, 3))):
        values = [(one, draw(st.integers(0, 100)) / 100) for one in devices if draw(st.booleans())]
        wants.append(want(demand(number, draw(st.integers(1, 3))), values, draw(st.integers(0, 4)) / 4))
    return wants, rooms


@given(problems())
@settings(max_examples=150, deadline=None)
def test_no_matching_is_better(problem: tuple[list[Want], dict[str, int]]) -> None:
    wants, rooms = problem
    found = match(wants, rooms.__getitem__)
    chosen = []
    for one in wants:
        ids = {assignment.device_id for assignment in found if assignment.task_id == one.demand.task_id}
        chosen.append([scored for scored in one.choices if scored.device.device_id in ids])
        assert len(chosen[-1]) <= one.demand.replicas
    assert sum(map(len, chosen)) == len(found)
    assert allowed(chosen, rooms)
    assert abs(worth(wants, chosen) - best(wants, rooms)) < 1e-6


def test_what_does_not_compete_needs_no_library() -> None:
    """SciPy is 50 MB of memory: it may not be loaded before it is needed."""
    script = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_matching import *
values = [(prober(n), n / 10) for n in range(4)]
assert len(match([want(demand(0, 2), values), want(demand(1, 2), values)], lambda owner: 2)) == 4
assert "scipy" not in sys.modules
assert len(match([want(demand(0, 2), values), want(demand(1, 2), values)], lambda owner: 1)) == 4
assert "scipy" in sys.modules
"""
    paths = ":".join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", script, paths], check=True, timeout=60)


def test_devices_of_other_homes_and_countries_come_first() -> None:
    values = [
        (prober(1, 1, "DE"), 0.9),
        (prober(2, 1, "DE"), 0.89),  # the same home
        (prober(3, 3, "DE"), 0.8),
        (prober(4, 4, "FR"), 0.75),  # another country: worth a tenth more than a second one of DE
        (prober(5, 5, "FR"), 0.1),
    ]
    found = match([want(demand(0, 3), values)], lambda owner: 5)
    assert [assignment.device_id[-1] for assignment in found] == ["1", "4", "3"]


def test_what_is_pressing_comes_first() -> None:
    one = prober(1)
    wants = [want(demand(number), [(one, 0.9 - number / 10)], number / 4) for number in range(4)]
    assert [assignment.task_id for assignment in match(wants, lambda owner: 1)] == ["t-3"]


def test_candidates_of_every_country_are_kept() -> None:
    scored = [Scored(prober(n, country="DE"), {"value": 0.9 - n / 1000}) for n in range(100)]
    scored.append(Scored(prober(200, country="FR"), {"value": 0.01}))
    kept = narrowed(Sifted(demand(replicas=2), {}, tuple(scored)))
    assert len(kept.choices) == 24
    assert kept.choices[1].device.place.country == "FR"


def test_homes_that_did_enough_are_left_alone_and_all_is_told() -> None:
    views = [
        prober(1),
        prober(2, owner=7),
        prober(3, owner=8),
        prober(4, state="paused"),
        *(prober(n, country="DE", idle_up_bps=0) for n in range(10, 30)),
    ]
    asked = demand(replicas=2, owners=frozenset({"owner-7"}))
    sifted = sift(asked, views, Config(), work_score, lambda owner: owner != "owner-8")
    assert {reason: len(ids) for reason, ids in sifted.refused.items()} == {
        HOME_TAKEN: 1,
        HOME_RESTED: 1,
        filters.PAUSED: 1,
        filters.LINE_TOO_SLOW: 20,
    }
    told = sifted.told(1000, {views[0].device_id})
    assert (told["considered"], told["candidates"], told["wanted"], told["decided_at"]) == (24, 1, 2, 1000)
    slow = told["refused"][filters.LINE_TOO_SLOW]
    assert (slow["devices"], len(slow["for_example"])) == (20, EXAMPLES_MAX)
    (best_one,) = told["best"]
    assert best_one["chosen"]
    assert best_one["score_permille"].keys() == {"value", "line", "processor", "chance"}


def test_what_is_told_is_bounded_and_names_those_chosen() -> None:
    scored = tuple(Scored(prober(n), {"value": 1 - n / 1000}) for n in range(500))
    told = Sifted(demand(), {}, scored).told(0, {scored[499].device.device_id})
    assert len(told["best"]) == SCORED_MAX
    assert told["best"][0]["chosen"]
    assert told["candidates"] == 500


def test_chance_differs_by_task() -> None:
    views = [prober(n) for n in range(200)]
    first = [sift(demand(number), views, Config(), work_score).scored[0].device.device_id for number in range(50)]
    assert len(set(first)) > 30
