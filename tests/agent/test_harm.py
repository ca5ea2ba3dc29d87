"""The do-no-harm record: what it counts, and that nobody but the device can have written it."""

from __future__ import annotations

import dataclasses

import pytest
from fallow_agent.line.harm import Harm, Step, from_json
from fallow_wire.errors import Malformed, PeerError
from fallow_wire.harm import DAYS_MAX, HarmDay, HarmRecord, verify_harm
from fallow_wire.jws import Kind, sign
from hypothesis import given
from hypothesis import strategies as st
from support import key

DEVICE, OTHER = key(1), key(2)
TODAY = "2026-11-23"


def kept(*steps: Step, day: str = TODAY) -> Harm:
    harm = Harm()
    for step in steps:
        harm = harm.after(day, step)
    return harm


def test_seconds_add_up_from_parts() -> None:
    harm = kept(*[Step(seconds=0.1, shared=True, over_budget=at < 15) for at in range(31)])
    assert harm.days == (HarmDay(TODAY, shared_s=3, over_budget_s=1),)


def test_yields_and_how_long_they_took() -> None:
    harm = kept(Step(yields=1), Step(yield_ms=40), Step(yields=1), Step(yield_ms=120), Step(yields=1))
    (day,) = harm.days
    assert (day.yields, day.yields_timed, day.yield_ms_total, day.yield_ms_max) == (3, 2, 160, 120)
    assert day.yield_ms_mean == 80
    assert HarmDay(TODAY).yield_ms_mean is None


def test_what_sharing_added_is_the_difference_and_may_be_less_than_nothing() -> None:
    harm = kept(Step(comparison=(21.5, 20.0)), Step(comparison=(19.0, 20.0)), Step(comparison=(40.0, 20.0)))
    (day,) = harm.days
    assert (day.comparisons, day.felt) == (3, 1)
    assert day.added_rtt_ms == pytest.approx(20.5 / 3)
    assert HarmDay(TODAY).added_rtt_ms is None


def test_days_follow_each_other_and_a_clock_that_went_back_opens_none() -> None:
    harm = kept(Step(yields=1))
    harm = harm.after("2026-11-24", Step(yields=2)).after("1970-01-01", Step(yields=3))
    assert [(day.day, day.yields) for day in harm.days] == [(TODAY, 1), ("2026-11-24", 5)]


def test_a_month_is_kept() -> None:
    harm = Harm()
    for day in range(100):
        harm = harm.after(f"2026-{day // 28 + 1:02}-{day % 28 + 1:02}", Step(yields=1))
    assert len(harm.days) == DAYS_MAX
    assert len(harm.signed(DEVICE, 1)) <= Kind.HARM.size_max


def test_the_largest_record_fits_its_limit() -> None:
    large = dict.fromkeys((field.name for field in dataclasses.fields(HarmDay) if field.name != "day"), 10**9)
    days = tuple(HarmDay(f"2026-01-{day + 1:02}", **large) for day in range(DAYS_MAX))
    assert verify_harm(Harm(days).signed(DEVICE, 10**10)).value.days == days


def test_the_record_is_the_devices_own() -> None:
    token = kept(Step(yields=1)).signed(DEVICE, 1_800_000_000)
    signed = verify_harm(token)
    assert (signed.value.did, signed.value.iat) == (DEVICE.public.device_id(), 1_800_000_000)
    assert signed.value.days[0].yields == 1


@pytest.mark.parametrize(
    ("jwk", "signer", "kid"), [(OTHER, OTHER, DEVICE), (DEVICE, OTHER, DEVICE), (DEVICE, DEVICE, OTHER)]
)
def test_nobody_else_can_sign_it(jwk: object, signer: object, kid: object) -> None:
    record = HarmRecord(DEVICE.public.device_id(), jwk.public.jwk(), 1, ())  # type: ignore[attr-defined]
    token = sign(Kind.HARM, record, signer, kid=kid.public.device_id())  # type: ignore[arg-type, attr-defined]
    with pytest.raises(PeerError):
        verify_harm(token)


@given(st.lists(st.builds(HarmDay, st.just(TODAY), *[st.integers(0, 2**40)] * 10), max_size=3))
def test_it_is_read_back(days: list[HarmDay]) -> None:
    harm = Harm(tuple(days))
    assert from_json(harm.as_json()) == harm


@pytest.mark.parametrize("stored", [None, {}, "x", [1], [[]], [["x"] + [0] * 10], [[TODAY, *[-1] * 10]]])
def test_a_record_that_cannot_be_read_says_so(stored: object) -> None:
    with pytest.raises(Malformed):
        from_json(stored)
