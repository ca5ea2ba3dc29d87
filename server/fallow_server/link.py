"""From scheduler to ledger: what the ledger must know, and the escrow that it lends.

The shapes are what ``/v1/link/…`` of the ledger takes. Everything is idempotent and repeated until acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fallow_wire.fields import hexadecimal, integer, items, one_of, record, text, word
from fallow_wire.keys import Jwk, JwkSet
from fallow_wire.lan import HTTP_URL

TOKENS_PER_ACCOUNT_MAX = 16


@dataclass(frozen=True, slots=True)
class LinkScheduler:
    """``PUT /v1/link/scheduler``: who issues tickets, with which keys."""

    url: Annotated[str, HTTP_URL]
    jwks: Annotated[JwkSet, record(JwkSet)]


@dataclass(frozen=True, slots=True)
class LinkAccount:
    """``PUT /v1/link/accounts/{id}``: replaces what the ledger knew. Tokens as ``hash_token`` gives them."""

    role: Annotated[str, one_of("owner", "publisher", "operator")]
    name: Annotated[str, text(128)]
    token_hashes: Annotated[tuple[str, ...], items(hexadecimal(64), TOKENS_PER_ACCOUNT_MAX)]


@dataclass(frozen=True, slots=True)
class LinkDevice:
    """``PUT /v1/link/devices/{did}``: replaces what the ledger knew of it.

    No ``owner``: the device is bound to nobody and its batches are refused. ``token_hash`` is that of its ledger token.
    """

    jwk: Annotated[Jwk, record(Jwk)]
    owner: Annotated[str | None, word()] = None
    token_hash: Annotated[str | None, hexadecimal(64)] = None


@dataclass(frozen=True, slots=True)
class LinkReservation:
    """``POST /v1/link/reservations``. ``hour`` counts hours since 1970: tickets with ``iat // 3600 == hour``."""

    publisher: Annotated[str, word()]
    hour: Annotated[int, integer()]
    micro_points: Annotated[int, integer(1)]


@dataclass(frozen=True, slots=True)
class Granted:
    """Answer to a reservation: what was moved from escrow, from 0 to what was asked."""

    granted: Annotated[int, integer()]
