"""Strict JSON: one reading of any bytes, or a named error.

Refused: duplicate keys, NaN and infinities, floats, integers outside 0 … 2^53-1, nesting over 8, sizes over the kind's
limit, text that is not UTF-8 and lone surrogates. Written form is canonical: keys sorted, no white space, UTF-8
(RFC 8785 restricted to integers and strings).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .errors import LocalError, Malformed, TooLarge
from .limits import INTEGER_MAX, JSON_DEPTH_MAX, JSON_DIGITS_MAX

try:
    import orjson
except ImportError:  # routers have none; everything works without it
    orjson = None  # type: ignore[assignment]


def _no_float(text: str) -> NoReturn:
    raise Malformed(f"floating-point number {text[:20]}; numbers are integers")


def _no_constant(text: str) -> NoReturn:
    raise Malformed(f"{text} is not JSON")


def _integer(text: str) -> int:
    if len(text) > JSON_DIGITS_MAX:
        raise Malformed("integer outside 0 … 2^53-1")
    value = int(text)
    if not 0 <= value <= INTEGER_MAX or text.startswith("-"):
        raise Malformed("integer outside 0 … 2^53-1")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("duplicate key in a JSON object")
    return found


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_decoder = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_no_float,
    parse_int=_integer,
    parse_constant=_no_constant,
)


def _check_depth(value: Any, left: int = JSON_DEPTH_MAX) -> None:
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return
    if left == 0:
        raise Malformed(f"JSON nested deeper than {JSON_DEPTH_MAX}")
    for item in inner:
        if isinstance(item, (dict, list)):
            _check_depth(item, left - 1)


_CONTAINERS = (dict, list, tuple)


def _is_plain(value: Any, left: int = JSON_DEPTH_MAX) -> bool:
    """Made of objects, arrays, text, booleans, null and integers in range, and not too deep."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(0 <= value <= INTEGER_MAX)
    if left == 0 or kind not in _CONTAINERS:
        return False
    for item in value.values() if kind is dict else value:
        # Here and not in a call for each: nearly all that is in a message is text or a number.
        kind = type(item)
        if kind is int:
            if not 0 <= item <= INTEGER_MAX:
                return False
        elif kind is not str and not _is_plain(item, left - 1):
            return False
    return True


def _read_canonical(data: bytes | str) -> Any:
    """The value of ``data`` if that is in canonical form, as all that programs sign is; else None.

    A parser that takes too much is safe here: what is written again to the same bytes had no duplicate keys, no white
    space and no second spelling of anything.
    """
    try:
        value = orjson.loads(data)
        canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    written = data.encode("utf-8") if isinstance(data, str) else data
    return value if canonical == written and _is_plain(value) else None


def loads(data: bytes | str, size_max: int) -> Any:
    """Read ``data`` strictly.

    :raises TooLarge: over ``size_max`` bytes.
    :raises Malformed: anything else that is not the strict form.
    """
    if len(data) > size_max:
        raise TooLarge(f"{len(data)} bytes; the limit is {size_max}")
    if orjson is not None:
        value = _read_canonical(data)
        if value is not None:
            return value
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        if isinstance(data, str):
            text.encode("utf-8")
        value = _decoder.decode(text)
        if "\\u" in text:
            # An escaped lone surrogate decodes to text that no UTF-8 can carry.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise Malformed("text is not UTF-8") from None
    except RecursionError:
        raise Malformed(f"JSON nested deeper than {JSON_DEPTH_MAX}") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg} at character {error.pos}") from None
    _check_depth(value)
    return value


def loads_object(data: bytes | str, size_max: int) -> dict[str, Any]:
    """Like :func:`loads`, for a JSON object and nothing else."""
    value = loads(data, size_max)
    if not isinstance(value, dict):
        raise Malformed("a JSON object is wanted")
    return value


def dumps(value: Any) -> bytes:
    """The canonical bytes of a JSON value made of objects, arrays, strings, integers, booleans and null."""
    try:
        if orjson is not None and _is_plain(value):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        pass  # keys that are no text, or no JSON at all: the standard library has the say
    try:
        return _encoder.encode(value).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise LocalError(f"not a JSON value: {error}") from None
