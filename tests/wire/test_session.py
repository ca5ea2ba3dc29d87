"""Session messages, enrolment and dial-back."""

from __future__ import annotations

import copy
import json
from array import array
from dataclasses import replace
from typing import Any

import pytest
from fallow_wire import session
from fallow_wire.encoding import base64url, from_base64url
from fallow_wire.enrolment import Enrolment, verify_enrolment
from fallow_wire.errors import Malformed, PeerError
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet
from fallow_wire.session import (
    AgentAdvice,
    Cancel,
    Challenge,
    Content,
    DialBack,
    Disk,
    Environment,
    Heartbeat,
    Hello,
    Line,
    Policy,
    Processor,
    ServicePort,
    Source,
    Task,
    TaskStatus,
    hello_input,
    read_downward,
    read_upward,
    sign_hello,
    verify_hello,
    write,
)
from fallow_wire.strict import dumps, loads_object
from hypothesis import given
from hypothesis import strategies as st
from support import key

DEVICE = key(2)
LINE = Line(20_000_000, 100_000_000, "configured", 1, 2, 3, 4, 5, 6, rtt_ms=12)
HEARTBEAT = Heartbeat(
    "active",
    LINE,
    tuple(range(24)),
    Disk(10**10, 0, 10**11, "ssd"),
    Processor(4, "aarch64", 90, 10**8, 51),
    Environment((ServicePort("tcp", 32557, "ipv4", "203.0.113.5", "manual"),), "private", "Linux", "Pi 4", "0.1.0"),
    ("object", "fill"),
)
UPWARD = [
    HEARTBEAT,
    Hello(DEVICE.public.device_id(), base64url(bytes(64)), "0.1.0"),
    TaskStatus("t-1", "running", 5),
    TaskStatus("t-1", "failed", 0, "disk full"),
    Content(("a" * 64,), (), True),
]
DOWNWARD = [
    Challenge("n" * 20, 1_700_000_000),
    Task("t-1", "fill", "a" * 64, "manifest", (Source("http://x/o/a", "ticket"), Source("http://x/o"))),
    Cancel("t-1"),
    Policy(JwkSet((key(1).public.jwk(with_kid=True),)), "http://ledger", now=5),
    Policy(JwkSet(()), "http://ledger", agent=AgentAdvice("0.2.1", 10)),
    DialBack("n" * 20),
]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("message", UPWARD, ids=lambda m: m.TYPE)
def test_upward_messages_are_read_back(message: Any) -> None:
    assert read_upward(write(message)) == message


@pytest.mark.parametrize("message", DOWNWARD, ids=lambda m: m.TYPE)
def test_downward_messages_are_read_back(message: Any) -> None:
    assert read_downward(write(message)) == message


@pytest.mark.parametrize("read", [read_upward, read_downward])
@given(data=st.one_of(st.binary(max_size=100), st.text(max_size=100), st.dictionaries(st.text(), values).map(str)))
def test_any_frame_is_a_message_or_a_named_error(read: Any, data: bytes | str) -> None:
    with pytest.raises(PeerError):
        read(data)


@given(
    st.sampled_from(sorted(session._UP)),
    st.dictionaries(
        st.sampled_from(
            [
                "id",
                "status",
                "line",
                "disk",
                "added",
                "dropped",
                "state",
                "device_id",
                "signature",
                "version",
                "snapshot",
            ]
        ),
        values,
    ),
)
def test_any_fields_are_a_message_or_a_named_error(kind: str, members: dict[str, Any]) -> None:
    try:
        text = dumps({**members, "type": kind})
    except UnicodeError:
        return
    try:
        read_upward(text)
    except PeerError as error:
        assert error.slug == "malformed"


def test_unknown_types_have_their_own_slug_and_unknown_fields_are_ignored() -> None:
    with pytest.raises(Malformed) as caught:
        read_upward('{"type":"dance"}')
    assert caught.value.slug == "unknown-type"
    assert read_downward('{"type":"cancel","id":"x","later":{"a":[1]}}') == Cancel("x")


@pytest.mark.parametrize(
    ("forecast", "named"),
    [
        ([1] * 23, "forecast_idle_up_bps: an array of 24 to 24"),
        (7, "forecast_idle_up_bps: an array of 24 to 24"),
        ([1, 2, True] + [3] * 21, r"forecast_idle_up_bps\[2\]: a whole number"),
        ([1] * 23 + ["5"], r"forecast_idle_up_bps\[23\]: a whole number"),
    ],
)
def test_a_forecast_is_24_whole_numbers_and_the_wrong_one_is_named(forecast: Any, named: str) -> None:
    said = loads_object(write(HEARTBEAT), 10_000)
    with pytest.raises(Malformed, match=named):
        read_upward(dumps({**said, "forecast_idle_up_bps": forecast}))


@pytest.mark.parametrize("number", [-1, 2**53])
def test_numbers_in_arrays_and_records_are_in_range(number: int) -> None:
    told = write(HEARTBEAT)
    for before, after in (("[0,1,", f"[0,{number},"), ('"rtt_ms":12', f'"rtt_ms":{number}')):
        assert before in told
        with pytest.raises(Malformed, match="integer outside"):
            read_upward(told.replace(before, after))


@st.composite
def changed_heartbeats(draw: st.DrawFn) -> dict[str, Any]:
    """A heartbeat's JSON in which some fields, of its parts too, say something else, nonsense included, or are gone."""
    said: dict[str, Any] = {"type": "heartbeat", **encode(HEARTBEAT)}
    nonsense = st.sampled_from([0, 1, True, None, "ssd", "", -1, [], [True] * 24, [2**53] * 24, {}, [1, "x"], 2**53])
    for _ in range(draw(st.integers(0, 3))):
        part = draw(st.sampled_from([said, *(value for value in said.values() if isinstance(value, dict))]))
        name = draw(st.sampled_from([*sorted(set(part) - {"type"}), "new"]))
        if draw(st.booleans()):
            part.pop(name, None)
        else:
            part[name] = copy.deepcopy(draw(nonsense))
    return said


@given(changed_heartbeats(), st.booleans())
def test_a_heartbeat_reads_the_same_with_and_without_the_one_before(said: dict[str, Any], as_array: bool) -> None:
    before = replace(HEARTBEAT, forecast_idle_up_bps=array("Q", range(24))) if as_array else HEARTBEAT
    text = json.dumps(said).encode()

    def read(against: Heartbeat | None) -> Any:
        try:
            found = read_upward(text, against)
        except PeerError as error:
            return error.slug, error.detail
        assert isinstance(found, Heartbeat)
        return replace(found, forecast_idle_up_bps=tuple(found.forecast_idle_up_bps))

    alone, against = read(None), read(before)
    assert alone == against
    # True equals 1 for Python, and is no number here.
    assert repr(alone) == repr(against)


def test_what_is_as_before_is_the_same_object() -> None:
    found = read_upward(write(replace(HEARTBEAT, line=replace(LINE, rtt_ms=13))), HEARTBEAT)
    assert isinstance(found, Heartbeat)
    for part in ("forecast_idle_up_bps", "disk", "processor", "environment", "services"):
        assert getattr(found, part) is getattr(HEARTBEAT, part)
    assert found.line == replace(LINE, rtt_ms=13)


def test_directions_do_not_mix() -> None:
    with pytest.raises(Malformed):
        read_upward(write(DialBack("n" * 20)))
    with pytest.raises(Malformed):
        read_downward(write(HEARTBEAT))


def test_a_content_message_of_the_largest_size_fits() -> None:
    message = Content(tuple(f"{i:064x}" for i in range(1000)), ())
    assert read_upward(write(message)) == message
    with pytest.raises(Malformed):
        read_upward(write(Content(tuple(f"{i:064x}" for i in range(1001)), ())))


def test_hello_names_the_host_that_was_dialled() -> None:
    challenge = Challenge("n" * 20, 0)
    hello = sign_hello(challenge, "scheduler.test", DEVICE, "0.1.0")
    assert verify_hello(hello, challenge.nonce, ("scheduler.test",), DEVICE.public)
    assert not verify_hello(hello, challenge.nonce, ("other.test",), DEVICE.public)
    assert not verify_hello(hello, "m" * 20, ("scheduler.test",), DEVICE.public)
    assert not verify_hello(hello, challenge.nonce, ("scheduler.test",), key(3).public)


def test_dial_back_cannot_be_turned_into_a_hello() -> None:
    answer = session.sign_dial_back("n" * 20, DEVICE)
    DEVICE.public.verify(from_base64url(answer.signature), session.dial_back_input("n" * 20))
    assert session.dial_back_input("n" * 20) != hello_input("n" * 20, "")


def make_enrolment(**changes: Any) -> Enrolment:
    fields = {
        "did": DEVICE.public.device_id(),
        "jwk": DEVICE.public.jwk(),
        "claim_token": "claim-token",
        "model": "Pi 4",
        "version": "0.1.0",
        "iat": 0,
        "nonce": "n" * 20,
    }
    return Enrolment(**{**fields, **changes})


def test_an_enrolment_proves_the_key_of_its_id() -> None:
    did = DEVICE.public.device_id()
    assert verify_enrolment(sign(Kind.ENROLMENT, make_enrolment(), DEVICE, kid=did)).kid == did
    other = key(3)
    for enrolment, signer, kid in (
        (make_enrolment(), other, did),
        (make_enrolment(jwk=other.public.jwk()), other, did),
        (make_enrolment(), DEVICE, other.public.device_id()),
    ):
        with pytest.raises(PeerError):
            verify_enrolment(sign(Kind.ENROLMENT, enrolment, signer, kid=kid))
