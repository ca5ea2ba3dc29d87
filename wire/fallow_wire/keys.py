"""Ed25519 keys (RFC 8032), their JWKs (RFC 8037) and the ids made from them.

Public keys of small order are refused: under such a key one signature verifies for many messages. The check knows
all eight points in every encoding, because it looks at the y coordinate modulo p and ignores the sign of x.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Annotated

from nacl.bindings import (
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_keypair,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from .encoding import base64url, from_base64url
from .errors import BadKey, BadSignature
from .fields import base64url_bytes, items, one_of, record, text
from .strict import dumps

_P = 2**255 - 19
_Y_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y_ORDER_8, _P - _Y_ORDER_8})


@dataclass(frozen=True, slots=True)
class Jwk:
    """A public key as JSON (RFC 8037). ``x`` is base64url of the 32 bytes."""

    kty: Annotated[str, one_of("OKP")]
    crv: Annotated[str, one_of("Ed25519")]
    x: Annotated[str, base64url_bytes(32)]
    kid: Annotated[str | None, text(64, 1)] = None


@dataclass(frozen=True, slots=True)
class JwkSet:
    """``/.well-known/jwks.json`` (RFC 7517): the key in use first, retiring keys after it."""

    keys: Annotated[tuple[Jwk, ...], items(record(Jwk), 16)]


class PublicKey:
    """A checked Ed25519 public key.

    :raises BadKey: for another length, a y coordinate at or above p, or a point of small order.
    """

    __slots__ = ("_thumbprint", "raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise BadKey("an Ed25519 public key has 32 bytes")
        y = int.from_bytes(raw, "little") & (2**255 - 1)
        if y % _P in _SMALL_ORDER_Y:
            raise BadKey("public key of small order")
        if y >= _P:
            raise BadKey("public key is not canonical")
        self.raw = raw
        self._thumbprint: str | None = None

    def verify(self, signature: bytes, message: bytes) -> None:
        """:raises BadSignature: unless ``signature`` is this key's over ``message``."""
        if len(signature) != crypto_sign_BYTES:
            raise BadSignature("an Ed25519 signature has 64 bytes")
        try:
            crypto_sign_open(signature + message, self.raw)
        except BadSignatureError:
            raise BadSignature("the signature does not verify") from None

    @classmethod
    def from_jwk(cls, jwk: Jwk) -> PublicKey:
        return cls(from_base64url(jwk.x))

    def jwk(self, *, with_kid: bool = False) -> Jwk:
        return Jwk("OKP", "Ed25519", base64url(self.raw), self.thumbprint() if with_kid else None)

    def thumbprint(self) -> str:
        """RFC 7638, base64url of SHA-256: the ``kid`` of scheduler, ledger and consumer keys."""
        if self._thumbprint is None:
            members = {"crv": "Ed25519", "kty": "OKP", "x": base64url(self.raw)}
            self._thumbprint = base64url(hashlib.sha256(dumps(members)).digest())
        return self._thumbprint

    def device_id(self) -> str:
        """``fd-`` and lower-case base32 of the first 15 bytes of SHA-256: the ``kid`` of device keys."""
        head = hashlib.sha256(self.raw).digest()[:15]
        return "fd-" + base64.b32encode(head).decode("ascii").lower()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class PrivateKey:
    """An Ed25519 private key, kept as its 32-byte seed."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise BadKey("an Ed25519 seed has 32 bytes")
        self.seed = seed
        public, self._key = crypto_sign_seed_keypair(seed)
        self.public = PublicKey(public)

    @classmethod
    def generate(cls) -> PrivateKey:
        # libsodium's secret key is the seed and the public key.
        return cls(crypto_sign_keypair()[1][:32])

    def sign(self, message: bytes) -> bytes:
        return crypto_sign(message, self._key)[:crypto_sign_BYTES]
