"""The token bucket of new connections: scripts of arrivals."""

from __future__ import annotations

from fallow_agent.edge.arrivals import NEW_CONNECTIONS_BURST, NEW_CONNECTIONS_PER_S, Arrivals
from hypothesis import given
from hypothesis import strategies as st


def taken(arrivals: Arrivals, now: float, count: int) -> int:
    return sum(arrivals.take(now) for _ in range(count))


def test_a_burst_is_taken_and_then_so_many_a_second() -> None:
    arrivals = Arrivals(100.0)
    assert taken(arrivals, 100.0, 500) == NEW_CONNECTIONS_BURST
    assert taken(arrivals, 100.05, 5) == 0
    assert taken(arrivals, 101.05, 500) == NEW_CONNECTIONS_PER_S
    assert taken(arrivals, 1000.0, 500) == NEW_CONNECTIONS_BURST


def test_a_clock_that_goes_back_gives_nothing() -> None:
    arrivals = Arrivals(100.0, 1, 1)
    assert arrivals.take(100.0)
    assert not arrivals.take(50.0)
    assert arrivals.take(51.0)


@given(st.lists(st.floats(0, 5), max_size=300), st.floats(0.5, 20), st.integers(1, 20))
def test_no_span_of_time_holds_more_than_the_burst_and_the_rate(waits: list[float], per_s: float, burst: int) -> None:
    now, arrivals, times = 0.0, Arrivals(0.0, per_s, burst), []
    for wait in waits:
        now += wait
        if arrivals.take(now):
            times.append(now)
    for first, start in enumerate(times):
        for count, end in enumerate(times[first:], 1):
            assert count <= burst + (end - start) * per_s + 1e-6
