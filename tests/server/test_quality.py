"""Quality: what consumers measured counts, one vote each, for later tickets only; and anyone can compute it again."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fallow_client.audit.run import audit
from fallow_wire.batches import BatchItem
from fallow_wire.ids import uuid7
from fallow_wire.jws import Kind, sign
from fallow_wire.tariff import DAY_S, DELIVERED_S_MAX, GIB, LegacyCaps, QualityStep, Tariff, delivered_at, delivered_of
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import CONSUMER, MIB, OWNER, SCHEDULER, World, in_world
from support import make_receipt, signed_ticket

POINT = 1_000_000
PROMISED_BPS = 1_000_000
TARIFF = Tariff(1, 0, {}, {}, LegacyCaps(0, 0), None, (QualityStep(500, 1000), QualityStep(0, 800)))
Measured = dict[str, tuple[int, int]]


def told(shares: list[int]) -> Measured:
    """Consumers who measured so many ‰ of what was promised."""
    return {f"c{n}": (share * 125, 10**9) for n, share in enumerate(shares)}


@given(st.lists(st.integers(0, 5000), min_size=5, max_size=40), st.data())
def test_liars_need_to_be_as_many_as_the_others(honest: list[int], data: st.DataObject) -> None:
    """Fewer liars than honest consumers move the result no further than what an honest one measured."""
    lies = data.draw(st.lists(st.integers(0, 10_000), max_size=len(honest) - 1))
    found = delivered_of(told(honest + lies))
    assert found is not None
    assert min(honest) <= found <= max(honest)


def test_few_consumers_say_nothing() -> None:
    assert delivered_of(told([900] * 4)) is None
    assert delivered_of(told([900] * 5)) == 900
    assert TARIFF.quality_of(None) == 1000


@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_quality_is_bounded_and_rises_with_what_was_delivered(less: int, more: int) -> None:
    less, more = sorted((less, more))
    assert 800 <= TARIFF.quality_of(less) <= TARIFF.quality_of(more) <= 1000


def test_what_was_measured_counts_from_its_time_on_and_is_forgotten() -> None:
    known = [(300, 7), (200, 8)]
    assert [delivered_at(known, at) for at in (199, 200, 299, 300, 300 + DELIVERED_S_MAX - 1)] == [None, 8, 8, 7, 7]
    assert delivered_at(known, 300 + DELIVERED_S_MAX) is None


def served(world: World, consumer: str, share: int, size: int = MIB, **changes: Any) -> BatchItem:
    """A ticket of a consumer who got ``share`` ‰ of the promised rate."""
    jti = uuid7(world.clock.now_ms(), random.randbytes(10))
    ticket = world.ticket(jti=jti, sub=consumer, bps=PROMISED_BPS, max_bytes=GIB, **changes)
    taken_ms = size * 8 * 1000 * 1000 // (share * PROMISED_BPS)
    receipt = sign(Kind.RECEIPT, make_receipt(ticket, size=size, ms=taken_ms), CONSUMER)
    return BatchItem(signed_ticket(ticket, SCHEDULER), size, 1000, 0, 1, receipt)


async def a_slow_day(world: World) -> None:
    """Six consumers, one of them under two regions' names, got a fifth of what was promised; then the ledger looks."""
    items = [served(world, f"c{n % 6}.{'ab'[n // 6]}", 200) for n in range(7)]
    await world.prove(*items)
    world.clock.time += 4 * DAY_S
    await world.service.sweep()


def test_a_slow_device_earns_less_for_later_tickets(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        before = served(world, "x", 200, GIB // 100)
        await a_slow_day(world)
        await world.reserve(10**7)
        soon = served(world, "y", 2000, GIB // 100)
        world.clock.time += 3600
        await world.restart()
        await world.service.sweep()  # looks again, and makes nothing twice
        await world.reserve(10**7)
        later = served(world, "z", 2000, GIB // 100)
        told = (await world.prove(before, soon, later)).items
        assert [one.reason for one in told] == ["too-old", None, None]
        assert [one.micro_points for one in told] == [0, POINT // 100 - 1, POINT * 8 // 1000 - 1]
        shown = await world.good("GET", f"/v1/settlements/{told[2].jti}", OWNER)
        assert (shown["delivered"], shown["bps"], shown["factors"]["quality"]) == (200, PROMISED_BPS, 800)
        await world.reconciled()
        if world.database.is_sqlite:
            report = audit(world.directory / "ledger.sqlite")
            assert report.differences == []

    in_world(tmp_path, script)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("delivered = 900", "delivered"),
        ("consumers = 7", "consumers"),
        ("valid_from = valid_from - 400000", "made of a complete day"),
    ],
)
def test_an_audit_finds_a_changed_measurement(tmp_path: Path, change: str, what: str) -> None:
    async def script(world: World) -> None:
        await a_slow_day(world)
        if not world.database.is_sqlite:
            pytest.skip("the audit reads SQLite files")

    in_world(tmp_path, script)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        database.execute("DROP TRIGGER deliveries_no_update")
        database.execute(f"UPDATE deliveries SET {change}")
    report = audit(tmp_path / "ledger.sqlite")
    assert ("deliveries", what) in {(one.table, one.what) for one in report.differences}
