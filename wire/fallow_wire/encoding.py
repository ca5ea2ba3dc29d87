"""Strict base64url and hexadecimal: each value has exactly one text."""

from __future__ import annotations

import base64
import binascii
import re

from .errors import Malformed

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_HEX = re.compile(r"[0-9a-f]*\Z")


def base64url(data: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    """The bytes of ``text``. Padding, other alphabets and stray trailing bits are refused.

    :raises Malformed: when ``text`` is not the one spelling of some bytes.
    """
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        raise Malformed("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Malformed("not base64url") from None
    tail = len(text) % 4
    if tail and base64url(data[-(tail - 1) :]) != text[-tail:]:
        raise Malformed("base64url with stray bits")
    return data


def is_hex(text: str, length: int) -> bool:
    """True for exactly ``length`` lower-case hexadecimal digits."""
    return len(text) == length and _HEX.match(text) is not None
