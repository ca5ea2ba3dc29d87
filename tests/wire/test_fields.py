"""Records: what a decoder takes is what its checks take one by one, and what it refuses it names."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, get_type_hints

import pytest
from fallow_wire.batches import AckItem
from fallow_wire.encoding import base64url
from fallow_wire.errors import Malformed
from fallow_wire.fields import (
    base64url_bytes,
    boolean,
    decode,
    encode,
    hexadecimal,
    integer,
    items,
    mapping,
    one_of,
    record,
    text,
    word,
)
from fallow_wire.keys import Jwk
from fallow_wire.tariff import Tariff
from fallow_wire.tickets import Receipt
from hypothesis import given
from hypothesis import strategies as st


@dataclass(frozen=True, slots=True)
class Inner:
    key: Annotated[str, base64url_bytes(32)]
    on: Annotated[bool, boolean()] = False


@dataclass(frozen=True, slots=True)
class Outer:
    name: Annotated[str, word(8)]
    kind: Annotated[str, one_of("a", "b")]
    count: Annotated[int, integer(1, 9)]
    inner: Annotated[Inner, record(Inner)]
    digest: Annotated[str | None, hexadecimal(4)] = None
    size: Annotated[int, integer()] = 7
    parts: Annotated[tuple[Inner, ...], items(record(Inner), 2)] = ()
    notes: Annotated[dict[str, int], mapping(text(3, 1), integer(), 2)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Nothing:
    maybe: Annotated[str | None, text(3)] = None


INNER = {"key": base64url(b"k" * 32)}
GOOD: dict[str, Any] = {"name": "n", "kind": "b", "count": 3, "inner": INNER}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name: an identifier"),
    ({"name": "123456789"}, "name: an identifier"),
    ({"name": 1}, "name: an identifier"),
    ({"kind": "c"}, "kind: one of a, b"),
    ({"kind": ["a"]}, "kind: one of a, b"),
    ({"count": 0}, "count: a whole number from 1 to 9"),
    ({"count": True}, "count: a whole number"),
    ({"count": 3.0}, "count: a whole number"),
    ({"count": None}, "count: a whole number"),
    ({"inner": None}, "inner: an object"),
    ({"inner": []}, "inner: an object"),
    ({"inner": {}}, "inner.key: is missing"),
    ({"inner": {"key": base64url(b"k" * 31)}}, "inner.key: base64url of 32 bytes"),
    ({"inner": {"key": base64url(b"k" * 32)[:-1] + "t"}}, "inner.key: base64url of 32 bytes"),
    ({"inner": {**INNER, "on": 1}}, "inner.on: true or false"),
    ({"inner": {**INNER, "x": 1}}, "inner: unknown field 'x'"),
    ({"digest": None}, "digest: leave it out instead of null"),
    ({"digest": "ABCD"}, "digest: a text of 4 lower-case hexadecimal digits"),
    ({"digest": "abc"}, "digest: a text of 4"),
    ({"size": None}, "size: a whole number"),
    ({"size": 2**53}, "size: a whole number"),
    ({"parts": [INNER, {"key": 5}]}, "parts[1].key: base64url of 32 bytes"),
    ({"parts": [INNER] * 3}, "parts: an array of 0 to 2"),
    ({"notes": {"four": 1}}, "notes: text of 1 to 3 characters"),
    ({"notes": {"one": -1}}, "notes.one: a whole number"),
    ({"more": 1}, "payload: unknown field 'more'"),
]


@pytest.mark.parametrize(("changes", "told"), WRONG, ids=[told for _, told in WRONG])
def test_what_is_wrong_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(Outer, {**GOOD, **changes}, strict=True)
    assert caught.value.detail.startswith(told)


@pytest.mark.parametrize("name", list(GOOD))
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(Malformed, match=f"^{name}: is missing"):
        decode(Outer, {key: value for key, value in GOOD.items() if key != name}, strict=True)


def test_what_is_left_out_has_its_default() -> None:
    outer = decode(Outer, GOOD, strict=True)
    assert outer == Outer("n", "b", 3, Inner(INNER["key"]))
    assert outer.notes is not decode(Outer, GOOD, strict=True).notes
    assert decode(Outer, encode(outer), strict=True) == outer
    assert decode(Nothing, {}, strict=True) == Nothing()


def test_leniently_unknown_fields_and_null_are_passed_over() -> None:
    assert decode(Outer, {**GOOD, "digest": None, "more": 1}, strict=False) == decode(Outer, GOOD, strict=True)
    with pytest.raises(Malformed):
        decode(Nothing, {"maybe": 1}, strict=False)


@pytest.mark.parametrize("value", [None, 1, "text", [], ["name"], True])
def test_only_objects_are_records(value: Any) -> None:
    for cls in (Outer, Nothing):
        with pytest.raises(Malformed, match="payload: an object is wanted"):
            decode(cls, value, strict=True)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**54),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["a", "0" * 64, "A" * 43, "fd-" + "a" * 24, "01890000-0000-7000-8000-000000000000", "legacy"]),
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner))


@given(st.data(), st.sampled_from([Receipt, AckItem, Jwk, Tariff, Outer, Nothing]), st.booleans())
def test_a_record_is_decoded_exactly_if_none_of_its_fields_has_a_fault(data: Any, cls: Any, strict: bool) -> None:
    """Compared with each field's own check, called one after another."""
    hints = get_type_hints(cls, include_extras=True)
    value = data.draw(st.dictionaries(st.sampled_from([*hints, "other"]), values))
    value = {**(GOOD if cls is Outer and data.draw(st.booleans()) else {}), **value}
    try:
        expected: dict[str, Any] | None = {}
        for one in fields(cls):
            if one.name in value and not (value[one.name] is None and one.default is None and not strict):
                expected[one.name] = hints[one.name].__metadata__[0](value[one.name], one.name, strict)
            elif one.name not in value and one.default is MISSING and one.default_factory is MISSING:
                raise Malformed("missing")
        if strict and value.keys() - hints.keys():
            raise Malformed("unknown")
    except Malformed:
        expected = None
    if expected is None:
        with pytest.raises(Malformed):
            decode(cls, value, strict=strict)
    else:
        assert decode(cls, value, strict=strict) == cls(**expected)
