"""Dataclasses as strict JSON records.

A record is a frozen dataclass whose annotations carry a check: ``size: Annotated[int, integer()]``. A field without a
default is required; ``None`` as default makes it optional, and it is left out when written. :func:`decode` builds the
record from a JSON object or raises :class:`~.errors.Malformed` naming the field; :func:`encode` is its inverse.
Signed payloads are decoded strictly (unknown fields refused), all else ignores them.

Records are read by the thousand, so each class gets a function that is written for it, as dataclasses get theirs: the
tests of all its fields stand in one expression, and only where that fails they are gone through one by one for a name.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from array import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from .errors import LocalError, Malformed
from .limits import INTEGER_MAX

Check = Callable[[Any, str, bool], Any]
"""``check(value, path, strict)`` gives the checked value or raises Malformed naming ``path``."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_DEVICE_ID = re.compile(r"fd-[a-z2-7]{24}\Z")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z")


class Scalar:
    """The check of a value that holds no others, as Python text: ``{v}`` stands for the value.

    :param test: an expression that is true of a good value.
    :param wanted: says in an error what a good value is.
    :param keep: an expression for what is kept of a good value.
    :param objects: what the expressions name, in braces too.
    """

    __slots__ = ("_keep", "_objects", "_passes", "_test", "wanted")

    def __init__(self, test: str, wanted: str, keep: str = "{v}", **objects: Any) -> None:
        self._test = test
        self._keep = keep
        self._objects = objects
        self._passes: Callable[[Any], tuple[bool, Any]] | None = None
        self.wanted = wanted

    def spelt(self, value: str, tag: str = "") -> tuple[str, str, dict[str, Any]]:
        """Both expressions for the variable ``value``, and their objects under names that end in ``tag``."""
        names = {name: name + tag for name in self._objects}
        objects = {names[name]: what for name, what in self._objects.items()}
        return self._test.format(v=value, **names), self._keep.format(v=value, **names), objects

    def __call__(self, value: Any, path: str, strict: bool) -> Any:
        if self._passes is None:
            test, keep, objects = self.spelt("v")
            self._passes = eval(f"lambda v: (True, {keep}) if {test} else (False, None)", objects)
        passes, kept = self._passes(value)
        if not passes:
            raise Malformed(f"{path}: {self.wanted} is wanted")
        return kept


def integer(minimum: int = 0, maximum: int = INTEGER_MAX) -> Check:
    test = f"type({{v}}) is int and {minimum} <= {{v}} <= {maximum}"
    return Scalar(test, f"a whole number from {minimum} to {maximum}")


def boolean() -> Check:
    return Scalar("type({v}) is bool", "true or false")


def text(length_max: int, length_min: int = 0) -> Check:
    wanted = f"text of {length_min} to {length_max} characters"
    return Scalar(f"isinstance({{v}}, str) and {length_min} <= len({{v}}) <= {length_max}", wanted)


def matching(pattern: re.Pattern[str], wanted: str, length_max: int = 128) -> Check:
    test = f"isinstance({{v}}, str) and len({{v}}) <= {length_max} and {{match}}({{v}})"
    return Scalar(test, wanted, match=pattern.match)


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
    test = "isinstance({v}, str) and {v} in {known}"
    return Scalar(test, f"one of {', '.join(values)}", keep="{known}[{v}]", known=known)


def hexadecimal(length: int = 64) -> Check:
    """Lower-case hexadecimal digits; 64 of them are a SHA-256."""
    pattern = re.compile(rf"[0-9a-f]{{{length}}}\Z")
    return matching(pattern, f"a text of {length} lower-case hexadecimal digits", length)


def base64url_bytes(length: int) -> Check:
    """base64url text of exactly ``length`` bytes; the value stays text."""
    whole, left = divmod(length * 8, 6)
    # The last character carries two or four bits of the bytes, and nothing in its others.
    last = {0: "", 2: "[AQgw]", 4: "[AEIMQUYcgkosw048]"}[left]
    return matching(re.compile(rf"[A-Za-z0-9_-]{{{whole}}}{last}\Z"), f"base64url of {length} bytes", whole + 1)


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
        return _decoder_of(cls)(value, path, strict)  # not before: the class may name itself

    return check


def _once(function: F) -> F:
    """``functools.cache``; mypy doubts that classes are hashable."""
    return cast(F, functools.cache(function))


class _Field(NamedTuple):
    name: str
    check: Check
    required: bool
    nullable: bool
    default: Callable[[], Any]


@_once
def _fields_of(cls: type[Any]) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        checks = [c for c in getattr(hints[field.name], "__metadata__", ()) if callable(c)]
        if len(checks) != 1:
            raise LocalError(f"{cls.__name__}.{field.name} wants exactly one check")
        plain, made = field.default, field.default_factory
        required = plain is dataclasses.MISSING and made is dataclasses.MISSING
        default = (lambda plain=plain: plain) if made is dataclasses.MISSING else made
        found.append(_Field(field.name, checks[0], required, plain is None, default))
    return tuple(found)


_ABSENT: Any = object()


def _explain(cls: type[Any], value: Any, path: str, strict: bool) -> NoReturn:
    """Raise what is wrong with ``value``, by field."""
    if not isinstance(value, Mapping):
        raise Malformed(f"{path or 'payload'}: an object is wanted")
    prefix = f"{path}." if path else ""
    for name, check, required, nullable, _ in _fields_of(cls):
        item = value.get(name, _ABSENT)
        if item is _ABSENT:
            if required:
                raise Malformed(f"{prefix}{name}: is missing")
        elif item is None and nullable:
            if strict:
                raise Malformed(f"{prefix}{name}: leave it out instead of null")
        else:
            check(item, prefix + name, strict)
    unknown = value.keys() - {field.name for field in _fields_of(cls)}
    if strict and unknown:
        raise Malformed(f"{path or 'payload'}: unknown field {min(unknown)[:64]!r}")
    raise AssertionError(f"{cls.__name__}: refused for no reason")


@_once
def _decoder_of(cls: type[Any]) -> Check:
    """The function that reads ``cls``. Written so that a good value meets one long condition and no calls for plain
    fields::

        def decode(value, path, strict):
            if not isinstance(value, Mapping): explain(…)
            try: v0 = value['jti']; …
            except KeyError: explain(…)
            if not (type(v1) is int and 0 <= v1 <= 9007199254740991 and …): explain(…)
            known = 5
            v5 = value.get('cnf', ABSENT)
            if v5 is ABSENT: v5 = default5()
            elif v5 is None: …
            else: known += 1; v5 = check5(v5, …)
            if strict and len(value) != known: explain(…)
            return cls(v0, v1, …)
    """
    objects: dict[str, Any] = {"cls": cls, "ABSENT": _ABSENT, "Mapping": Mapping}
    objects["explain"] = functools.partial(_explain, cls)
    explain = "explain(value, path, strict)"
    gets, tests, keeps, optional, arguments = [], [], [], [], []
    for number, (name, check, required, nullable, default) in enumerate(_fields_of(cls)):
        variable, tag = f"v{number}", str(number)
        if isinstance(check, Scalar):
            test, keep, needed = check.spelt(variable, tag)
            objects.update(needed)
        else:
            below = f"path + '.{name}' if path else {name!r}"
            test, keep = "True", f"check{tag}({variable}, {below}, strict)"
            objects[f"check{tag}"] = check
        if required:
            gets.append(f"{variable} = value[{name!r}]")
            tests.append(f"({test})")
            if keep != variable:
                keeps.append(f"    {variable} = {keep}")
        else:
            objects[f"default{tag}"] = default
            optional += [
                f"    {variable} = value.get({name!r}, ABSENT)",
                f"    if {variable} is ABSENT: {variable} = default{tag}()",
                *([f"    elif {variable} is None:", f"        if strict: {explain}"] if nullable else []),
                f"    elif not ({test}): {explain}",
                "    else:",
                "        known += 1",
                f"        {variable} = {keep}",
            ]
        arguments.append(f"{name}={variable}")
    lines = [
        "def decode(value, path, strict):",
        f"    if type(value) is not dict and not isinstance(value, Mapping): {explain}",
        *(["    try:", *(f"        {get}" for get in gets), f"    except KeyError: {explain}"] if gets else []),
        f"    if not ({' and '.join(tests) or True}): {explain}",
        *keeps,
        f"    known = {len(gets)}",
        *optional,
        f"    if strict and len(value) != known: {explain}",
        f"    return cls({', '.join(arguments)})",
    ]
    exec("\n".join(lines), objects)
    decoder: Check = objects["decode"]
    return decoder


def decode(cls: type[T], value: Any, *, strict: bool) -> T:
    """Build record ``cls`` from a JSON object.

    :param strict: refuse unknown fields (signed payloads); else they are ignored.
    :raises Malformed: naming the field and what is wanted there.
    """
    found: T = _decoder_of(cls)(value, "", strict)
    return found


def decode_like(cls: type[T], value: Any, before: T) -> T:
    """As :func:`decode` does, not strictly, and sooner: fields that say the same as those of ``before`` are taken from
    it, for they were good."""
    if type(value) is not dict:
        return decode(cls, value, strict=False)
    found: dict[str, Any] = {}
    get = value.get
    for name, check, required, nullable, _ in _fields_of(cls):
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
    names = _names_of(kind)
    if names is None or type(value) is not dict:
        return False
    get = value.get
    return all(says(getattr(had, name), get(name)) for name in names)


_SCALARS = frozenset({str, int, bool, type(None)})


@_once
def _names_of(kind: type[Any]) -> tuple[str, ...] | None:
    """The fields of a record; None for other types, which are few."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def encode(value: Any) -> Any:
    """The JSON value of a record (and of tuples, dicts and plain values in it). ``None`` fields are left out."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    names = _names_of(kind)
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
