"""Packet trains: what a line of a known rate makes of them, and when they say nothing."""

from __future__ import annotations

import pytest
from fallow_agent.line.train import (
    DAY_S,
    EVERY_S,
    OTHER_SHARE_MAX,
    PACKET_BYTES,
    PACKETS,
    SPACING_S,
    TRAIN_BYTES,
    TRAINS_KEPT,
    TRAINS_MIN,
    TRAINS_PER_DAY_MAX,
    Spoilt,
    Train,
    Trains,
    measured,
)
from hypothesis import given
from hypothesis import strategies as st

MBIT = 1_000_000
RTT_S = 0.012


def through(bps: float, *, burst_bytes: int = 0, send_s: float = 20e-6, late_s: tuple[float, ...] = ()) -> Train:
    """A train through a token bucket. ``late_s``: by how much single stamps are late, the last echo's last."""
    sent_at = [100 + number * send_s for number in range(PACKETS)]
    tokens, free_at, received = float(burst_bytes), 0.0, []
    for at in sent_at:
        if tokens >= PACKET_BYTES and free_at <= at:
            tokens -= PACKET_BYTES
            received.append(at + RTT_S)
            continue
        free_at = max(free_at, at) + (PACKET_BYTES - tokens) * 8 / bps
        tokens = 0.0
        received.append(free_at + RTT_S)
    for number, late in enumerate(late_s, PACKETS - len(late_s)):
        received[number] += late
    return Train(sent_at, received)


@pytest.mark.parametrize("mbps", [1, 5, 20, 100])
@pytest.mark.parametrize("burst_bytes", [0, 5_000, 12_000])
def test_the_rate_of_the_line_is_found(mbps: int, burst_bytes: int) -> None:
    assert measured(through(mbps * MBIT, burst_bytes=burst_bytes)) == pytest.approx(mbps * MBIT, rel=0.02)


@given(st.floats(MBIT, 100 * MBIT), st.lists(st.floats(0, 50e-6), min_size=PACKETS, max_size=PACKETS))
def test_late_stamps_move_it_little(bps: float, late_s: list[float]) -> None:
    found = measured(through(bps, late_s=tuple(late_s)))
    assert isinstance(found, Spoilt) or found == pytest.approx(bps, rel=0.15)


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        (through(1000 * MBIT), "too fast"),
        (through(20 * MBIT, burst_bytes=TRAIN_BYTES), "too fast"),
        (through(5 * MBIT, burst_bytes=14 * PACKET_BYTES), "burst"),
        (through(20 * MBIT, send_s=0.0006), "device sent"),
        (through(20 * MBIT, late_s=(0.003, 0)), "overtook"),
    ],
)
def test_what_cannot_be_told_is_not(train: Train, reason: str) -> None:
    found = measured(train)
    assert isinstance(found, Spoilt)
    assert reason in found.reason


def test_losses_and_others_spoil_a_train() -> None:
    good = through(20 * MBIT)
    lost = Train(good.sent_at, [None, *good.received_at[1:]])
    assert measured(lost) == Spoilt("echoes were lost")
    few = int(OTHER_SHARE_MAX * TRAIN_BYTES)
    assert measured(Train(good.sent_at, good.received_at, few)) == measured(good)
    assert measured(Train(good.sent_at, good.received_at, few + 1)) == Spoilt("others used the line")


def test_the_median_of_enough_trains_counts() -> None:
    trains, now = Trains(), 0.0
    for bps in (20, 20.5, 9, 19.5, 20):
        assert (trains.bps, trains.confidence) == (None, 0)
        trains = trains.after(now, bps * MBIT)
        now += SPACING_S
    assert (trains.bps, trains.confidence) == (20 * MBIT, 0.8)


def test_trains_that_disagree_say_nothing() -> None:
    trains = Trains()
    for number, bps in enumerate((5, 20, 40, 80, 100)):
        trains = trains.after(number, bps * MBIT)
    assert trains.bps is None
    assert 0 < trains.confidence < 0.5


def test_a_spoilt_train_costs_but_changes_nothing() -> None:
    trains = Trains((20.0 * MBIT,) * TRAINS_MIN, (0.0,)).after(5, Spoilt("others used the line"))
    assert (trains.bps, trains.spoilt, len(trains.sent_at)) == (20 * MBIT, "others used the line", 2)
    assert trains.after(6, 20.0 * MBIT).spoilt == ""


def test_trains_are_few() -> None:
    trains = Trains()
    assert trains.due(0)
    trains = trains.after(0, 20.0 * MBIT)
    assert not trains.due(SPACING_S - 1)
    assert trains.due(SPACING_S)
    for number in range(1, TRAINS_MIN):
        trains = trains.after(number * SPACING_S, 20.0 * MBIT)
    last = (TRAINS_MIN - 1) * SPACING_S
    assert not trains.due(last + EVERY_S - 1)
    assert trains.due(last + EVERY_S)


@given(st.lists(st.tuples(st.floats(0, 5000), st.booleans()), max_size=200))
def test_a_day_has_its_cap(steps: list[tuple[float, bool]]) -> None:
    trains, now, sent = Trains(), 0.0, []
    for elapsed, good in steps:
        now += elapsed
        if trains.due(now):
            trains = trains.after(now, 20.0 * MBIT if good else Spoilt("echoes were lost"))
            sent.append(now)
        assert sum(now - at < DAY_S for at in sent) <= TRAINS_PER_DAY_MAX
        assert len(trains.results) <= TRAINS_KEPT
        assert len(trains.sent_at) <= TRAINS_PER_DAY_MAX
