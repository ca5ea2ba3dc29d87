"""What devices were promised: counted from the request until heartbeats show that it is over."""

from __future__ import annotations

from dataclasses import replace

from device_views import device
from fallow_server.scheduling.bookings import REST_S, Booked, Bookings
from hypothesis import given
from hypothesis import strategies as st

IDLE_BPS = 10**12
"""More than is ever promised here."""


def counted(bookings: Bookings) -> tuple[int, int]:
    booked = bookings.booked("d")
    return booked.bps, booked.fresh


def test_a_request_counts_until_a_heartbeat_shows_that_it_is_over() -> None:
    bookings = Bookings()
    bookings.book("d", 3_000)
    assert counted(bookings) == (3_000, 1)
    # The consumer may not have connected yet.
    bookings.heard("d", 0, IDLE_BPS, 0)
    assert counted(bookings) == (3_000, 0)
    bookings.heard("d", 0, IDLE_BPS, 0)
    assert counted(bookings) == (0, 0)


def test_the_oldest_is_over_first() -> None:
    bookings = Bookings()
    for bps in (1, 20, 300):
        bookings.book("d", bps)
    bookings.heard("d", 3, IDLE_BPS, 0)
    bookings.heard("d", 2, IDLE_BPS, 0)
    assert counted(bookings) == (320, 0)
    bookings.book("d", 4_000)
    assert counted(bookings) == (4_320, 1)
    bookings.heard("d", 1, IDLE_BPS, 0)
    assert counted(bookings) == (4_000, 0)


def test_a_device_that_leaves_is_promised_nothing() -> None:
    bookings = Bookings()
    bookings.book("d", 5)
    bookings.forget("d")
    bookings.heard("d", 7, IDLE_BPS, 0)
    assert counted(bookings) == (0, 0)


@given(st.lists(st.one_of(st.integers(1, 10**9), st.integers(-40, 0))))
def test_the_sum_is_that_of_what_goes_on(steps: list[int]) -> None:
    """Positive: a booking; else a heartbeat with so many connections."""
    bookings, rates, fresh = Bookings(), [], 0
    for step in steps:
        if step > 0:
            bookings.book("d", step)
            rates.append(step)
            fresh += 1
        else:
            bookings.heard("d", -step, IDLE_BPS, 0)
            rates = rates[max(0, len(rates) - max(-step, fresh)) :]
            fresh = 0
        assert counted(bookings) == (sum(rates), fresh)


def test_a_device_rests_whose_household_took_back_what_was_promised() -> None:
    bookings = Bookings()
    bookings.book("d", 3_000)
    bookings.heard("d", 1, 3_000, 100)
    assert bookings.booked("d").rests_until == 0
    bookings.heard("d", 1, 2_999, 200)
    assert bookings.booked("d").rests_until == 200 + REST_S
    # Neither an idle line nor the last consumer's end makes it shorter.
    bookings.heard("d", 0, 9_000, 300)
    assert bookings.booked("d") == Booked(0, 0, 200 + REST_S)
    bookings.heard("d", 0, 9_000, 200 + REST_S)
    assert bookings.booked("d") == Booked(0, 0, 0)


def test_what_is_idle_now_is_promised_and_the_forecast_says_who_is_chosen() -> None:
    view = device(idle_up_bps=10_000_000, forecast_idle_up_bps=(6_000_000,) * 24, routed_bps=1_000_000)
    assert (view.remaining_up_bps, view.lasting_up_bps) == (6_500_000, 3_500_000)
    # A forecast promises nothing that is not idle, and keeps nobody away.
    assert replace(view, forecast_idle_up_bps=(20_000_000,) * 24).lasting_up_bps == 6_500_000
    doubtful = replace(view, forecast_idle_up_bps=(0,) * 24)
    assert (doubtful.remaining_up_bps, doubtful.lasting_up_bps) == (6_500_000, 0)
    assert replace(view, forecast_idle_up_bps=()).lasting_up_bps == 6_500_000
    resting = replace(view, rests=True)
    assert (resting.remaining_up_bps, resting.lasting_up_bps) == (0, 0)


def test_an_operator_may_have_no_device_rest() -> None:
    bookings = Bookings(rest_s=0)
    bookings.book("d", 3_000)
    bookings.heard("d", 1, 2_999, 200)
    assert bookings.booked("d").rests_until <= 200
    bookings.heard("d", 0, 2_999, 200)
    assert bookings.booked("d") == Booked(0, 0, 0)
