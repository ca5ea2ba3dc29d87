"""Two error families: the peer's fault and our own.

A :class:`PeerError` means that what arrived must be refused; its ``slug`` is stable and travels as the ``type`` of a
problem document (RFC 9457). A :class:`LocalError` means that our own side called the library wrongly.
"""

from __future__ import annotations


class FallowError(Exception):
    """Root of all errors that Fallow raises on purpose. ``slug`` is stable; ``detail`` is for people."""

    slug = "error"

    def __init__(self, detail: str = "", *, slug: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if slug is not None:
            self.slug = slug


class PeerError(FallowError):
    """The other side sent something that must be refused."""

    slug = "refused"


class Malformed(PeerError):
    """The bytes are not the strict form of what they claim to be."""

    slug = "malformed"


class TooLarge(PeerError):
    """The input is larger than the limit of its kind."""

    slug = "too-large"


class BadKey(PeerError):
    """A public key is malformed, or of small order and would verify anything."""

    slug = "bad-key"


class BadSignature(PeerError):
    """A signature does not verify, or its header names another algorithm, kind or key."""

    slug = "bad-signature"


class ChunkMismatch(PeerError):
    """A chunk's bytes do not have the length or the digest that the manifest lists."""

    slug = "chunk-mismatch"


class UnsatisfiableRange(PeerError):
    """A byte range lies outside of the object (HTTP 416)."""

    slug = "range-not-satisfiable"


class LocalError(FallowError):
    """Our own side misused the library: a programming error or a wrong configuration."""

    slug = "local"
