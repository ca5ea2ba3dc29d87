"""Signed kinds: no kind passes for another, the header is pinned, nothing unsigned is read."""

from __future__ import annotations

import itertools
import json

import pytest
from fallow_wire.encoding import base64url
from fallow_wire.errors import BadSignature, Malformed, PeerError, TooLarge
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign, split, verify
from fallow_wire.strict import dumps
from fallow_wire.tickets import Ticket, verify_receipt, verify_ticket
from hypothesis import given
from hypothesis import strategies as st
from support import key, make_receipt, make_ticket, signed_ticket

SCHEDULER, DEVICE, CONSUMER = key(1), key(2), key(3)
TRUSTED = {SCHEDULER.public.thumbprint(): SCHEDULER.public}


def forge(header: object, payload: object, signer: object = SCHEDULER) -> str:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else dumps(payload)
    signing_input = base64url(head) + "." + base64url(body)
    return signing_input + "." + base64url(signer.sign(signing_input.encode()))  # type: ignore[attr-defined]


def test_a_ticket_is_read_back_and_kept_verbatim() -> None:
    ticket = make_ticket(DEVICE, CONSUMER)
    token = signed_ticket(ticket, SCHEDULER)
    signed = verify_ticket(token, TRUSTED.get)
    assert signed.value == ticket
    assert signed.token == token
    assert verify_ticket(token.encode(), TRUSTED.get) == signed


@pytest.mark.parametrize(("made", "wanted"), list(itertools.permutations(Kind, 2)))
def test_no_kind_passes_for_another(made: Kind, wanted: Kind) -> None:
    token = sign(made, make_ticket(DEVICE), SCHEDULER)
    with pytest.raises(BadSignature):
        verify(token, wanted, Ticket, TRUSTED.get)


def headers() -> list[object]:
    kid = SCHEDULER.public.thumbprint()
    good = {"alg": "EdDSA", "typ": Kind.TICKET.typ, "kid": kid}
    return [
        {**good, "alg": "none"},
        {**good, "alg": "HS256"},
        {**good, "alg": "eddsa"},
        {**good, "typ": "JWT"},
        {**good, "kid": ""},
        {**good, "kid": 1},
        {**good, "kid": key(9).public.thumbprint()},
        {**good, "crit": ["exp"]},
        {**good, "jwk": encode(SCHEDULER.public.jwk())},
        {"alg": "EdDSA", "kid": kid},
        [],
        b"",
        b'{"alg":"EdDSA","alg":"none"}',
        b"\xff",
    ]


@pytest.mark.parametrize("header", headers(), ids=str)
def test_headers_are_exactly_as_written(header: object) -> None:
    with pytest.raises(PeerError):
        verify_ticket(forge(header, encode(make_ticket(DEVICE))), TRUSTED.get)


def test_another_key_under_a_trusted_kid_is_refused() -> None:
    token = sign(Kind.TICKET, make_ticket(DEVICE), key(9), kid=SCHEDULER.public.thumbprint())
    with pytest.raises(BadSignature):
        verify_ticket(token, TRUSTED.get)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_character_is_refused(position: int, step: int) -> None:
    token = signed_ticket(make_ticket(DEVICE, jti="018bcfe5-6800-7000-8000-000000000001"), SCHEDULER)
    index = position % len(token)
    changed = token[:index] + chr((ord(token[index]) + step) % 256) + token[index + 1 :]
    with pytest.raises(PeerError):
        verify_ticket(changed, TRUSTED.get)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_anything_is_a_ticket_or_a_named_error(token: bytes | str) -> None:
    with pytest.raises(PeerError):
        verify_ticket(token, TRUSTED.get)


def test_size_is_checked_first() -> None:
    with pytest.raises(TooLarge):
        split("a" * (Kind.TICKET.size_max + 1), Kind.TICKET)


@pytest.mark.parametrize(
    "change",
    [
        {"max_bytes": -1},
        {"max_bytes": 2**53},
        {"max_bytes": True},
        {"max_bytes": "1"},
        {"max_bytes": None},
        {"aud": "fd-UPPER"},
        {"aud": DEVICE.public.device_id() + "\n"},
        {"jti": "018bcfe5-6800-4000-8000-000000000001"},
        {"obj": "A" * 64},
        {"svc": "shell"},
        {"tier": "countersigned"},
        {"tier": "free"},
        {"exp": 1_700_000_901},
        {"exp": 1},
        {"nbf": 1_800_000_000},
        {"extra": 1},
        {"publisher": ""},
        {"cnf": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}},
    ],
    ids=str,
)
def test_signed_payloads_are_read_strictly(change: dict[str, object]) -> None:
    payload = {**encode(make_ticket(DEVICE)), **change}
    header = {"alg": "EdDSA", "typ": Kind.TICKET.typ, "kid": SCHEDULER.public.thumbprint()}
    with pytest.raises(PeerError):
        verify_ticket(forge(header, payload), TRUSTED.get)


def test_receipts_belong_to_one_ticket_and_its_key() -> None:
    ticket = make_ticket(DEVICE, CONSUMER)
    receipt = make_receipt(ticket)
    assert verify_receipt(sign(Kind.RECEIPT, receipt, CONSUMER), ticket).value == receipt
    other = make_ticket(DEVICE, CONSUMER)
    legacy = make_ticket(DEVICE)
    too_much = make_receipt(ticket, size=ticket.max_bytes + 1)
    for token, of in (
        (sign(Kind.RECEIPT, receipt, DEVICE), ticket),
        (sign(Kind.RECEIPT, receipt, CONSUMER), other),
        (sign(Kind.RECEIPT, make_receipt(legacy), CONSUMER), legacy),
        (sign(Kind.RECEIPT, too_much, CONSUMER), ticket),
    ):
        with pytest.raises(PeerError):
            verify_receipt(token, of)


def test_a_malformed_payload_of_a_trusted_key_is_malformed() -> None:
    header = {"alg": "EdDSA", "typ": Kind.TICKET.typ, "kid": SCHEDULER.public.thumbprint()}
    for payload in (b"[]", b"{", b'{"a":1,"a":2}', b"{}"):
        with pytest.raises(Malformed):
            verify_ticket(forge(header, payload), TRUSTED.get)
