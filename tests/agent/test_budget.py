"""The controller of the budget: scripts of what the household does, and what holds whatever it does."""

from __future__ import annotations

from collections.abc import Iterable

from fallow_agent.line.budget import (
    HOUSEHOLD_FACTOR,
    ONSET_BPS_MIN,
    ONSET_SHARE,
    USABLE_SHARE,
    YIELD_SHARE,
    Controller,
    Reading,
    idle_bps,
)
from hypothesis import given, settings
from hypothesis import strategies as st

MBIT = 1_000_000
LINE = 20 * MBIT
STEP_S = 0.1
YIELDED = int(YIELD_SHARE * LINE)


class Home:
    """A household on a line of 20 Mbit/s, and a Fallow that always uses all of its budget."""

    def __init__(self, capacity_bps: int = LINE, *, step_s: float = STEP_S) -> None:
        self.capacity_bps = capacity_bps
        self.step_s = step_s
        self.now = 1000.0
        self.own_bps = 0
        self.controller = Controller()

    @property
    def budget_bps(self) -> int:
        assert self.controller.budget_bps is not None
        return self.controller.budget_bps

    def uses(self, *rates_bps: int, seconds: float = 0.0, queueing_ms: float | None = None) -> list[int]:
        """The household's rates, a step each; the last goes on until ``seconds`` are over. The budgets that follow."""
        budgets = []
        steps = max(len(rates_bps), round(seconds / self.step_s) if seconds else 0)
        for rate_bps in (*rates_bps, *(rates_bps[-1:] * (steps - len(rates_bps)))):
            self.now += self.step_s
            reading = Reading(self.capacity_bps, rate_bps, self.own_bps, queueing_ms)
            self.controller = self.controller.after(self.now, reading)
            self.own_bps = self.budget_bps
            budgets.append(self.budget_bps)
        return budgets


def test_an_idle_line_is_used_up_to_the_reserve() -> None:
    home = Home()
    assert set(home.uses(0, seconds=3)) == {int(USABLE_SHARE * LINE)}
    assert home.controller.yields == 0


def test_an_onset_is_yielded_to_in_the_same_step_and_for_a_second() -> None:
    home = Home()
    home.uses(0, seconds=3)
    budgets = home.uses(3 * MBIT, 0, seconds=0.9)
    assert max(budgets) <= YIELDED
    assert (home.controller.yields, home.controller.yielding(home.now)) == (1, True)
    assert min(home.uses(0, seconds=5)[-5:]) >= 0.99 * USABLE_SHARE * LINE


def test_an_upload_gets_the_line_until_it_is_done() -> None:
    home = Home()
    home.uses(0, seconds=3)
    budgets = home.uses(4 * MBIT, 9 * MBIT, 16 * MBIT, 19 * MBIT, seconds=20)
    assert budgets[0] <= YIELDED
    assert set(budgets[5:]) == {0}
    assert home.controller.yields == 1
    after = home.uses(0, seconds=6)
    assert max(after[:9]) <= YIELDED
    assert after[-1] >= 0.9 * USABLE_SHARE * LINE


def test_steady_use_is_shared_with_and_its_start_is_one_onset() -> None:
    home = Home()
    home.uses(0, seconds=3)
    budgets = home.uses(4 * MBIT, seconds=10)
    assert max(budgets[:10]) <= YIELDED
    assert set(budgets[60:]) == {int(USABLE_SHARE * LINE - HOUSEHOLD_FACTOR * 4 * MBIT)}
    assert home.controller.yields == 1


def test_small_use_that_comes_and_goes_is_no_onset() -> None:
    home = Home()
    home.uses(0, seconds=3)
    for _ in range(20):
        assert min(home.uses(MBIT, 0, MBIT // 2, 0, 0)) >= USABLE_SHARE * LINE - HOUSEHOLD_FACTOR * MBIT
    assert home.controller.yields == 0


def test_demand_that_grows_slowly_is_noticed_before_the_line_is_full() -> None:
    home = Home()
    home.uses(0, seconds=3)
    rate, budgets = 0, []
    while rate < LINE and not home.controller.yields:
        rate += LINE // 100
        budgets += home.uses(rate)
        assert budgets[-1] + rate <= LINE
    assert home.controller.yields == 1


def test_a_household_that_goes_on_growing_is_held_for() -> None:
    home = Home()
    home.uses(0, seconds=3)
    budgets = home.uses(*(2 * MBIT + step * MBIT // 2 for step in range(16)))
    assert max(budgets) <= YIELDED
    assert home.controller.yields == 1


def test_the_time_to_yield_counts_from_the_last_quiet_reading_until_our_rate_is_down() -> None:
    home = Home()
    home.uses(0, seconds=3)
    home.uses(5 * MBIT)
    assert home.controller.yield_ms is None
    home.own_bps = 5 * MBIT  # what was queued goes out first
    home.uses(5 * MBIT)
    assert home.controller.yield_ms is None
    home.uses(5 * MBIT)
    assert home.controller.yield_ms in (299, 300)


def test_a_queue_shrinks_the_budget_in_proportion_and_at_most_by_half() -> None:
    home = Home()
    before = home.uses(0, seconds=3)[-1]
    assert home.uses(0, queueing_ms=10)[-1] == before
    assert home.uses(0, queueing_ms=16)[-1] == int(before * 10 / 16)
    assert home.uses(0, queueing_ms=500)[-1] == int(before * 10 / 16) // 2


def test_a_late_step_does_not_make_up_for_lost_time() -> None:
    home = Home()
    home.uses(0, seconds=3)
    home.uses(LINE, seconds=3)
    home.now += 3600
    assert home.uses(0)[-1] <= YIELD_SHARE * LINE + 0.2 * LINE


def test_a_queue_on_a_line_that_is_hardly_used_is_elsewhere() -> None:
    home = Home()
    home.uses(0, seconds=3)
    home.uses(0, queueing_ms=60, seconds=10)
    # Halved until so little of it is ours that the queue cannot be.
    assert 0.14 * LINE <= home.budget_bps <= 0.5 * LINE
    assert home.uses(0, seconds=5)[-1] >= 0.99 * USABLE_SHARE * LINE


class UnseenHome(Home):
    """Behind another router: only the queue of the line tells of the household. 300 ms of it fit."""

    BUFFER_S = 0.3

    def __init__(self) -> None:
        super().__init__()
        self.queued_bits = 0.0

    @property
    def queueing_ms(self) -> float:
        return self.queued_bits / self.capacity_bps * 1000

    def wants(self, bps: int, seconds: float) -> list[float]:
        """The household sends that much; our share of the line's time, a step each."""
        shares = []
        for _ in range(round(seconds / self.step_s)):
            self.now += self.step_s
            over_bits = (bps + self.own_bps - self.capacity_bps) * self.step_s
            self.queued_bits = min(self.BUFFER_S * self.capacity_bps, max(0.0, self.queued_bits + over_bits))
            reading = Reading(self.capacity_bps, None, self.own_bps, self.queueing_ms)
            self.controller = self.controller.after(self.now, reading)
            self.own_bps = self.budget_bps
            shares.append(self.own_bps / self.capacity_bps)
        return shares


def test_an_unseen_upload_is_yielded_to_by_its_queue_and_gets_the_line() -> None:
    home = UnseenHome()
    assert home.wants(0, 3)[-1] == USABLE_SHARE
    shares = home.wants(LINE, 30)
    assert shares[1] <= YIELD_SHARE
    assert max(shares[10:]) == 0
    assert home.controller.yields == 1
    after = home.wants(0, 60)
    assert after[9] == 0
    assert after[-1] >= 0.75


def test_an_unseen_use_beside_ours_finds_no_queue_most_of_the_time() -> None:
    home = UnseenHome()
    home.wants(0, 3)
    home.wants(LINE // 2, 30)
    queued, steps = 0, 600
    for _ in range(steps):
        home.wants(LINE // 2, home.step_s)
        queued += home.queueing_ms > 10
    assert queued <= steps * 0.05
    assert home.own_bps >= 0.1 * LINE  # and we still use some of what is left


def test_a_queue_counts_for_more_where_no_rate_leads() -> None:
    home = Home()
    home.uses(0, seconds=3)
    late = Reading(LINE, 0, home.own_bps, 15.0, prompt=False)
    assert (late.shows_unseen(), late.shows_unseen(2)) == (True, False)
    assert not Reading(LINE, 0, home.own_bps, 25.0).shows_unseen()  # its rate leads, and it is quiet


capacities = st.sampled_from((2 * MBIT, 5 * MBIT, LINE, 100 * MBIT, 10_000 * MBIT))
shares = st.lists(st.floats(0, 1.2), max_size=60)
steps_s = st.sampled_from((0.0, 0.05, STEP_S, 0.3, 1.0, 3600.0))


def invariant(home: Home, household_bps: int) -> None:
    controller = home.controller
    assert 0 <= home.budget_bps <= idle_bps(home.capacity_bps, controller.peak_bps)
    assert home.budget_bps <= USABLE_SHARE * home.capacity_bps
    if controller.yielding(home.now):
        assert home.budget_bps <= YIELD_SHARE * home.capacity_bps
    assert controller.peak_bps >= 0
    assert controller.level_bps >= 0


def played(home: Home, past: Iterable[tuple[float, float]]) -> None:
    for share, step_s in past:
        home.step_s = step_s
        household = int(share * home.capacity_bps)
        home.uses(household)
        invariant(home, household)
    home.step_s = STEP_S


@settings(max_examples=150, deadline=None)
@given(capacities, st.lists(st.tuples(st.floats(0, 1.2), steps_s), max_size=60))
def test_whatever_happens_the_bound_holds_and_an_idle_line_recovers(
    capacity: int, past: list[tuple[float, float]]
) -> None:
    home = Home(capacity)
    played(home, past)
    home.uses(0, seconds=7)
    assert home.budget_bps >= 0.9 * USABLE_SHARE * capacity


@settings(max_examples=150, deadline=None)
@given(capacities, st.lists(st.tuples(st.floats(0, 1.2), steps_s), max_size=60), st.floats(0.001, 1))
def test_whatever_happened_an_onset_is_yielded_to_within_two_steps(
    capacity: int, past: list[tuple[float, float]], more: float
) -> None:
    home = Home(capacity)
    home.uses(0)
    played(home, past)
    rise = max(ONSET_SHARE * capacity, ONSET_BPS_MIN) + more * capacity
    household = int(home.controller.level_bps + rise)
    assert home.uses(household, household)[-1] <= YIELD_SHARE * capacity
