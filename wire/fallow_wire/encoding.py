"""Strict base64url and hexadecimal: each value has exactly one text."""

from __future__ import annotations

import base64
import binascii
import re

from .errors import Malformed

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
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
    try:
        written = text.encode("ascii")
    except UnicodeEncodeError:
        raise Malformed("not base64url") from None
    if tail == 1 or written.translate(None, _ALPHABET):
        raise Malformed("not base64url")
    if tail and text[-1] not in _LAST[tail]:
        raise Malformed("base64url with stray bits")
    return binascii.a2b_base64(written.translate(_TO_BASE64) + b"=" * (-tail % 4))


def is_hex(text: str, length: int) -> bool:
    """True for exactly ``length`` lower-case hexadecimal digits."""
    return len(text) == length and _HEX.match(text) is not None
