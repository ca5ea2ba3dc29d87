"""Signed kinds: compact JWS (RFC 7515) with Ed25519 (RFC 8037), kind pinned by ``typ`` (RFC 8725, section 3.11).

The header is exactly ``{"alg":"EdDSA","typ":…,"kid":…}``. Received bytes are verified first and parsed after; callers
keep :attr:`Signed.token` and never write a signed thing anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from . import limits
from .encoding import base64url, from_base64url
from .errors import BadSignature, Malformed, TooLarge
from .fields import decode, encode
from .keys import Jwk, PrivateKey, PublicKey
from .strict import dumps, loads_object

T = TypeVar("T")


class NamesItsKey(Protocol):
    """A record of a device that carries the key it is signed with."""

    @property
    def did(self) -> str: ...
    @property
    def jwk(self) -> Jwk: ...


D = TypeVar("D", bound=NamesItsKey)

_HEADER_BYTES_MAX = 256
_PLAIN_KID = re.compile(rb"[A-Za-z0-9_-]+\Z")
"""Needs no escape in JSON."""
HEADER_PART_BYTES_MAX = 343
"""256 bytes in base64url, and the dot."""


class Kind(Enum):
    """The signed kinds: their ``typ`` and the size limit of the whole compact JWS, in bytes."""

    ENROLMENT = ("fallow-enrol+jwt", limits.ENROLMENT_BYTES_MAX)
    TICKET = ("fallow-ticket+jwt", limits.TICKET_BYTES_MAX)
    RECEIPT = ("fallow-receipt+jwt", limits.RECEIPT_BYTES_MAX)
    BATCH = ("fallow-batch+jwt", limits.BATCH_BYTES_MAX)
    ACK = ("fallow-ack+jwt", limits.ACK_BYTES_MAX)
    STATEMENT = ("fallow-statement+jwt", limits.STATEMENT_BYTES_MAX)
    HEAD = ("fallow-head+jwt", limits.HEAD_BYTES_MAX)
    TARIFF = ("fallow-tariff+jwt", limits.TARIFF_BYTES_MAX)
    MANIFEST = ("fallow-manifest+jwt", limits.MANIFEST_BYTES_MAX)
    HARM = ("fallow-harm+jwt", limits.HARM_BYTES_MAX)

    def __init__(self, typ: str, size_max: int) -> None:
        self.typ = typ
        self.size_max = size_max


@dataclass(frozen=True, slots=True)
class Signed(Generic[T]):
    """A verified signed thing: its value, the id of the key, and the text exactly as received or made."""

    value: T
    kid: str
    token: str


class Unverified(NamedTuple):
    """A token cut into its parts; nothing in it is to be believed yet."""

    kid: str
    signing_input: bytes
    payload: bytes
    signature: bytes
    token: str


def sign(kind: Kind, value: Any, key: PrivateKey, *, kid: str | None = None) -> str:
    """The compact JWS of record ``value``. ``kid`` defaults to the thumbprint of the key."""
    signing_input = _header_of(kind, kid or key.public.thumbprint()) + "." + base64url(dumps(encode(value)))
    token = signing_input + "." + base64url(key.sign(signing_input.encode("ascii")))
    if len(token) > kind.size_max:
        raise TooLarge(f"{kind.typ} of {len(token)} bytes; the limit is {kind.size_max}")
    return token


@lru_cache(maxsize=64)
def _header_of(kind: Kind, kid: str) -> str:
    return base64url(dumps({"alg": "EdDSA", "typ": kind.typ, "kid": kid}))


def split(token: str | bytes, kind: Kind) -> Unverified:
    """Cut a token and check its size and header, not its signature.

    :raises TooLarge: over the kind's limit.
    :raises Malformed: not three parts of strict base64url.
    :raises BadSignature: another ``alg`` or ``typ``, or a header that is not exactly the three members.
    """
    if len(token) > kind.size_max:
        raise TooLarge(f"{len(token)} bytes; the limit of {kind.typ} is {kind.size_max}")
    if not token.isascii():
        raise Malformed("a compact JWS is ASCII text")
    if isinstance(token, bytes):
        token = token.decode("ascii")
    parts = token.split(".")
    if len(parts) != 3:
        raise Malformed("a compact JWS has three parts")
    kid = _kid_of(parts[0], kind)
    signature = from_base64url(parts[2])
    if len(signature) != 64:
        raise BadSignature("an Ed25519 signature has 64 bytes")
    signing_input = token[: token.rindex(".")].encode("ascii")
    return Unverified(kid, signing_input, from_base64url(parts[1]), signature, token)


@lru_cache(maxsize=1024)
def _kid_of(header_part: str, kind: Kind) -> str:
    """As :func:`_kid_in`. A scheduler's tickets all have one header; consumers' receipts each have their own."""
    return _kid_in(header_part, kind)


def kid_of_start(start: bytes, kind: Kind) -> str:
    """The ``kid`` of a token of which only the first :data:`HEADER_PART_BYTES_MAX` bytes (or all) are there.

    For refusing strangers before the rest of a large token is read. Raises as :func:`split`.
    """
    header, dot, _ = start[:HEADER_PART_BYTES_MAX].partition(b".")
    if not dot or not header.isascii():
        raise Malformed("a compact JWS begins with its header and a dot")
    return _kid_in(header.decode("ascii"), kind)


@lru_cache(maxsize=len(Kind))
def _around_kid(kind: Kind) -> tuple[bytes, bytes]:
    """What stands before and after the ``kid`` in a canonical header."""
    before, after = dumps({"alg": "EdDSA", "typ": kind.typ, "kid": ""}).split(b'""')
    return before + b'"', b'"' + after


def _kid_in(header_part: str, kind: Kind) -> str:
    data = from_base64url(header_part)
    before, after = _around_kid(kind)
    if data.startswith(before) and data.endswith(after):
        # As all programs write it. Each consumer has a key of its own, so that headers of receipts are all new.
        kid_bytes = data[len(before) : -len(after)]
        if len(data) <= _HEADER_BYTES_MAX and _PLAIN_KID.match(kid_bytes):
            return kid_bytes.decode("ascii")
    header = loads_object(data, _HEADER_BYTES_MAX)
    if header.keys() != {"alg", "typ", "kid"} or header["alg"] != "EdDSA":
        raise BadSignature("the header must be exactly alg (EdDSA), typ and kid")
    if header["typ"] != kind.typ:
        raise BadSignature(f"a {kind.typ} is wanted")
    kid = header["kid"]
    if not isinstance(kid, str) or not kid:
        raise BadSignature("kid must name a key")
    return kid


def parse(unverified: Unverified, cls: type[T]) -> T:
    """The payload as record ``cls``, strictly. For use before :func:`check` only where a cheap test comes first."""
    payload = loads_object(unverified.payload, len(unverified.payload))
    return decode(cls, payload, strict=True)


def check(unverified: Unverified, key: PublicKey) -> None:
    """:raises BadSignature: unless ``key`` signed it."""
    key.verify(unverified.signature, unverified.signing_input)


def verify(token: str | bytes, kind: Kind, cls: type[T], key_of: Callable[[str], PublicKey | None]) -> Signed[T]:
    """Verify the received bytes, then parse them strictly.

    :param key_of: gives the key of a ``kid``, or None when it is not trusted.
    :raises PeerError: naming what is wrong.
    """
    unverified = split(token, kind)
    key = key_of(unverified.kid)
    if key is None:
        raise BadSignature("signed with a key that is not known here")
    check(unverified, key)
    return Signed(parse(unverified, cls), unverified.kid, unverified.token)


def verify_self_signed(token: str | bytes, kind: Kind, cls: type[D]) -> Signed[D]:
    """A record of a device that names its own key.

    :raises PeerError: unless the key in it signed it and is the key of its ``did``.
    """
    unverified = split(token, kind)
    value = parse(unverified, cls)
    key = PublicKey.from_jwk(value.jwk)
    check(unverified, key)
    if key.device_id() != value.did or unverified.kid != value.did:
        raise BadSignature("the device id is not that of the key")
    return Signed(value, unverified.kid, unverified.token)
