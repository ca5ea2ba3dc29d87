"""Opaque bearer tokens: 32 random bytes behind a prefix that tells people what they hold. Stored as SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets

from fallow_wire.encoding import base64url

OWNER, PUBLISHER, OPERATOR = "fo_", "fp_", "fa_"
CLAIM, DEVICE, LINK = "fc_", "fd_", "fl_"


def new_token(prefix: str) -> str:
    """``prefix`` and 43 characters of base64url; 256 bits, so a plain hash of it cannot be searched back."""
    return prefix + base64url(secrets.token_bytes(32))


def hash_token(token: str) -> str:
    """Hexadecimal SHA-256: what databases hold instead of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
