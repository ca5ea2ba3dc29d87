"""Verification without any I/O: the order of checks, the edges of time, the price."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fallow_server.ledger.verification import (
    Admission,
    Booking,
    DeviceChain,
    Known,
    OutOfOrder,
    Refused,
    Settled,
    Term,
    Verified,
    expect_next,
    verify_item,
)
from fallow_wire.batches import FIRST_PREV, REASONS, Batch, BatchItem
from fallow_wire.jws import Kind, sign
from fallow_wire.tariff import LegacyCaps, Tariff
from fallow_wire.tickets import Ticket
from hypothesis import given, settings
from hypothesis import strategies as st
from support import NOW, key, make_receipt, make_ticket, signed_ticket

SCHEDULER, DEVICE, CONSUMER = key(1), key(2), key(3)
TARIFF = Tariff(
    1, NOW - 10**6, {"object": 10**6}, {"countersigned": 1000, "legacy": 500}, LegacyCaps(100 * 2**20, 100 * 2**20)
)
KNOWN = Known(
    "http://ledger.test",
    {("http://scheduler.test", SCHEDULER.public.thumbprint()): SCHEDULER.public},
    {TARIFF.tariff_id(): Term(TARIFF, None)},
)
DID = DEVICE.public.device_id()


def ticket(legacy: bool = False, **changes: Any) -> Ticket:
    return make_ticket(DEVICE, None if legacy else CONSUMER, **{"tariff": TARIFF.tariff_id(), **changes})


def item(of: Ticket | None = None, /, **changes: Any) -> BatchItem:
    of = of or ticket()
    receipt = sign(Kind.RECEIPT, make_receipt(of), CONSUMER) if of.cnf else None
    fields = {"ticket": signed_ticket(of, SCHEDULER), "bytes": 2**20, "ms": 1, "started_at": 0, "ended_at": 0}
    return BatchItem(**{**fields, "receipt": receipt, **changes})


def verify(one: BatchItem, now: int = NOW, known: Known = KNOWN) -> Verified | Refused:
    return verify_item(one, DID, known, now)


def reason(one: BatchItem, now: int = NOW) -> str | None:
    found = verify(one, now)
    return found.reason if isinstance(found, Refused) else None


def test_every_check_comes_in_its_order() -> None:
    """Each item is wrong in everything from some check on; the earliest one names the reason."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("wrong-device", {"aud": key(9).public.device_id()}),
        ("wrong-ledger", {"ledger": "http://other"}),
        ("unknown-key", {}),
        ("not-yet-valid", {"iat": NOW + 100, "nbf": NOW + 100, "exp": NOW + 100}),
        ("unknown-tariff", {"tariff": "e" * 64}),
    ]
    for place, (expected, _) in enumerate(wrong):
        changes = {name: value for _, change in wrong[place:] for name, value in change.items()}
        signer = key(7) if place <= 2 else SCHEDULER
        one = item(ticket(**changes), ticket=sign(Kind.TICKET, ticket(**changes), signer), receipt=None)
        assert reason(one) == expected
    forged = sign(Kind.TICKET, ticket(), key(7), kid=SCHEDULER.public.thumbprint())
    assert reason(item(ticket=forged, receipt=None)) == "receipt-missing"
    assert reason(item(ticket=forged, receipt="x")) == "bad-ticket"
    assert reason(item(receipt="x")) == "malformed"
    assert reason(item(ticket="x", receipt="x")) == "malformed"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW - 61, "not-yet-valid"),
        (NOW - 60, None),
        (NOW, None),
        (NOW + 48 * 3600, None),
        (NOW + 48 * 3600 + 1, "too-old"),
        (0, "not-yet-valid"),
    ],
)
def test_only_the_ledgers_clock_decides(now: int, expected: str | None) -> None:
    one = item(started_at=0, ended_at=2**53 - 1, ms=0)  # what the device tells of time changes nothing
    assert reason(one, now) == expected


def test_each_byte_of_a_signed_thing_counts() -> None:
    good = item()
    assert isinstance(verify(good), Verified)
    assert good.receipt is not None
    for name in ("ticket", "receipt"):
        token: str = getattr(good, name)
        for place in range(0, len(token), 7):
            other = "A" if token[place] != "A" else "B"
            changed = replace(good, **{name: token[:place] + other + token[place + 1 :]})
            assert isinstance(verify(changed), Refused), (name, place)


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=100)
def test_noise_is_refused_with_a_known_reason(first: bytes, second: bytes) -> None:
    texts = first.decode("latin-1"), second.decode("latin-1")
    assert reason(item(ticket=texts[0] or "x", receipt=texts[1] or "x")) in REASONS
    assert reason(item(receipt=texts[1] or "x")) in REASONS


def test_a_weak_consumer_key_confirms_nothing() -> None:
    from fallow_wire.encoding import base64url
    from fallow_wire.keys import Jwk
    from fallow_wire.tickets import Confirmation

    weak = Confirmation(Jwk("OKP", "Ed25519", base64url(bytes(32))))
    assert reason(item(replace(ticket(), cnf=weak))) == "bad-receipt"


SIZES = st.integers(0, 2**53 - 1)


@given(claimed=SIZES, allowed=SIZES, confirmed=SIZES)
@settings(max_examples=50)
def test_paid_is_the_least_of_three_and_never_more(claimed: int, allowed: int, confirmed: int) -> None:
    of = ticket(max_bytes=allowed)
    found = verify(item(of, bytes=claimed, receipt=sign(Kind.RECEIPT, make_receipt(of, size=confirmed), CONSUMER)))
    if confirmed > allowed:
        assert found == Refused("bad-receipt", of.jti)
        return
    assert isinstance(found, Verified)
    assert found.factors.bytes == min(claimed, allowed, confirmed)
    assert found.micro_points == found.factors.bytes * 10**6 * 10**9 // (2**30 * 10**9)


def test_batches_continue_their_chain() -> None:
    first = Batch(DID, 1, FIRST_PREV, (item(),))
    expect_next(first, DeviceChain())
    chain = DeviceChain(3, "a" * 64)
    expect_next(replace(first, seq=4, prev="a" * 64), chain)
    for seq, prev, slug in [
        (5, "a" * 64, "sequence-gap"),
        (2**53 - 1, FIRST_PREV, "sequence-gap"),
        (4, "b" * 64, "chain-fork"),
        (3, "a" * 64, "chain-fork"),
        (1, FIRST_PREV, "chain-fork"),
    ]:
        with pytest.raises(OutOfOrder) as raised:
            expect_next(replace(first, seq=seq, prev=prev), chain)
        assert (raised.value.slug, raised.value.seq, raised.value.prev) == (slug, 4, "a" * 64)


def admission(**changes: Any) -> Admission:
    fields: dict[str, Any] = {
        "device": DID,
        "publishers": frozenset({"publisher-1"}),
        "settled": {},
        "reserved": {("publisher-1", NOW // 3600): 10**9},
        "device_day_bytes": {},
        "publisher_day_bytes": {},
    }
    return Admission(**{**fields, **changes})


def verified(of: Ticket | None = None, **changes: Any) -> Verified:
    found = verify(item(of, **changes))
    assert isinstance(found, Verified)
    return found


def test_admission_pays_a_ticket_once() -> None:
    of = ticket()
    door = admission()
    assert door.admit(verified(of)) == Booking(verified(of))
    assert door.admit(verified(of)) == Settled(verified(of).digest, 976)
    assert door.admit(verified(of, ms=2)) == Refused("conflict", of.jti)
    assert door.reserved == {("publisher-1", NOW // 3600): 10**9 - 976}


def test_a_line_is_paid_for_what_it_was_seen_to_carry_and_never_for_more() -> None:
    size = 2**20
    bps = size * 8 // 3600 + 1
    for seen, most, fits in (
        (bps, 10**9, True),
        (bps - 1, 10**9, False),
        (None, size, True),
        (2 * bps, size - 1, False),
    ):
        of = ticket(line="line", line_bps=seen)
        outcome = admission(line_hour_bytes_max=most).admit(verified(of))
        assert outcome == (Booking(verified(of)) if fits else Refused("line-cap", of.jti))


def test_what_is_refused_uses_up_nothing() -> None:
    door = admission(reserved={("publisher-1", NOW // 3600): 488})
    big = verified(ticket(True, max_bytes=101 * 2**20), bytes=101 * 2**20)
    assert door.admit(big) == Refused("device-cap", big.ticket.jti)
    costly = verified(ticket(True, max_bytes=100 * 2**20), bytes=100 * 2**20)
    assert door.admit(costly) == Refused("escrow-exhausted", costly.ticket.jti)
    assert (door.device_day_bytes, door.publisher_day_bytes, door.settled) == ({}, {}, {})
    small = verified(ticket(True))
    assert (small.micro_points, door.admit(small)) == (488, Booking(small))
    assert door.device_day_bytes == {(DID, NOW // 86_400): 2**20}
