"""Dataclasses as strict JSON records.

A record is a frozen dataclass whose annotations carry a check: ``size: Annotated[int, integer()]``. A field without a
default is required; ``None`` as default makes it optional, and it is left out when written. :func:`decode` builds the
record from a JSON object or raises :class:`~.errors.Malformed` naming the field; :func:`encode` is its inverse.
Signed payloads are decoded strictly (unknown fields refused), all else ignores them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from array import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from .encoding import from_base64url, is_hex
from .errors import LocalError, Malformed
from .limits import INTEGER_MAX

Check = Callable[[Any, str, bool], Any]
"""``check(value, path, strict)`` gives the checked value or raises Malformed naming ``path``."""

T = TypeVar("T")

_DEVICE_ID = re.compile(r"fd-[a-z2-7]{24}\Z")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z")


def integer(minimum: int = 0, maximum: int = INTEGER_MAX) -> Check:
    def check(value: Any, path: str, strict: bool) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise Malformed(f"{path}: a whole number from {minimum} to {maximum} is wanted")
        return value

    return check


def boolean() -> Check:
    def check(value: Any, path: str, strict: bool) -> bool:
        if type(value) is not bool:
            raise Malformed(f"{path}: true or false is wanted")
        return value

    return check


def text(length_max: int, length_min: int = 0) -> Check:
    def check(value: Any, path: str, strict: bool) -> str:
        if not isinstance(value, str) or not length_min <= len(value) <= length_max:
            raise Malformed(f"{path}: text of {length_min} to {length_max} characters is wanted")
        return value

    return check


def matching(pattern: re.Pattern[str], wanted: str, length_max: int = 128) -> Check:
    def check(value: Any, path: str, strict: bool) -> str:
        if not isinstance(value, str) or len(value) > length_max or not pattern.match(value):
            raise Malformed(f"{path}: {wanted} is wanted")
        return value

    return check


def word(length_max: int = 64) -> Check:
    """An identifier: letters, digits, ``. _ : -``."""
    return matching(_WORD, "an identifier (letters, digits, . _ : -)", length_max)


def device_id() -> Check:
    return matching(_DEVICE_ID, "a device id (fd- and 24 of a-z2-7)")


def uuid7() -> Check:
    return matching(_UUID7, "a UUIDv7")


def one_of(*values: str) -> Check:
    """Gives the text in ``values``, so that records which are kept keep none of their own."""
    known = {value: value for value in values}

    def check(value: Any, path: str, strict: bool) -> str:
        found = known.get(value) if isinstance(value, str) else None
        if found is None:
            raise Malformed(f"{path}: one of {', '.join(values)} is wanted")
        return found

    return check


def hexadecimal(length: int = 64) -> Check:
    """Lower-case hexadecimal digits; 64 of them are a SHA-256."""

    def check(value: Any, path: str, strict: bool) -> str:
        if not isinstance(value, str) or not is_hex(value, length):
            raise Malformed(f"{path}: {length} lower-case hexadecimal digits are wanted")
        return value

    return check


def base64url_bytes(length: int) -> Check:
    """base64url text of exactly ``length`` bytes; the value stays text."""

    def check(value: Any, path: str, strict: bool) -> str:
        if not isinstance(value, str) or len(from_base64url(value)) != length:
            raise Malformed(f"{path}: base64url of {length} bytes is wanted")
        return value

    return check


def integers(count: int) -> Check:
    """A JSON array of exactly ``count`` whole numbers, read as a tuple: :func:`items` of :func:`integer`, but good ones
    are looked at together."""
    one_by_one = items(integer(), count, count)

    def check(value: Any, path: str, strict: bool) -> tuple[int, ...]:
        plain = type(value) is list and len(value) == count and set(map(type, value)) == {int}
        if plain and min(value) >= 0 and max(value) <= INTEGER_MAX:
            return tuple(value)
        found: tuple[int, ...] = one_by_one(value, path, strict)
        return found

    return check


def items(check_item: Check, count_max: int, count_min: int = 0) -> Check:
    """A JSON array, read as a tuple."""

    def check(value: Any, path: str, strict: bool) -> tuple[Any, ...]:
        if not isinstance(value, list) or not count_min <= len(value) <= count_max:
            raise Malformed(f"{path}: an array of {count_min} to {count_max} is wanted")
        try:
            return tuple([check_item(item, path, strict) for item in value])
        except Malformed:
            # Names are made for the one that is wrong alone: they cost more than the checks.
            return tuple(check_item(item, f"{path}[{i}]", strict) for i, item in enumerate(value))

    return check


def mapping(check_key: Check, check_value: Check, count_max: int) -> Check:
    """A JSON object with free keys, read as a dict."""

    def check(value: Any, path: str, strict: bool) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > count_max:
            raise Malformed(f"{path}: an object of at most {count_max} members is wanted")
        return {
            check_key(key, path, strict): check_value(item, f"{path}.{key[:64]}", strict) for key, item in value.items()
        }

    return check


def record(cls: type[Any]) -> Check:
    """A nested record."""

    def check(value: Any, path: str, strict: bool) -> Any:
        return _decode(cls, value, path, strict)

    return check


class _Field(NamedTuple):
    name: str
    check: Check
    required: bool
    nullable: bool


@functools.cache
def _fields_of(cls: type[Any]) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        checks = [c for c in getattr(hints[field.name], "__metadata__", ()) if callable(c)]
        if len(checks) != 1:
            raise LocalError(f"{cls.__name__}.{field.name} wants exactly one check")
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        found.append(_Field(field.name, checks[0], required, field.default is None))
    return tuple(found)


_ABSENT: Any = object()


def _decode(cls: type[T], value: Any, path: str, strict: bool) -> T:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise Malformed(f"{path or 'payload'}: an object is wanted")
    fields = _fields_of(cls)  # type: ignore[arg-type]  # classes are hashable; mypy doubts it
    prefix = f"{path}." if path else ""
    found: dict[str, Any] = {}
    get = value.get
    for name, check, required, nullable in fields:
        item = get(name, _ABSENT)
        if item is _ABSENT:
            if required:
                raise Malformed(f"{prefix}{name}: is missing")
        elif item is None and nullable:
            if strict:
                raise Malformed(f"{prefix}{name}: leave it out instead of null")
        else:
            found[name] = check(item, prefix + name, strict)
    if strict and len(found) < len(value):
        unknown = value.keys() - {field.name for field in fields}
        raise Malformed(f"{path or 'payload'}: unknown field {min(unknown)[:64]!r}")
    return cls(**found)


def decode(cls: type[T], value: Any, *, strict: bool) -> T:
    """Build record ``cls`` from a JSON object.

    :param strict: refuse unknown fields (signed payloads); else they are ignored.
    :raises Malformed: naming the field and what is wanted there.
    """
    return _decode(cls, value, "", strict)


def decode_like(cls: type[T], value: Any, before: T) -> T:
    """As :func:`decode` does, not strictly, and sooner: fields that say the same as those of ``before`` are taken from
    it, for they were good."""
    if type(value) is not dict:
        return _decode(cls, value, "", False)
    found: dict[str, Any] = {}
    get = value.get
    fields = _fields_of(cls)  # type: ignore[arg-type]  # as above
    for name, check, required, nullable in fields:
        item, had = get(name, _ABSENT), getattr(before, name)
        if says(had, item):
            found[name] = had
        elif item is _ABSENT:
            if required:
                raise Malformed(f"{name}: is missing")
        elif item is not None or not nullable:
            found[name] = check(item, name, False)
    return cls(**found)


def says(had: Any, value: Any) -> bool:
    """Whether the JSON value is that of ``had``, a value of a record; where that is in doubt it is not."""
    kind = type(had)
    if kind in _SCALARS:
        return kind is type(value) and bool(had == value)
    if type(value) is list:
        if kind is array:
            # Compared together; but true is no number, though it equals one.
            return bool(had.tolist() == value) and bool not in map(type, value)
        return kind is tuple and len(had) == len(value) and all(map(says, had, value))
    names = _names_of(kind)  # type: ignore[arg-type]  # as in encode
    if names is None or type(value) is not dict:
        return False
    get = value.get
    return all(says(getattr(had, name), get(name)) for name in names)


_SCALARS = frozenset({str, int, bool, type(None)})


@functools.cache
def _names_of(kind: type[Any]) -> tuple[str, ...] | None:
    """The fields of a record; None for other types, which are few."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def encode(value: Any) -> Any:
    """The JSON value of a record (and of tuples, dicts and plain values in it). ``None`` fields are left out."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    names = _names_of(kind)  # type: ignore[arg-type]  # classes are hashable; mypy doubts it
    if names is not None:
        found = {}
        for name in names:
            item = getattr(value, name)
            if item is not None:
                found[name] = item if type(item) in _SCALARS else encode(item)
        return found
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return value
