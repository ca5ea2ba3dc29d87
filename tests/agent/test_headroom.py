"""What processor and temperature leave of the budget: scripts of readings."""

from __future__ import annotations

import logging
import os

import psutil
import pytest
from fallow_agent.host.budgets import WRITTEN_STEP_BYTES, HostBudgets
from fallow_agent.host.conntrack import ConnectionTable
from fallow_agent.host.headroom import (
    SPARE_HYSTERESIS_PERCENT,
    TEMPERATURE_HYSTERESIS_C,
    CoreTimes,
    Headroom,
    ProcessorTimes,
    SpareProcessor,
    spare_percent,
)
from fallow_agent.host.processor import processor_times
from hypothesis import given
from hypothesis import strategies as st


def over(headroom: Headroom, *, celsius: tuple[int, ...] = (), spare: tuple[int, ...] = ()) -> list[int]:
    """The permille after each reading."""
    found = []
    for reading in celsius or spare:
        headroom.take(None if celsius else reading, reading if celsius else None)
        found.append(headroom.permille)
    return found


def test_heat_takes_the_budget_away_in_proportion() -> None:
    headroom = Headroom(temperature_c_max=85)
    assert over(headroom, celsius=(40, 75, 80, 84, 85, 99)) == [1000, 1000, 500, 100, 0, 0]


def test_it_comes_back_only_when_it_is_really_cooler() -> None:
    headroom = Headroom(temperature_c_max=85)
    assert over(headroom, celsius=(85, 84, 83, 82, 81, 77, 72)) == [0, 0, 0, 0, 100, 500, 1000]


def test_a_busy_processor_takes_the_budget_away_in_proportion() -> None:
    headroom = Headroom(spare_percent_min=20)
    assert over(headroom, spare=(100, 20, 10, 0, 5, 10, 15, 25)) == [1000, 1000, 500, 0, 0, 250, 500, 1000]


def test_the_scarcer_of_both_counts() -> None:
    headroom = Headroom(20, 85)
    headroom.take(10, 84)
    assert headroom.permille == 100


def test_zero_switches_each_off_and_what_is_not_known_limits_nothing() -> None:
    headroom = Headroom(0, 0)
    headroom.take(0, 120)
    assert headroom.permille == 1000
    headroom = Headroom()
    headroom.take(None, None)
    assert headroom.permille == 1000


@given(st.integers(60, 100), st.lists(st.integers(0, TEMPERATURE_HYSTERESIS_C), min_size=2, max_size=50))
def test_a_sensor_that_jitters_does_not_flap(base: int, jitter: list[int]) -> None:
    """Once its highest reading was seen, nothing moves any more."""
    headroom = Headroom(0, 85)
    budgets = over(headroom, celsius=(base + TEMPERATURE_HYSTERESIS_C, *(base + step for step in jitter)))
    assert len(set(budgets)) == 1


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 150)), max_size=50), st.integers(1, 90))
def test_it_is_a_share_and_follows_within_the_hysteresis(readings: list[tuple[int, int]], spare_min: int) -> None:
    headroom = Headroom(spare_min, 0)
    for spare, celsius in readings:
        headroom.take(spare, celsius)
        assert 0 <= headroom.permille <= 1000
        assert headroom.permille <= 1000 * spare / spare_min
        assert headroom.permille >= min(1000, 1000 * (spare - SPARE_HYSTERESIS_PERCENT) // spare_min)


def times(own_s: float, *cores: tuple[float, float, float]) -> ProcessorTimes:
    return ProcessorTimes(tuple(CoreTimes(*core) for core in cores), own_s)


@pytest.mark.parametrize(
    ("after", "spare"),
    [
        (times(0, (10, 10, 0), (10, 10, 0)), 100),
        (times(0, (10, 5, 0), (10, 10, 0)), 75),
        (times(5, (10, 5, 0), (10, 10, 0)), 100),  # the agent itself
        (times(0, (10, 0, 0), (10, 10, 0)), 50),  # another program has one core of two
        (times(0, (10, 0, 10), (10, 10, 0)), 0),  # forwarding fills one core: packets are dropped
        (times(9, (10, 5, 0), (10, 10, 0)), 100),  # readings that do not quite agree
    ],
)
def test_what_others_leave_of_the_processor(after: ProcessorTimes, spare: int) -> None:
    assert spare_percent(times(0, (0, 0, 0), (0, 0, 0)), after) == spare


def test_the_processor_is_judged_over_seconds_and_not_by_a_moment() -> None:
    processor, found = SpareProcessor(), []
    for taken in (
        times(0, (100, 100, 0)),
        times(0, (100.01, 100, 0.01)),  # one interrupt in a hundredth of a second
        times(0, (104, 103, 0)),
        times(0, (104, 103, 0)),
        times(0, (108, 103, 0), (4, 4, 0)),  # a second core has come
        times(0, (112, 105, 0), (8, 8, 0)),
        None,
    ):
        processor.take(taken)
        found.append(processor.percent)
    assert found == [None, None, 75, 75, None, 75, None]


def test_one_core_of_which_the_kernel_tells_nothing_new_is_passed_over() -> None:
    assert spare_percent(times(0, (0, 0, 0), (7, 7, 0)), times(0, (10, 10, 0), (7, 7, 0))) == 100


def test_the_real_processor_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda more: 0)
    before = processor_times()
    assert before is not None
    assert len(before.cores) == psutil.cpu_count()
    assert before.own_s > 0
    assert all(core.total_s >= core.waiting_s >= 0 for core in before.cores)
    used = os.times()
    while os.times().user - used.user < 0.05:
        pass  # our own time
    after = processor_times()
    assert after is not None
    assert after.own_s - before.own_s >= 0.05
    monkeypatch.setattr(os, "nice", lambda more: 10)
    niced = processor_times()
    assert niced is not None
    assert niced.own_s < after.own_s, "the kernel has put user time among that of niced programs"
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: (_ for _ in ()).throw(PermissionError()))
    assert processor_times() is None


def test_the_host_is_read_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    table: list[ConnectionTable | None] = [ConnectionTable(0, 16384)]
    kernel, fills = [10**6], [0]
    host = HostBudgets(Headroom(0, 85), lambda: fills[0], lambda: table[0], lambda: kernel[0])
    assert (host.headroom_permille, host.connections_max) == (1000, 204)
    host.read(80, behind_router=False)
    assert (host.headroom_permille, host.connections_max) == (500, 819)
    table[0] = ConnectionTable(16000, 16384)
    for _ in range(3):
        host.read(90, behind_router=False)
    assert (host.headroom_permille, host.connections_max) == (0, 0)
    host.read(20, behind_router=True)
    assert [record.message for record in caplog.records] == [
        "the device is too hot or too busy to share",
        "the device is free to share again",
    ]

    assert host.written_total() == 0
    kernel[0] += 3 * WRITTEN_STEP_BYTES - 1
    assert host.written_total() == 2 * WRITTEN_STEP_BYTES
    fills[0] = 7 * WRITTEN_STEP_BYTES  # a kernel that counts nothing
    assert host.written_total() == 7 * WRITTEN_STEP_BYTES
