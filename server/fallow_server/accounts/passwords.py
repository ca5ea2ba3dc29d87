"""Passwords of owners: their form, and how they are kept. scrypt (RFC 7914) of the standard library."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata

from fallow_wire.errors import Malformed

PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 10, 128
LOGIN_CHARS_MIN, LOGIN_CHARS_MAX = 2, 64
SALT_BYTES = 16
_COST, _BLOCK = 2**15, 8
"""32 MiB and about a tenth of a second for each guess."""
_MEMORY_BYTES_MAX = 2 * 128 * _COST * _BLOCK


def normal_login(login: str) -> str:
    """A login as it is compared: without regard to case and to ways of writing the same characters.

    :raises Malformed: when it is too short, too long, or holds what cannot be seen.
    """
    found = unicodedata.normalize("NFKC", login).strip().casefold()
    if not LOGIN_CHARS_MIN <= len(found) <= LOGIN_CHARS_MAX or not found.isprintable() or " " in found:
        raise Malformed(f"login: {LOGIN_CHARS_MIN} to {LOGIN_CHARS_MAX} characters without spaces are wanted")
    return found


def check_new(password: str, login: str) -> None:
    """:raises Malformed: for a new password that could be guessed at once."""
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise Malformed(f"password: {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters are wanted")
    if len(set(password)) < 4 or password.casefold() == login:
        raise Malformed("password: one that cannot be guessed at once is wanted")


def hashed(password: str) -> str:
    """``salt$digest``, hex. Slow by intent."""
    salt = secrets.token_bytes(SALT_BYTES)
    return f"{salt.hex()}${_digest(password, salt).hex()}"


def matches(password: str, kept: str | None) -> bool:
    """Whether ``password`` is the one that was kept; takes as long where nothing was."""
    salt, _, digest = (kept or f"{'00' * SALT_BYTES}$").partition("$")
    return hmac.compare_digest(_digest(password, bytes.fromhex(salt)).hex(), digest)


def _digest(password: str, salt: bytes) -> bytes:
    text = unicodedata.normalize("NFKC", password).encode()
    return hashlib.scrypt(text, salt=salt, n=_COST, r=_BLOCK, p=1, maxmem=_MEMORY_BYTES_MAX, dklen=32)
