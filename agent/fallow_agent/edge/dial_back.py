"""Nonces of announced dial-backs: the service port answers only those that the scheduler named in the session."""

from __future__ import annotations

NONCE_LIFETIME_S = 60
"""The scheduler calls within seconds of its message."""
NONCES_MAX = 16


class DialBackNonces:
    """Shared by the session, which adds, and the service port, which asks. A nonce serves several addresses."""

    def __init__(self) -> None:
        self._expires: dict[str, float] = {}

    def add(self, nonce: str, monotonic: float) -> None:
        """Expect ``nonce`` for a minute from ``monotonic`` (seconds); the oldest gives way to the newest."""
        self._expires[nonce] = monotonic + NONCE_LIFETIME_S
        while len(self._expires) > NONCES_MAX:
            del self._expires[next(iter(self._expires))]

    def knows(self, nonce: str, monotonic: float) -> bool:
        """True while the nonce is expected."""
        return self._expires.get(nonce, -1.0) >= monotonic
