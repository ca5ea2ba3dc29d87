"""Hours and the month."""

from __future__ import annotations

import pytest
from fallow_agent.allowance import (
    LocalTime,
    Usage,
    Used,
    day_written_full,
    minutes_until_open,
    month_used_up,
    within_hours,
)
from fallow_wire.lan import Hours, Limits
from hypothesis import given
from hypothesis import strategies as st

NIGHT = Hours((4,), 1320, 360)  # Friday 22:00 to Saturday 06:00
OFFICE = Hours((0, 1), 540, 1020)
WHOLE_SUNDAY = Hours((6,), 0, 1440)


@pytest.mark.parametrize(
    ("weekday", "minute", "inside"),
    [
        (4, 1319, False),
        (4, 1320, True),
        (5, 0, True),
        (5, 359, True),
        (5, 360, False),
        (4, 100, False),
        (0, 539, False),
        (0, 540, True),
        (1, 1019, True),
        (1, 1020, False),
        (2, 600, False),
        (6, 0, True),
        (6, 1439, True),
    ],
)
def test_windows_in_local_time(weekday: int, minute: int, inside: bool) -> None:
    assert within_hours((NIGHT, OFFICE, WHOLE_SUNDAY), LocalTime("2026-11-23", weekday, minute)) == inside


def test_no_windows_mean_always() -> None:
    assert within_hours((), LocalTime("2026-11-23", 0, 0))


def test_how_long_until_the_next_window() -> None:
    assert minutes_until_open((OFFICE,), LocalTime("2026-11-23", 0, 530)) == 10
    assert minutes_until_open((OFFICE,), LocalTime("2026-11-24", 1, 1020)) == 6 * 1440 - 480
    assert minutes_until_open((OFFICE,), LocalTime("2026-11-23", 0, 600)) == 0


hours = st.builds(
    Hours,
    st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple),
    st.integers(0, 1439),
    st.integers(1, 1440),
)


@given(st.lists(hours, min_size=1, max_size=3).map(tuple), st.integers(0, 6), st.integers(0, 1439))
def test_after_the_wait_a_window_is_open(windows: tuple[Hours, ...], weekday: int, minute: int) -> None:
    wait = minutes_until_open(windows, LocalTime("", weekday, minute))
    days, then = divmod(minute + wait, 1440)
    assert within_hours(windows, LocalTime("", (weekday + days) % 7, then))
    if wait:
        days, before = divmod(minute + wait - 1, 1440)
        assert not within_hours(windows, LocalTime("", (weekday + days) % 7, before))


def test_days_and_months_are_counted_apart() -> None:
    usage = Usage().add(LocalTime("2026-11-29", 6, 0), Used(5, 6, 70, refused=3))
    assert usage == Usage("2026-11-29", 5, 6, 70, 3)
    usage = usage.add(LocalTime("2026-11-30", 0, 0), Used(7, 8, 90))
    assert usage == Usage("2026-11-30", 7, 14, 90)
    assert usage.add(LocalTime("2026-12-01", 1, 0), Used(2, 3)) == Usage("2026-12-01", 2, 3)


def test_what_was_used_is_the_difference_of_two_readings() -> None:
    assert Used(5, 6, 7, 9) - Used(1, 1, 2, 3) == Used(4, 5, 5, 6)


def test_a_clock_at_1970_does_not_give_the_month_anew() -> None:
    usage = Usage("2026-11-30", 7, 12, 90).add(LocalTime("1970-01-01", 3, 0), Used(1, 1, 10))
    assert usage == Usage("2026-11-30", 8, 13, 100)
    assert day_written_full(100, usage)
    assert not day_written_full(101, usage)
    assert not day_written_full(None, usage)
    assert month_used_up(Limits(monthly_bytes_max=13), usage)
    assert not month_used_up(Limits(monthly_bytes_max=14), usage)
    assert not month_used_up(Limits(), usage)
