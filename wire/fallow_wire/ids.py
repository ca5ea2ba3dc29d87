"""Time-ordered ids: UUIDv7 (RFC 9562, section 5.7), so that databases insert them in order."""

from __future__ import annotations

import uuid

from .errors import LocalError


def uuid7(now_ms: int, randomness: bytes) -> str:
    """The UUIDv7 of ``now_ms`` (Unix milliseconds) and 10 bytes of randomness, as text."""
    if len(randomness) != 10 or not 0 <= now_ms < 2**48:
        raise LocalError("uuid7 wants 10 random bytes and a time of 48 bits")
    value = now_ms << 80 | int.from_bytes(randomness, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    digits = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid7_ms(text: str) -> int:
    """The Unix milliseconds in a UUIDv7."""
    return uuid.UUID(text).int >> 80
