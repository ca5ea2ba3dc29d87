"""Strict base64url and hexadecimal: each value has exactly one text."""

from __future__ import annotations

import base64
import binascii
import re
from functools import partial

from .errors import Malformed

try:
    import pybase64
except ImportError:  # routers have none; everything works without it
    pybase64 = None  # type: ignore[assignment]

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_PADDING = {0: "", 2: "==", 3: "="}
_LAST = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
"""What the last character may be where two or three are left over: the others carry bits of nothing."""
_HEX = re.compile(r"[0-9a-f]*\Z")


def base64url(data: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    """The bytes of ``text``. Padding, other alphabets and stray trailing bits are refused.

    :raises Malformed: when ``text`` is not the one spelling of some bytes.
    """
    tail = len(text) % 4
    # Decoders take these three for what they are in plain base64.
    if tail == 1 or "+" in text or "/" in text or "=" in text:
        raise Malformed("not base64url")
    if tail and text[-1] not in _LAST[tail]:
        raise Malformed("base64url with stray bits")
    try:
        return _decode(text + _PADDING[tail])
    except ValueError:  # also for text that is not ASCII
        raise Malformed("not base64url") from None


def _decode_plainly(padded: str) -> bytes:
    return binascii.a2b_base64(padded.encode("ascii").translate(_TO_BASE64), strict_mode=True)


_decode = _decode_plainly if pybase64 is None else partial(pybase64.b64decode, altchars=b"-_", validate=True)


def is_hex(text: str, length: int) -> bool:
    """True for exactly ``length`` lower-case hexadecimal digits."""
    return len(text) == length and _HEX.match(text) is not None
