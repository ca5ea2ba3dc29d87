"""Ranges and validators against a slice of the bytes."""

from __future__ import annotations

import pytest
from fallow_wire.errors import UnsatisfiableRange
from fallow_wire.http import Problem, Span, not_modified, repr_digest, requested_span
from hypothesis import given
from hypothesis import strategies as st

TAG = '"abc"'


def span(header: str | None, size: int = 100, if_range: str | None = None) -> Span:
    return requested_span(header, if_range, size, TAG)


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, 90),
        ("bytes=-10", 90, 10),
        ("bytes=-1000", 0, 100),
        ("bytes=90-1000", 90, 10),
        ("BYTES=1-2", 1, 2),
    ],
)
def test_single_ranges(header: str, start: int, length: int) -> None:
    assert span(header) == Span(start, length, 100, True)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=100-200"])
def test_ranges_outside_of_the_object(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        span(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=٣-٤",
        "bytes=+1-2",
    ],
)
def test_anything_else_gives_the_whole(header: str | None) -> None:
    assert span(header) == Span(0, 100, 100, False)


def test_if_range_must_be_the_strong_tag() -> None:
    assert span("bytes=1-2", if_range=TAG).partial
    for other in ('"old"', f"W/{TAG}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert not span("bytes=1-2", if_range=other).partial


@given(
    st.integers(0, 50), st.one_of(st.text(max_size=20), st.from_regex(r"bytes=[0-9]{0,2}-[0-9]{0,2}", fullmatch=True))
)
def test_the_span_lies_within_the_object(size: int, header: str) -> None:
    try:
        found = span(header, size)
    except UnsatisfiableRange:
        return
    assert 0 <= found.start <= found.start + found.length <= size
    assert found.partial or found.length == size
    assert not found.partial or found.length > 0


def test_an_empty_object_has_no_satisfiable_range() -> None:
    assert span(None, 0) == Span(0, 0, 0, False)
    with pytest.raises(UnsatisfiableRange):
        span("bytes=0-", 0)


def test_if_none_match() -> None:
    assert not_modified(TAG, TAG)
    assert not_modified(f'"x", W/{TAG}', TAG)
    assert not_modified("*", TAG)
    assert not not_modified(None, TAG)
    assert not not_modified('"abcd"', TAG)


def test_digest_and_problem_forms() -> None:
    assert repr_digest(bytes(32)) == "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
    assert Problem(404, "not-held", "Not held here").as_json() == {
        "type": "not-held",
        "title": "Not held here",
        "status": 404,
        "fault": "caller",
    }
