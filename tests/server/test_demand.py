"""Demand counts: bounded, true about what matters, foreseeing a day's shape, over restarts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fallow_server.scheduling.columns import HOURS
from fallow_server.scheduling.demand import DAY_S, HOUR_S, WEEK_FADE_S, Config, Demands
from fallow_server.scheduling.places import NOWHERE, Place
from hypothesis import given, settings
from hypothesis import strategies as st

HERE, THERE = Place(64500, "CN"), Place(64501, "DE")
MONDAY = 4 * DAY_S
"""Midnight, UTC."""


def counted(demands: Demands, now: float) -> dict[tuple[str, Place], np.ndarray]:
    found = demands.expected(now)
    return dict(zip(zip(found.objects, found.places, strict=True), found.bytes_by_hour, strict=True))


def test_a_steady_demand_is_expected_to_go_on() -> None:
    demands = Demands(Config())
    for hour in range(28 * HOURS):
        demands.note("a", HERE, 3600, MONDAY + hour * HOUR_S)
    found = counted(demands, MONDAY + 28 * DAY_S)[("a", HERE)]
    assert found.sum() == pytest.approx(HOURS * 3600, rel=0.1)


def test_one_request_is_no_torrent() -> None:
    demands = Demands(Config())
    demands.note("a", HERE, 1000, MONDAY)
    assert counted(demands, MONDAY + 1)[("a", HERE)].sum() < 6 * 1000
    assert counted(demands, MONDAY + 3 * DAY_S)[("a", HERE)].sum() < 500


def test_a_rush_is_not_expected_to_last_the_day() -> None:
    demands = Demands(Config())
    for hour in range(14 * HOURS):
        demands.note("a", HERE, 100, MONDAY + hour * HOUR_S)
    now = MONDAY + 14 * DAY_S
    for minute in range(30):
        demands.note("a", HERE, 1000, now + minute * 60)
    found = counted(demands, now + HOUR_S / 2)[("a", HERE)]
    assert found[0] > 2000
    assert found[12] < found[0] / 5


def test_the_evening_is_foreseen_from_the_night() -> None:
    """Asked for in the evenings only, in one country; elsewhere all day long."""
    demands = Demands(Config())
    for day in range(10):
        for hour in range(HOURS):
            demands.note("a", HERE, 10_000 if 18 <= hour < 22 else 100, MONDAY + day * DAY_S + hour * HOUR_S)
            demands.note("b", THERE, 1000, MONDAY + day * DAY_S + hour * HOUR_S)
    found = counted(demands, MONDAY + 10 * DAY_S)
    evening = found[("a", HERE)]
    assert evening[18:22].min() > 5 * evening[:16].max()
    assert evening.sum() == pytest.approx(42_000, rel=0.35)
    flat = found[("b", THERE)]
    assert flat.max() < 1.3 * flat.min()


def test_an_object_that_is_new_has_its_countrys_evening() -> None:
    demands = Demands(Config())
    for day in range(10):
        for hour in range(HOURS):
            demands.note("a", HERE, 10_000 if 18 <= hour < 22 else 100, MONDAY + day * DAY_S + hour * HOUR_S)
    now = MONDAY + 10 * DAY_S + 10 * HOUR_S
    demands.note("new", HERE, 100, now)
    found = counted(demands, now)[("new", HERE)]
    assert found[8:12].min() > 5 * found[1]


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 1000), st.integers(-10, 100_000)), max_size=120),
    st.integers(1, 6),
)
@settings(max_examples=150, deadline=None)
def test_memory_is_bounded_and_what_matters_is_in(requests: list[tuple[int, int, int]], pairs: int) -> None:
    """Whatever has more than its share of all that was asked for is counted, and nothing is counted too high."""
    demands = Demands(Config(pairs_max=pairs))
    now, true = float(MONDAY), Counter[int]()
    for number, bytes_, passed in requests:
        now += passed
        demands.note(str(number), NOWHERE, bytes_, now)
        # Less than a day, so that no shape is known and only fading changes counts.
        true[number] += bytes_
    assert len(demands) <= pairs
    saved = demands.saved()
    at = dict(zip(saved.pairs, saved.columns[Demands.COLUMNS.index("week")], strict=True))
    assert all(count <= true[int(pair[0])] * 10.01 for pair, count in at.items())
    if requests and now - MONDAY < DAY_S / 100:
        for number, count in true.items():
            if count > 1.05 * true.total() / pairs:
                assert (str(number), NOWHERE) in at


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10**9), st.integers(0, 10**5)), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_restart_forgets_nothing(requests: list[tuple[int, int, int]]) -> None:
    demands, now = Demands(Config(pairs_max=5)), float(MONDAY)
    for number, bytes_, passed in requests:
        now += passed
        demands.note(str(number), HERE if number % 2 else THERE, bytes_, now)
    again = Demands.restored(Config(pairs_max=5), demands.saved())
    for one in (demands, again):
        one.note("later", HERE, 7, now + 10)
    before, after = demands.expected(now + 60), again.expected(now + 60)
    assert before.objects == after.objects
    assert np.allclose(before.bytes_by_hour, after.bytes_by_hour)


def test_counts_fade_for_years_without_trouble() -> None:
    demands = Demands(Config(pairs_max=2))
    for number in range(5):
        demands.note(str(number), HERE, 1000, MONDAY + number * 1000 * WEEK_FADE_S)
    assert len(demands) == 2
    assert np.isfinite(demands.expected(MONDAY + 9000 * WEEK_FADE_S).bytes_by_hour).all()
