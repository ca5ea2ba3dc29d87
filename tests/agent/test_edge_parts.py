"""The pure parts of the service port: request heads, distinct bytes, accounts, remembered tickets, nonces."""

from __future__ import annotations

import itertools

import pytest
from edge_world import CONSUMER, DEVICE, MIB, SCHEDULER
from fallow_agent.edge import http1
from fallow_agent.edge.account import SPANS_MAX, Account, Spans
from fallow_agent.edge.admission import VerifiedTickets
from fallow_agent.edge.dial_back import NONCE_LIFETIME_S, NONCES_MAX, DialBackNonces
from fallow_wire.errors import Malformed, PeerError
from fallow_wire.keys import PublicKey
from hypothesis import given
from hypothesis import strategies as st
from support import NOW, key, make_receipt, make_ticket, signed_ticket

# ------------------------------------------------------------------ request heads

token = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
value = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)


@given(st.dictionaries(token.map(str.lower), value, max_size=20), st.integers(0, 3))
def test_fields_are_read_as_written(fields: dict[str, str], spaces: int) -> None:
    for special in ("connection", "content-length", "transfer-encoding", "host"):
        fields.pop(special, None)
    pad = " " * spaces
    lines = "".join(f"{name.title()}:{pad}{text}{pad}\r\n" for name, text in fields.items())
    head = f"GET /a?b HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()
    assert http1.head_length(head + b"rest") == len(head)
    request = http1.read_head(head)
    assert (request.method, request.path, request.query) == ("GET", "/a", "b")
    assert request.fields == {"host": "x", **fields}
    assert request.keep_alive


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for raw in (data, b"GET / HTTP/1.1\r\nHost: x\r\n" + data):
        try:
            length = http1.head_length(raw + b"\r\n\r\n")
            http1.read_head((raw + b"\r\n\r\n")[:length])
        except http1.BadRequest as bad:
            assert 400 <= bad.problem.status < 500


@pytest.mark.parametrize(
    "head",
    [
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(http1.BadRequest):
        http1.read_head(head)


def test_connection_options_and_absolute_targets() -> None:
    def keeps(version: str, connection: str) -> bool:
        head = f"GET http://x.example/p HTTP/{version}\r\nHost: x\r\nConnection: {connection}\r\n\r\n"
        request = http1.read_head(head.encode())
        assert request.path == "/p"
        return request.keep_alive

    assert keeps("1.1", "keep-alive")
    assert not keeps("1.1", "Upgrade, Close")
    assert not keeps("1.0", "x")
    assert keeps("1.0", "Keep-Alive")


# ------------------------------------------------------------------ accounts


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=40), st.integers(0, 60), st.integers(0, 20))
def test_spans_count_each_byte_once(added: list[tuple[int, int]], start: int, length: int) -> None:
    spans, model = Spans(), set[int]()
    for at, size in added:
        spans.add(at, at + size)
        model |= set(range(at, at + size))
        assert spans.total == len(model)
    held = spans.as_tuple()
    assert {byte for low, high in held for byte in range(low, high)} == model
    assert all(a[1] < b[0] for a, b in itertools.pairwise(held))  # joined where they touch
    assert spans.missing(start, start + length) == len(set(range(start, start + length)) - model)
    assert Spans(held).as_tuple() == held
    assert Spans(held).total == len(model)


def test_too_many_pieces_are_not_counted() -> None:
    spans = Spans()
    for number in range(SPANS_MAX + 10):
        spans.add(number * 10, number * 10 + 1)
    assert spans.total == SPANS_MAX
    spans.add(0, 100)  # joins pieces, and frees places
    assert spans.total == SPANS_MAX + 90
    assert len(spans.as_tuple()) == SPANS_MAX - 10  # the one at 100 touches it


@given(st.lists(st.tuples(st.integers(1, 4 * MIB), st.booleans()), max_size=60))
def test_never_more_than_two_steps_beyond_the_receipt(steps: list[tuple[int, bool]]) -> None:
    account = Account(make_ticket(DEVICE, CONSUMER, max_bytes=200 * MIB), "token", NOW)
    n = 0
    for wanted, confirmed in steps:
        count = min(wanted, account.window())
        account.sent(0, count)
        step = min(8 * MIB, max(MIB, account.receipt_bytes // 8))
        assert account.sent_bytes <= account.receipt_bytes + 2 * step
        if confirmed:
            n += 1
            account.confirm(make_receipt(account.ticket, n, account.sent_bytes), f"receipt {n}", NOW)
            assert account.window() >= 2 * MIB


def test_receipts_are_cumulative_and_never_over_what_was_sent() -> None:
    account = Account(make_ticket(DEVICE, CONSUMER), "token", NOW)
    account.sent(0, 1000)
    with pytest.raises(Malformed):
        account.confirm(make_receipt(account.ticket, 1, 1001), "r", NOW)
    assert account.confirm(make_receipt(account.ticket, 5, 900), "r5", NOW)
    assert not account.confirm(make_receipt(account.ticket, 4, 800), "r4", NOW)
    assert account.receipt == "r5"
    with pytest.raises(Malformed):
        account.confirm(make_receipt(account.ticket, 6, 899), "r6", NOW)


def test_a_legacy_ticket_cannot_be_replayed_without_end() -> None:
    account = Account(make_ticket(DEVICE, max_bytes=10 * MIB), "token", NOW)
    rounds = 0
    while account.covers(0, MIB):
        account.sent(0, MIB)
        rounds += 1
        assert rounds < 100
    assert account.claimed_bytes == MIB
    assert account.is_complete


def test_service_time_counts_overlapping_transfers_once() -> None:
    account = Account(make_ticket(DEVICE), "token", NOW)
    account.began(1000)
    account.began(1500)
    assert account.served_ms(1700) == 700
    account.ended(2000)
    account.ended(3000)
    account.began(9000)
    account.ended(9100)
    assert account.served_ms(99_999) == 2100


# ------------------------------------------------------------------ the rest


def test_each_ticket_is_verified_once_and_few_are_remembered() -> None:
    asked = []

    def key_of(kid: str) -> PublicKey | None:
        asked.append(kid)
        return SCHEDULER.public if kid == SCHEDULER.public.thumbprint() else None

    tickets = VerifiedTickets(key_of, remembered_max=2)
    texts = [signed_ticket(make_ticket(DEVICE), SCHEDULER) for _ in range(3)]
    for text in (texts[0], texts[0], texts[1], texts[0]):
        assert tickets.verify(text).token == text
    assert len(asked) == 2
    tickets.verify(texts[2])
    tickets.verify(texts[0])
    assert len(asked) == 3
    tickets.verify(texts[1])
    assert len(asked) == 4
    forged = signed_ticket(make_ticket(DEVICE), key(99))
    for _ in range(2):
        with pytest.raises(PeerError):
            tickets.verify(forged)
    assert len(asked) == 6
    tickets.clear()
    tickets.verify(texts[1])
    assert len(asked) == 7


def test_nonces_live_a_minute_and_are_few() -> None:
    nonces = DialBackNonces()
    nonces.add("first", 100.0)
    assert nonces.knows("first", 100.0 + NONCE_LIFETIME_S)
    assert not nonces.knows("first", 101.0 + NONCE_LIFETIME_S)
    assert not nonces.knows("other", 100.0)
    for number in range(NONCES_MAX):
        nonces.add(str(number), 100.0)
    assert not nonces.knows("first", 100.0)
    assert nonces.knows("0", 100.0)
