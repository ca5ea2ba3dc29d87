"""The outbox: each ticket reaches exactly one batch, whatever happens in between, and nothing is lost."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from fallow_agent.proofs.outbox import (
    Outbox,
    OutboxConfig,
    OutboxUnavailable,
    SealedBatch,
    ServedTicket,
)
from fallow_agent.store import open_database
from fallow_wire.batches import FIRST_PREV, Ack, AckItem, Batch, Head, batch_hash
from fallow_wire.errors import LocalError, PeerError
from fallow_wire.ids import uuid7
from fallow_wire.jws import Kind, verify
from fallow_wire.keys import PrivateKey
from fallow_wire.limits import BATCH_BYTES_MAX, BATCH_ITEMS_MAX, PROOF_AGE_S_MAX, RECEIPT_BYTES_MAX, TICKET_BYTES_MAX
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

KEY = PrivateKey(hashlib.sha256(b"device").digest())
DID = KEY.public.device_id()


def connect(path: Path) -> sqlite3.Connection:
    return open_database(path)


def served(number: int, **changes: object) -> ServedTicket:
    jti = uuid7(1_700_000_000_000 + number, hashlib.sha256(number.to_bytes(8, "big")).digest()[:10])
    base = ServedTicket(jti, f"ticket-{number}", True, 10_000, 1_700_000_900, bytes=1000, receipt=f"receipt-{number}")
    return replace(base, **changes)  # type: ignore[arg-type]


def batch_of(sealed: SealedBatch, key: PrivateKey = KEY) -> Batch:
    found = verify(sealed.token, Kind.BATCH, Batch, lambda kid: key.public if kid == key.public.device_id() else None)
    return found.value


def ack_of(sealed: SealedBatch, *items: AckItem) -> Ack:
    booked = items or tuple(AckItem("booked", 5, jti) for jti in sealed.jtis)
    return Ack(sealed.did, sealed.seq, sealed.hash, booked, Head(1, "0" * 64, 0), 0)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(connect(tmp_path / "agent.sqlite"))


def test_a_ticket_goes_its_way_once(outbox: Outbox) -> None:
    first = served(1, spans=((0, 10), (20, 30)), countersigned=False, receipt=None)
    outbox.save(first)
    assert outbox.find(first.jti) == first
    outbox.save(replace(first, bytes=2000, spans=((0, 30),)))
    assert outbox.open_tickets() == [replace(first, bytes=2000, spans=((0, 30),))]
    assert outbox.next_batch(KEY) is None
    assert not outbox.is_spent(first.jti)

    outbox.seal(first.jti)
    outbox.seal(first.jti)
    assert outbox.find(first.jti) is None
    assert outbox.is_spent(first.jti)
    assert outbox.waiting() == 1
    with pytest.raises(LocalError):
        outbox.save(first)

    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    assert batch_of(sealed).items[0].bytes == 2000
    assert (sealed.seq, batch_of(sealed).prev) == (1, FIRST_PREV)
    outbox.acknowledge(ack_of(sealed))
    assert outbox.waiting() == 0
    assert outbox.is_spent(first.jti)
    with pytest.raises(LocalError):
        outbox.save(first)
    outbox.acknowledge(ack_of(sealed))
    assert outbox.next_batch(KEY) is None

    outbox.forget_expired(first.expires_at)
    assert outbox.is_spent(first.jti)
    outbox.forget_expired(first.expires_at + 301)
    assert not outbox.is_spent(first.jti)


def test_nothing_served_is_nothing_to_prove_but_spent(outbox: Outbox) -> None:
    outbox.save(served(1, bytes=0, receipt=None))
    outbox.seal(served(1).jti)
    assert outbox.waiting() == 0
    assert outbox.is_spent(served(1).jti)
    assert outbox.next_batch(KEY) is None


def test_never_claims_more_than_the_ticket_allows(outbox: Outbox) -> None:
    outbox.save(served(1, bytes=10_001))
    outbox.seal(served(1).jti)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    assert batch_of(sealed).items[0].bytes == 10_000


def test_full_outbox_refuses_new_tickets_and_keeps_the_old(tmp_path: Path) -> None:
    outbox = Outbox(connect(tmp_path / "agent.sqlite"), OutboxConfig(tickets_max=2, spent_max=3))
    outbox.save(served(1))
    outbox.save(served(2))
    assert not outbox.has_room()
    with pytest.raises(OutboxUnavailable):
        outbox.save(served(3))
    outbox.save(served(1, bytes=5000))
    outbox.seal(served(1).jti)
    with pytest.raises(OutboxUnavailable):
        outbox.save(served(3))
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    outbox.acknowledge(ack_of(sealed))
    outbox.save(served(3))


def test_spent_tickets_are_bounded_too(tmp_path: Path) -> None:
    outbox = Outbox(connect(tmp_path / "agent.sqlite"), OutboxConfig(spent_max=2))
    for number in (1, 2):
        outbox.save(served(number, bytes=0, receipt=None))
        outbox.seal(served(number).jti)
    with pytest.raises(OutboxUnavailable):
        outbox.save(served(3))
    outbox.forget_expired(served(1).expires_at + 301)
    outbox.save(served(3))


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    connection = connect(tmp_path / "agent.sqlite")
    outbox = Outbox(connection)
    outbox.save(served(1))
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(OutboxUnavailable, match="written"):
        outbox.save(served(2))
    with pytest.raises(OutboxUnavailable, match="written"):
        outbox.seal(served(1).jti)
    connection.execute("PRAGMA query_only = OFF")
    outbox.seal(served(1).jti)
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(OutboxUnavailable, match="written"):
        outbox.next_batch(KEY)
    connection.execute("PRAGMA query_only = OFF")
    assert outbox.next_batch(KEY) is not None
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_batches_stay_under_the_limits(outbox: Outbox) -> None:
    count = BATCH_ITEMS_MAX + 20
    for number in range(count):
        outbox.save(served(number, token="t" * TICKET_BYTES_MAX, receipt="r" * RECEIPT_BYTES_MAX))
        outbox.seal(served(number).jti)
    sizes = []
    prev = FIRST_PREV
    while sealed := outbox.next_batch(KEY):
        assert len(sealed.token) <= BATCH_BYTES_MAX
        assert batch_of(sealed).prev == prev
        prev = batch_hash(sealed.token)
        sizes.append(len(sealed.jtis))
        outbox.acknowledge(ack_of(sealed))
    assert sum(sizes) == count
    assert len(sizes) == 2
    assert sizes[0] > BATCH_ITEMS_MAX // 2


def test_many_small_items_are_cut_at_the_number(outbox: Outbox) -> None:
    for number in range(BATCH_ITEMS_MAX + 1):
        outbox.save(served(number))
        outbox.seal(served(number).jti)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    assert len(sealed.jtis) == BATCH_ITEMS_MAX


def test_an_ack_of_another_batch_is_refused(outbox: Outbox) -> None:
    outbox.save(served(1))
    outbox.seal(served(1).jti)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    with pytest.raises(PeerError):
        outbox.acknowledge(replace(ack_of(sealed), batch="f" * 64))
    outbox.acknowledge(replace(ack_of(sealed), seq=2))
    outbox.acknowledge(replace(ack_of(sealed), did="fd-" + "a" * 24))
    assert outbox.waiting() == 1
    assert outbox.next_batch(KEY) == sealed


def test_refusals_are_counted_by_reason(outbox: Outbox) -> None:
    for number in (1, 2, 3):
        outbox.save(served(number))
        outbox.seal(served(number).jti)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    refused = AckItem("refused", 0, None, "too-old")
    outbox.acknowledge(ack_of(sealed, refused, AckItem("booked", 3), refused))
    assert outbox.refused() == {"too-old": 2}


def test_the_chain_goes_on_where_the_ledger_stands(outbox: Outbox) -> None:
    for number in (1, 2):
        outbox.save(served(number))
    outbox.seal(served(1).jti)
    refused = outbox.next_batch(KEY)
    assert refused is not None
    outbox.seal(served(2).jti)
    outbox.resume_from(DID, 7, "a" * 64)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    assert (sealed.seq, batch_of(sealed).prev) == (7, "a" * 64)
    assert sealed.jtis == (served(1).jti, served(2).jti)


def handed_over(outbox: Outbox, *numbers: int, at: int = 0) -> SealedBatch:
    """One batch of these tickets, acknowledged."""
    for number in numbers:
        outbox.save(served(number))
        outbox.seal(served(number).jti)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    outbox.acknowledge(replace(ack_of(sealed), iat=at))
    return sealed


def test_a_ledger_that_forgot_gets_again_what_it_had_acknowledged(outbox: Outbox) -> None:
    first, *_ = [handed_over(outbox, *numbers) for numbers in ((1, 2), (3,), (4, 5))]
    outbox.save(served(6))
    outbox.seal(served(6).jti)
    waiting = outbox.next_batch(KEY)
    assert waiting is not None
    assert (outbox.waiting(), outbox.kept()) == (1, 5)
    before = {item.ticket: item for item in batch_of(waiting).items}
    outbox.resume_from(DID, 2, first.hash)
    assert (outbox.waiting(), outbox.kept()) == (4, 2)
    again = outbox.next_batch(KEY)
    assert again is not None
    assert (again.seq, batch_of(again).prev) == (2, first.hash)
    assert set(again.jtis) == {served(number).jti for number in (3, 4, 5, 6)}
    # Word for word, or the ledger would take them for something else.
    claims = {item.ticket: item for item in batch_of(again).items}
    assert claims[f"ticket-{6}"] == before[f"ticket-{6}"]
    assert claims["ticket-4"] == served(4).claim()
    outbox.acknowledge(ack_of(again))
    assert (outbox.waiting(), outbox.kept()) == (0, 6)


def test_a_device_that_forgot_hands_over_nothing_twice(outbox: Outbox) -> None:
    handed_over(outbox, 1)
    outbox.resume_from(DID, 9, "a" * 64)
    assert (outbox.waiting(), outbox.kept(), outbox.next_batch(KEY)) == (0, 1, None)


def test_what_was_acknowledged_is_kept_within_bounds(tmp_path: Path) -> None:
    outbox = Outbox(connect(tmp_path / "agent.sqlite"), OutboxConfig(kept_max=3))
    for number in range(1, 6):
        handed_over(outbox, number, at=number)
    assert outbox.kept() == 3
    handed_over(outbox, 6, at=PROOF_AGE_S_MAX + 5)  # what is older than the 5th no ledger would take any more
    assert outbox.kept() == 2
    outbox.forget_kept()
    assert outbox.kept() == 0


def test_what_was_refused_is_not_kept(outbox: Outbox) -> None:
    outbox.save(served(1))
    outbox.seal(served(1).jti)
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    outbox.acknowledge(ack_of(sealed, AckItem("refused", 0, sealed.jtis[0], "too-old")))
    assert outbox.kept() == 0


def test_another_device_key_begins_its_own_chain(outbox: Outbox) -> None:
    outbox.save(served(1))
    outbox.seal(served(1).jti)
    assert outbox.next_batch(KEY) is not None
    other = PrivateKey(hashlib.sha256(b"other").digest())
    sealed = outbox.next_batch(other)
    assert sealed is not None
    assert (sealed.did, sealed.seq) == (other.public.device_id(), 1)
    assert batch_of(sealed, other).prev == FIRST_PREV


SEALER = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_outbox import KEY, Outbox, connect, served
outbox = Outbox(connect(Path(sys.argv[1])))
outbox.save(served(1))
outbox.save(served(2))
outbox.seal(served(1).jti)
sealed = outbox.next_batch(KEY)
os.write(1, sealed.token.encode())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    here = str(Path(__file__).parent)
    died = subprocess.run([sys.executable, "-c", SEALER, str(path), here], capture_output=True, timeout=60, check=False)
    assert died.returncode == -9, died.stderr
    outbox = Outbox(connect(path))
    assert outbox.open_tickets() == [served(2)]
    sealed = outbox.next_batch(KEY)
    assert sealed is not None
    assert sealed.token == died.stdout.decode()
    assert outbox.waiting() == 1


class OutboxMachine(RuleBasedStateMachine):
    """Any order of saving, sealing, batching, acknowledging and dying."""

    numbers = st.integers(0, 7)

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "agent.sqlite"
        self.connection = connect(self.path)
        self.outbox = Outbox(self.connection, OutboxConfig(tickets_max=6))
        self.saved: dict[str, ServedTicket] = {}
        self.sealed: dict[str, ServedTicket] = {}
        self.sent: dict[str, str] = {}
        self.waiting: SealedBatch | None = None
        self.chain = (0, FIRST_PREV)
        self.acknowledged: list[SealedBatch] = []
        """Of the chain as it is now."""

    def teardown(self) -> None:
        self.connection.close()
        self.directory.cleanup()

    @rule(number=numbers, size=st.integers(0, 3000))
    def save(self, number: int, size: int) -> None:
        ticket = served(number, bytes=size, receipt=None)
        if ticket.jti in self.sealed:
            with pytest.raises(LocalError):
                self.outbox.save(ticket)
        elif ticket.jti not in self.saved and not self.outbox.has_room():
            with pytest.raises(OutboxUnavailable):
                self.outbox.save(ticket)
        else:
            self.outbox.save(ticket)
            self.saved[ticket.jti] = ticket

    @rule(number=numbers)
    def seal(self, number: int) -> None:
        jti = served(number).jti
        self.outbox.seal(jti)
        if jti in self.saved:
            self.sealed[jti] = self.saved.pop(jti)

    @rule()
    def next_batch(self) -> None:
        found = self.outbox.next_batch(KEY)
        if self.waiting is not None:
            assert found == self.waiting
            return
        if found is None:
            return
        batch = batch_of(found)
        assert (batch.seq - 1, batch.prev) == self.chain
        self.chain = (batch.seq, batch_hash(found.token))
        for jti, item in zip(found.jtis, batch.items, strict=True):
            assert jti not in self.sent
            assert item.bytes == self.sealed[jti].bytes
            self.sent[jti] = found.hash
        self.waiting = found

    @precondition(lambda self: self.waiting is not None)
    @rule()
    def acknowledge(self) -> None:
        assert self.waiting is not None
        self.outbox.acknowledge(ack_of(self.waiting))
        self.acknowledged.append(self.waiting)
        self.waiting = None

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data())
    def the_ledger_is_restored(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, len(self.acknowledged) - 1))
        forgotten = [*self.acknowledged[first:], *([self.waiting] if self.waiting else [])]
        prev = batch_of(self.acknowledged[first]).prev
        self.outbox.resume_from(DID, self.acknowledged[first].seq, prev)
        self.chain = (self.acknowledged[first].seq - 1, prev)
        self.acknowledged, self.waiting = self.acknowledged[:first], None
        for batch in forgotten:
            for jti in batch.jtis:
                del self.sent[jti]

    @rule()
    def die(self) -> None:
        # Opened anew before the old connection could tidy up.
        self.outbox = Outbox(connect(self.path), OutboxConfig(tickets_max=6))
        self.connection.close()
        self.connection = self.outbox._connection

    @invariant()
    def nothing_is_lost(self) -> None:
        assert {t.jti: t for t in self.outbox.open_tickets()} == self.saved
        to_prove = {jti for jti, t in self.sealed.items() if t.bytes}
        acked = {jti for jti, batch in self.sent.items() if self.waiting is None or batch != self.waiting.hash}
        assert self.outbox.waiting() == len(to_prove - acked)
        assert all(self.outbox.is_spent(jti) for jti in self.sealed)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
