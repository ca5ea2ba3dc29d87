"""How errors are said: the problem documents of a peer's faults, of HTTP's own, and of ours."""

from __future__ import annotations

from fallow_wire.errors import PeerError
from fallow_wire.http import Problem

_STATUS_OF_SLUG = {
    "malformed": 400,
    "unknown-type": 400,
    "too-large": 413,
    "bad-key": 400,
    "bad-signature": 403,
    "chunk-mismatch": 400,
    "range-not-satisfiable": 416,
}
_TITLE_OF_SLUG = {
    "malformed": "The request is not well-formed",
    "too-large": "The request is too large",
    "bad-key": "The public key is not acceptable",
    "bad-signature": "The signature does not verify",
    "range-not-satisfiable": "The range lies outside of the object",
}

INTERNAL = Problem(
    500,
    "internal",
    "The server failed",
    fault="here",
    remedy="Try again later; the server's log tells the operator more.",
)
_SLUG_OF_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 417: "expectation-failed"}


def problem_of(error: PeerError) -> Problem:
    """The problem that answers a :class:`PeerError`, status by slug."""
    status = _STATUS_OF_SLUG.get(error.slug, 400)
    return Problem(status, error.slug, _TITLE_OF_SLUG.get(error.slug, "The request was refused"), error.detail)


def problem_of_status(status: int, reason: str) -> Problem:
    return Problem(status, _SLUG_OF_STATUS.get(status, "refused"), reason, fault="caller" if status < 500 else "here")
