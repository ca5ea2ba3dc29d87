"""What devices were promised: counted from the request until heartbeats show that it is over."""

from __future__ import annotations

from fallow_server.scheduling.bookings import Bookings, bookable_bps
from hypothesis import given
from hypothesis import strategies as st


def test_a_request_counts_until_a_heartbeat_shows_that_it_is_over() -> None:
    bookings = Bookings()
    bookings.book("d", 3_000)
    assert bookings.booked("d") == (3_000, 1)
    # The consumer may not have connected yet.
    bookings.heard("d", 0)
    assert bookings.booked("d") == (3_000, 0)
    bookings.heard("d", 0)
    assert bookings.booked("d") == (0, 0)


def test_the_oldest_is_over_first() -> None:
    bookings = Bookings()
    for bps in (1, 20, 300):
        bookings.book("d", bps)
    bookings.heard("d", 3)
    bookings.heard("d", 2)
    assert bookings.booked("d") == (320, 0)
    bookings.book("d", 4_000)
    assert bookings.booked("d") == (4_320, 1)
    bookings.heard("d", 1)
    assert bookings.booked("d") == (4_000, 0)


def test_a_device_that_leaves_is_promised_nothing() -> None:
    bookings = Bookings()
    bookings.book("d", 5)
    bookings.forget("d")
    bookings.heard("d", 7)
    assert bookings.booked("d") == (0, 0)


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
            bookings.heard("d", -step)
            rates = rates[max(0, len(rates) - max(-step, fresh)) :]
            fresh = 0
        assert bookings.booked("d") == (sum(rates), fresh)


def test_what_is_idle_now_counts_as_much_as_what_is_foreseen() -> None:
    assert bookable_bps(10_000_000, 6_000_000) == 5_600_000
    # A forecast promises nothing that is not idle.
    assert bookable_bps(6_000_000, 10_000_000) == bookable_bps(6_000_000, 6_000_000) == 4_200_000
    assert bookable_bps(0, 10_000_000) == 0
