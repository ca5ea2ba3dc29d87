"""``POST /v1/devices``: a device proves its key and is bound to the owner of a claim token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .fields import device_id, integer, record, text, word
from .jws import Kind, Signed, verify_self_signed
from .keys import Jwk, JwkSet
from .session import Policy


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Signed by the device key it names. ``iat`` informs only: a fresh router's clock may stand at 1970."""

    did: Annotated[str, device_id()]
    jwk: Annotated[Jwk, record(Jwk)]
    claim_token: Annotated[str, text(128, 8)]
    model: Annotated[str, text(128)]
    version: Annotated[str, text(64, 1)]
    iat: Annotated[int, integer()]
    nonce: Annotated[str, text(64, 16)]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The scheduler's answer. ``ledger_token`` lets the device read its owner's points and redeem them."""

    device_id: Annotated[str, device_id()]
    owner: Annotated[str, word()]
    ledger: Annotated[str, text(256, 1)]
    ledger_token: Annotated[str, text(128, 8)]
    jwks: Annotated[JwkSet, record(JwkSet)]
    policy: Annotated[Policy, record(Policy)]


def verify_enrolment(token: str | bytes) -> Signed[Enrolment]:
    """:raises PeerError: unless the key in it signed it and is the key of its ``did``."""
    return verify_self_signed(token, Kind.ENROLMENT, Enrolment)
