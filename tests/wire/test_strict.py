"""Strict JSON: whatever comes in, the outcome is a value or a named error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fallow_wire.errors import LocalError, Malformed, PeerError, TooLarge
from fallow_wire.limits import INTEGER_MAX
from fallow_wire.strict import dumps, loads, loads_object
from hypothesis import given
from hypothesis import strategies as st

SIZE = 10**6

plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, INTEGER_MAX) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_what_is_written_is_read_back(value: Any) -> None:
    try:
        assert loads(dumps(value), SIZE) == value
    except Malformed as error:
        assert "deeper" in error.detail


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_named_error(data: bytes) -> None:
    try:
        loads(data, 100)
    except PeerError as error:
        assert error.slug in {"malformed", "too-large"}


@given(st.text(alphabet='{}[]",:0123456789.-eE\\unltrfasxN ', max_size=60))
def test_json_like_text_is_read_as_the_standard_reads_it_or_refused(text: str) -> None:
    try:
        value = loads(text, SIZE)
    except Malformed:
        return
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        "NaN",
        "Infinity",
        "-Infinity",
        "1.0",
        "1e3",
        "-1",
        "-0",
        str(2**53),
        str(2**70),
        "9" * 5000,
        "[" * 9 + "]" * 9,
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000,
        '"\\ud800"',
        '{"\\udfff":1}',
        '"\ud800"',
        b"\xff",
        b'"\xed\xa0\x80"',
        "",
        " ",
        "1 2",
        "\ufeff1",
        "{'a':1}",
    ],
)
def test_refused(text: str | bytes) -> None:
    with pytest.raises(Malformed):
        loads(text, SIZE)


def test_depth_of_eight_and_the_largest_integer_pass() -> None:
    assert loads("[" * 8 + "]" * 8, SIZE) is not None
    assert loads(str(INTEGER_MAX), SIZE) == 2**53 - 1
    assert loads('"[[[[[[[[[[[["', SIZE) == "[" * 12


def test_size_is_checked_before_anything_is_read() -> None:
    with pytest.raises(TooLarge):
        loads("[" * 100, 99)


def test_an_object_is_wanted() -> None:
    with pytest.raises(Malformed):
        loads_object("[]", SIZE)


def test_canonical_form_sorts_keys_and_refuses_what_is_not_json() -> None:
    assert dumps({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(LocalError):
        dumps({"a": object()})
    with pytest.raises(LocalError):
        dumps({"a": float("nan")})
