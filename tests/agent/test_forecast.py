"""The forecast: what it learns, what it survives, and that it never promises more than the line has."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fallow_agent.line.capacity import ROUTER, LineConfig, capacity_of
from fallow_agent.line.forecast import HOUR_S, MARGIN_MAX, MARGIN_MIN, SLOTS, USE_BPS_MAX, Forecast, from_json
from fallow_agent.line.household import Household
from fallow_agent.line.meter import Meter
from fallow_agent.line.reader import LineReader, hour_of_week
from hypothesis import given, settings
from hypothesis import strategies as st

MONDAY = 1_767_571_200
"""2026-01-05 00:00 UTC."""
WEEK = SLOTS * HOUR_S
STATE_BYTES_MAX = 4096


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The rule itself, so that no time zone files are needed.
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def slot_of(at_s: int) -> int:
    return (at_s - MONDAY) // HOUR_S % SLOTS


def slots_from(at_s: int) -> list[int]:
    return [slot_of(at_s + ahead * HOUR_S) for ahead in range(24)]


def with_hour(forecast: Forecast, hour: int, use_bps: int) -> Forecast:
    """Two readings, of equal use, in the hour so many after Monday."""
    for minute in (1, 59):
        at_s = MONDAY + hour * HOUR_S + minute * 60
        forecast = forecast.after(at_s, slot_of(at_s), use_bps)
    return forecast


def learnt(uses_bps: list[int]) -> Forecast:
    forecast = Forecast()
    for hour, use_bps in enumerate(uses_bps):
        forecast = with_hour(forecast, hour, use_bps)
    return forecast


def coming(forecast: Forecast, hour: int, usable_bps: int = 10_000_000, use_bps: int = 0) -> tuple[int, ...]:
    at_s = MONDAY + hour * HOUR_S
    return forecast.coming(at_s, slots_from(at_s), usable_bps, use_bps)


def test_before_the_first_hour_is_over_the_present_stands_for_all() -> None:
    assert coming(Forecast(), 0, use_bps=4_000_000) == (6_000_000,) * 24
    assert coming(Forecast(), 0, use_bps=40_000_000) == (0,) * 24
    under_way = Forecast().after(MONDAY, 0, 5)
    assert coming(under_way, 0, use_bps=4_000_000) == (6_000_000,) * 24


def test_a_busy_evening_is_foreseen_after_two_days_and_a_busy_sunday_after_weeks() -> None:
    use = [4_000_000 if hour % 24 == 20 or hour == 6 * 24 + 10 else 1_000 for hour in range(SLOTS)]
    tuesday = learnt(use[:48])
    assert min(range(24), key=lambda ahead: coming(tuesday, 48)[ahead]) == 20
    later = learnt(use * 6)
    sunday = coming(later, 6 * SLOTS + 6 * 24)
    saturday = coming(later, 6 * SLOTS + 5 * 24)
    assert sunday[10] < saturday[10] - 500_000
    assert sunday[20] == pytest.approx(6_000_000, abs=700_000)
    assert sunday[3] > 9_000_000


def test_nine_hours_in_ten_are_under_the_bound() -> None:
    drawn = random.Random(5)
    forecast, covered, judged = Forecast(), 0, 0
    for hour in range(9 * SLOTS):
        use = int(10**6 * (1 + hour % 24 / 8) * drawn.lognormvariate(0, 0.8))
        if hour > SLOTS:
            judged += 1
            covered += 10**9 - coming(forecast, hour, 10**9)[0] >= use
        forecast = with_hour(forecast, hour, use)
    assert 0.88 <= covered / judged <= 0.92


def test_what_lasts_is_carried_into_the_next_hours_and_forgotten_after_a_gap() -> None:
    drawn, uses, excess = random.Random(7), [], 0.0
    for _ in range(4 * SLOTS):
        excess = 0.8 * excess + drawn.gauss(0, 300_000)
        uses.append(max(0, int(3_000_000 + excess)))
    calm, excited = learnt([*uses, 3_000_000, 0]), learnt([*uses, 6_000_000, 0])  # the last one is under way
    hour = len(uses) + 1
    assert coming(excited, hour)[0] < coming(calm, hour)[0] - 1_000_000
    assert abs(coming(excited, hour)[16] - coming(calm, hour)[16]) < 200_000
    days_later = hour + SLOTS
    assert abs(coming(excited, days_later)[0] - coming(calm, days_later)[0]) < 200_000


def test_a_changed_household_is_followed() -> None:
    forecast = learnt([8_000_000] * (4 * SLOTS) + [1_000_000] * (3 * SLOTS))
    assert min(coming(forecast, 7 * SLOTS)) > 8_000_000


def test_an_hour_that_was_hardly_read_teaches_nothing() -> None:
    forecast = Forecast().after(MONDAY, 0, 9).after(MONDAY + 599, 0, 9).after(MONDAY + HOUR_S, 1, 9)
    assert forecast.history == Forecast().history
    forecast = Forecast().after(MONDAY, 0, 9).after(MONDAY + 600, 0, 9).after(MONDAY + HOUR_S, 1, 9)
    assert forecast.history.slot_bps[0] == 9


def test_the_hour_that_is_repeated_when_summer_ends_is_two_hours(berlin: None) -> None:
    two_in_summer = 1_792_886_400  # 2026-10-25 02:00 CEST
    slots = [hour_of_week(two_in_summer + ahead * HOUR_S) for ahead in range(-1, 3)]
    assert slots == [6 * 24 + 1, 6 * 24 + 2, 6 * 24 + 2, 6 * 24 + 3]
    forecast = Forecast()
    for at_s in range(two_in_summer, two_in_summer + 3 * HOUR_S, 60):
        forecast = forecast.after(at_s, hour_of_week(at_s), 3_000_000)
    assert forecast.history.slot_seen[6 * 24 + 2] == 2
    assert sum(forecast.history.slot_seen) == 2


def test_the_hour_that_is_skipped_when_summer_begins_is_not_reported(tmp_path: Path, berlin: None) -> None:
    one = 1_774_742_400  # 2026-03-29 01:00 CET
    assert [hour_of_week(one), hour_of_week(one + HOUR_S)] == [6 * 24 + 1, 6 * 24 + 3]
    forecast = Forecast()
    for at_s in range(one - 2 * WEEK, one, 1800):
        busy = hour_of_week(at_s) % 24 == 3
        forecast = forecast.after(at_s, hour_of_week(at_s), 5_000_000 if busy else 0)
    missing = tmp_path / "missing"
    meter = Meter("eth0", missing, missing, missing)
    reader = LineReader(
        lambda: capacity_of(LineConfig(up_mbps=10)),
        Household(meter, ROUTER),
        lambda: (0, 0),
        forecast=forecast.as_json(),
    )
    reported = reader.coming(one)
    assert len(reported) == 24
    assert min(range(24), key=lambda ahead: reported[ahead]) == 1
    reader.close()


uses = st.integers(-1, 10**12) | st.sampled_from([0, 1_000_000])
steps = st.sampled_from([1, 60, 900, 1800, HOUR_S, 2 * HOUR_S, 30 * HOUR_S, 9 * WEEK, 0, -1, -HOUR_S, -WEEK])
shifts = st.sampled_from([-1, 1])
"""What summer time does to the local hour."""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(steps, uses, st.none() | shifts | st.just("restart")), max_size=120),
    st.integers(0, 10**10),
    st.integers(0, 10**11),
)
def test_whatever_happens_24_sane_values_remain(
    events: list[tuple[int, int, int | str | None]], usable_bps: int, use_bps: int
) -> None:
    forecast, at_s, shift = Forecast(), MONDAY + 5 * WEEK, 0
    for step, use, happening in events:
        at_s += step
        if isinstance(happening, int):
            shift = max(-2, min(2, shift + happening))
        slot = (slot_of(at_s) + shift) % SLOTS
        forecast = forecast.after(at_s, slot, use)
        if happening == "restart":
            stored = json.dumps(forecast.as_json())
            assert from_json(json.loads(stored)) == forecast
            forecast = from_json(json.loads(stored))
    for asked_at_s in (at_s, at_s - 3 * HOUR_S, at_s + 5 * WEEK):
        found = forecast.coming(asked_at_s, slots_from(asked_at_s), usable_bps, use_bps)
        assert len(found) == 24
        assert all(type(value) is int and 0 <= value <= usable_bps for value in found)
    history = forecast.history
    assert MARGIN_MIN <= history.margin <= MARGIN_MAX
    assert 0 <= history.mean_bps <= USE_BPS_MAX
    assert 0 <= history.spread_bps <= USE_BPS_MAX
    assert len(json.dumps(forecast.as_json(), separators=(",", ":"))) <= STATE_BYTES_MAX


def test_the_largest_state_fits() -> None:
    forecast = learnt([USE_BPS_MAX - hour % 2 for hour in range(2 * SLOTS)])
    stored = json.dumps(forecast.as_json(), separators=(",", ":"))
    assert 2048 <= len(stored) <= STATE_BYTES_MAX
    assert from_json(json.loads(stored)) == forecast


WHOLE = learnt([1_000_000] * 30).as_json()
DAMAGED = {
    "nothing": None,
    "the first form": [1] * 24,
    "text": "x" * 24,
    "empty": {},
    "another version": {**WHOLE, "version": 3},
    "too few slots": {**WHOLE, "slots": [1] * 167},
    "a negative rate": {**WHOLE, "slots": [-1] * 168},
    "a fraction": {**WHOLE, "groups": [1.5] * 48},
    "a truth value": {**WHOLE, "groups": [True] * 48},
    "no digits": {**WHOLE, "slots_seen": "²" * 168},
    "not a number": {**WHOLE, "sums": [float("nan"), 1.0]},
    "an endless margin": {**WHOLE, "margin": float("inf")},
    "no margin": {**WHOLE, "margin": None},
    "an hour without readings": {**WHOLE, "hour": [1, 0, 0, 0, 0]},
    "an hour of no week": {**WHOLE, "hour": [168, 0, 0, 0, 1]},
    "an hour beyond all rates": {**WHOLE, "hour": [1, 0, 0, USE_BPS_MAX + 1, 1]},
}


@pytest.mark.parametrize("stored", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_forecast_is_forgotten(stored: object) -> None:
    assert from_json(stored) == Forecast()
