"""Windows without sharing: when they come, and what they compare."""

from __future__ import annotations

from fallow_agent.line.contrast import INTERVAL_S, SETTLE_S, WINDOW_S, Contrast, Seen
from hypothesis import given
from hypothesis import strategies as st

LINE = 20_000_000
SHARING, IDLE, YIELDING = Seen(10_000_000, LINE, False), Seen(0, LINE, False), Seen(10_000_000, LINE, True)


class Played:
    """Steps of 100 ms; round trips of 25 ms while we send and of 20 ms while we do not."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.contrast = Contrast()
        self.silent_s = 0.0
        self.found: list[tuple[float, float]] = []

    def pass_(self, seconds: float, seen: Seen = SHARING) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            rtt_ms = 20.0 if self.contrast.silent else 25.0
            step = Seen(seen.own_bps, seen.capacity_bps, seen.yielding, (rtt_ms,))
            self.contrast = self.contrast.after(self.now, step, lambda: 0.5)
            self.silent_s += 0.1 * self.contrast.silent
            if self.contrast.found is not None:
                self.found.append(self.contrast.found)


def test_a_window_comes_once_in_the_interval_and_compares_medians() -> None:
    played = Played()
    played.pass_(INTERVAL_S - 1)
    assert played.silent_s == 0
    played.pass_(WINDOW_S + SETTLE_S + WINDOW_S + 2)
    assert played.found == [(25.0, 20.0)]
    assert abs(played.silent_s - SETTLE_S - WINDOW_S) < 0.2
    assert not played.contrast.silent


def test_a_line_that_is_not_shared_has_nothing_to_compare() -> None:
    played = Played()
    played.pass_(3 * INTERVAL_S, IDLE)
    assert (played.silent_s, played.found) == (0, [])
    played.pass_(WINDOW_S + SETTLE_S + WINDOW_S + 1)
    assert len(played.found) == 1


def test_a_yield_gives_the_window_up() -> None:
    played = Played()
    played.pass_(INTERVAL_S + WINDOW_S + SETTLE_S + 0.5)
    assert played.contrast.silent
    played.pass_(0.1, YIELDING)
    assert not played.contrast.silent
    played.pass_(60)
    assert played.found == []


def test_the_first_round_trips_of_silence_are_not_counted() -> None:
    contrast = Contrast(due_at=0.0)
    for step in range(100):
        # What is queued drains for half a second.
        rtt_ms = 25.0 if not contrast.silent or step * 0.1 - (contrast.silent_since or 0) <= SETTLE_S else 20.0
        contrast = contrast.after(step * 0.1, Seen(LINE, LINE, False, (rtt_ms,)), lambda: 0.0)
        if contrast.found is not None:
            assert contrast.found == (25.0, 20.0)
            return
    raise AssertionError("no window ended")


def test_without_round_trips_nothing_is_found_and_the_line_is_given_back() -> None:
    contrast = Contrast(due_at=0.0)
    for step in range(60):
        contrast = contrast.after(step * 0.1, SHARING, lambda: 0.0)
        assert contrast.found is None
    assert not contrast.silent


@given(st.lists(st.tuples(st.floats(0, 700), st.sampled_from((SHARING, IDLE, YIELDING))), max_size=80))
def test_silence_never_lasts(past: list[tuple[float, Seen]]) -> None:
    now, contrast = 0.0, Contrast()
    for elapsed, seen in past:
        now += elapsed
        contrast = contrast.after(now, seen, lambda: 0.0)
        if contrast.silent_since is not None:
            assert now - contrast.silent_since < SETTLE_S + WINDOW_S
