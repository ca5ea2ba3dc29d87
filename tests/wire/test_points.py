"""The points formula and the caps on paid bytes."""

from __future__ import annotations

from fallow_wire.fields import decode, encode
from fallow_wire.tariff import GIB, Factors, LegacyCaps, Tariff, paid_bytes
from fallow_wire.tickets import unacknowledged_bytes_max
from hypothesis import given
from hypothesis import strategies as st

sizes = st.integers(0, 2**45)
factors = st.integers(0, 10_000)


def test_one_gib_at_face_value_pays_the_rate() -> None:
    assert Factors(GIB, 1_000_000, 1000, 1000, 1000).micro_points() == 1_000_000
    assert Factors(GIB, 1_000_000, 1000, 1000, 500).micro_points() == 500_000
    assert Factors(GIB - 1, 1_000_000, 1000, 1000, 1000).micro_points() == 999_999


@given(sizes, sizes, st.integers(0, 10**12), factors, factors, factors)
def test_splitting_never_gains_and_more_bytes_never_pay_less(
    a: int, b: int, rate: int, quality: int, scarcity: int, weight: int
) -> None:
    def points(size: int) -> int:
        return Factors(size, rate, quality, scarcity, weight).micro_points()

    assert points(a) + points(b) <= points(a + b)


@given(sizes, sizes, st.none() | sizes)
def test_the_least_is_paid(claimed: int, allowed: int, confirmed: int | None) -> None:
    paid = paid_bytes(claimed, allowed, confirmed)
    assert paid in {claimed, allowed, confirmed}
    assert paid <= min(claimed, allowed)
    assert confirmed is None or paid <= confirmed


def test_a_tariff_is_named_by_its_content() -> None:
    tariff = Tariff(1, 0, {"object": 5}, {"legacy": 500, "countersigned": 1000}, LegacyCaps(1, 2))
    again = decode(Tariff, encode(tariff), strict=True)
    assert again == tariff
    assert again.tariff_id() == tariff.tariff_id()
    assert Tariff(2, 0, {"object": 5}, {}, LegacyCaps(1, 2)).tariff_id() != tariff.tariff_id()


def test_the_window_grows_from_two_mib_to_sixteen() -> None:
    mib = 2**20
    assert unacknowledged_bytes_max(0) == 2 * mib
    assert unacknowledged_bytes_max(32 * mib) == 8 * mib
    assert unacknowledged_bytes_max(10**12) == 16 * mib
