"""What the benches of homes make of their recordings: made-up rows in, figures out."""

from __future__ import annotations

import pytest
from homelab import order
from lab.delay import added_ms
from lab.loads import FRAME_PACKETS, next_due
from lab.measure import (
    LOST_MS,
    Counters,
    Frames,
    Probes,
    Records,
    Window,
    nearest_rank,
    read_frames,
    read_gateway,
    read_probes,
)

STEP_S = 0.01


def counters(*stretches: tuple[float, float, float]) -> Counters:
    """From time 0: seconds, our rate and the household's in Mbit/s, one stretch after another."""
    rows, own, household = [(0.0, 0, 0)], 0.0, 0.0
    for seconds, own_mbps, household_mbps in stretches:
        for _ in range(round(seconds / STEP_S)):
            own += own_mbps * 1e6 / 8 * STEP_S
            household += household_mbps * 1e6 / 8 * STEP_S
            rows.append((len(rows) * STEP_S, round(own), round(household)))
    return Counters(rows)


def records(sent: Counters, *windows: Window) -> Records:
    return Records(windows, sent, sent, Probes((), ()), Frames((), ()), [])


def test_rates_are_those_of_the_stretch() -> None:
    found = counters((1, 16, 0), (1, 2, 18))
    assert found.own_mbps(0.2, 0.8) == pytest.approx(16)
    assert found.household_mbps(1.2, 1.8) == pytest.approx(18)
    assert found.own_mbps(0.5, 1.5) == pytest.approx(9, rel=0.01)


def test_a_yield_is_the_time_until_the_rate_stays_low() -> None:
    found = counters((1, 16, 0), (0.15, 16, 5), (0.03, 0, 10), (0.05, 16, 10), (2, 1, 19))
    # The gap of 30 ms is no yield: over 100 ms the rate is still high.
    assert found.yield_ms(1.0, 3.0, 2.0) == pytest.approx(220, abs=15)


def test_who_never_yields_counts_with_the_whole_upload() -> None:
    assert counters((5, 16, 4)).yield_ms(1.0, 3.0, 2.0) == pytest.approx(2000)


def test_falls_are_counted_once_each_and_not_from_low_rates() -> None:
    found = counters((1, 16, 0), (1, 1, 19), (1, 16, 0), (1, 1, 19), (1, 4, 0), (1, 1, 19))
    assert found.falls(0, 6, 6.0, 2.0) == pytest.approx([1.0, 3.0], abs=0.02)


def test_own_traffic_is_what_left_the_gateway_and_did_not_come_from_the_house() -> None:
    found = read_gateway("1.0 1000 0\n2.0 5000 1000\n")
    assert (found.own, found.household) == ([1000, 4000], [0, 1000])


def test_an_onset_without_own_traffic_is_not_counted() -> None:
    sent = counters((2, 0, 0), (2, 0, 20), (2, 16, 0), (2, 1, 19))
    uploads = (Window("fallow", "bulk", 2, 4), Window("fallow", "bulk", 6, 8))
    assert len(records(sent, *uploads).yields_ms("fallow", 6.0, 2.0)) == 1


def test_a_ratio_is_taken_with_the_nearest_upload_without_sharing() -> None:
    sent = counters((2, 0, 20), (2, 10, 10), (2, 0, 0), (2, 0, 16), (2, 8, 8))
    windows = (
        Window("none", "bulk", 0, 2),
        Window("cap50", "bulk", 2, 4),
        Window("none", "bulk", 6, 8),
        Window("cap50", "bulk", 8, 10),
    )
    assert records(sent, *windows).household_ratios("cap50") == pytest.approx([0.5, 0.5], rel=0.02)


def test_a_probe_that_does_not_come_back_counts_as_lost() -> None:
    found = read_probes("s 0 1.000\ns 1 1.050\nr 1 1.072\n")
    assert found.rtt_ms == pytest.approx((LOST_MS, 22))
    assert found.within(Window("none", "call", 1.04, 2)) == pytest.approx([22])


def test_a_frame_is_late_when_its_last_packet_is_late_or_missing() -> None:
    arrivals = {1: [0.11] * FRAME_PACKETS, 2: [0.13] * (FRAME_PACKETS - 1) + [0.2], 3: [0.15] * (FRAME_PACKETS - 1)}
    heard = "\n".join(f"{n} {part} 0.0 {at}" for n, all_of_it in arrivals.items() for part, at in enumerate(all_of_it))
    found = read_frames("1 0.08\n2 0.09\n3 0.1\n4 0.12", heard)
    assert found.late == (False, True, True, True)


def test_the_95th_percentile_of_few_values_is_the_highest() -> None:
    assert nearest_rank([3, 1, 2], 0.95) == 3
    assert nearest_rank(list(range(1, 101)), 0.95) == 95


def test_policies_take_turns_and_each_has_an_upload_without_sharing_beside_it() -> None:
    found = list(order({"fallow": 3, "cubic": 1, "bbr": 1}))
    assert {name: found.count(name) for name in set(found)} == {"fallow": 3, "cubic": 1, "bbr": 1, "none": 3}
    for place, name in enumerate(found):
        assert name == "none" or "none" in found[max(0, place - 1) : place + 2]


def test_the_delay_lines_own_error_is_that_since_the_first_reading() -> None:
    assert added_ms([9, 0, 0], [9, 99, 1], 0.5) == pytest.approx(0.2)
    assert added_ms([9, 0, 0], [9, 99, 1], 0.999) == pytest.approx(0.3)


def test_a_late_step_moves_no_other_and_a_pause_is_not_made_up_for() -> None:
    assert next_due(1.0, 1.01, 0.05) == pytest.approx(1.05)
    assert next_due(1.0, 9.0, 0.05) == pytest.approx(9.05)
