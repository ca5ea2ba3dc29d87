"""Objects: bytes cut into chunks, and the manifest that names them.

An object's id is the hexadecimal SHA-256 of its canonical manifest; the scheduler signs manifests. Building and
checking work chunk by chunk, so that an object of any size passes through a few MiB of memory.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from .errors import ChunkMismatch, LocalError, Malformed, TooLarge
from .fields import encode, hexadecimal, integer, items, matching
from .jws import Kind, Unverified, check, parse, split
from .keys import PublicKey
from .limits import CHUNK_BYTES, MANIFEST_CHUNKS_MAX
from .strict import dumps

_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+(; ?[a-z0-9-]+=[A-Za-z0-9!#$&^_.+-]+)?\Z")

OBJECT_ID = hexadecimal(64)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Size, media type and the SHA-256 of each chunk. All chunks but the last have ``chunk_size`` bytes."""

    size: Annotated[int, integer()]
    type: Annotated[str, matching(_MEDIA_TYPE, "a media type such as video/mp4", 127)]
    chunk_size: Annotated[int, integer(CHUNK_BYTES, CHUNK_BYTES)]
    chunks: Annotated[tuple[str, ...], items(hexadecimal(64), MANIFEST_CHUNKS_MAX)]

    def __post_init__(self) -> None:
        if len(self.chunks) != -(-self.size // self.chunk_size):
            raise Malformed("the manifest's number of chunks does not fit its size")

    def object_id(self) -> str:
        return hashlib.sha256(dumps(encode(self))).hexdigest()

    def chunk_span(self, index: int) -> tuple[int, int]:
        """Offset and length of chunk ``index``, in bytes."""
        if not 0 <= index < len(self.chunks):
            raise LocalError(f"no chunk {index}")
        start = index * self.chunk_size
        return start, min(self.chunk_size, self.size - start)

    def verify_chunk(self, index: int, data: bytes | memoryview) -> None:
        """:raises ChunkMismatch: unless ``data`` is exactly chunk ``index``."""
        if len(data) != self.chunk_span(index)[1]:
            raise ChunkMismatch(f"chunk {index} has {len(data)} bytes")
        if hashlib.sha256(data).hexdigest() != self.chunks[index]:
            raise ChunkMismatch(f"chunk {index} has another digest than the manifest lists")


class ManifestBuilder:
    """Feed it the bytes of an object in pieces of any size; it holds only digests."""

    def __init__(self, media_type: str = "application/octet-stream") -> None:
        self._type = media_type
        self._size = 0
        self._chunks: list[str] = []
        self._current = hashlib.sha256()
        self._filled = 0

    def feed(self, data: bytes | memoryview) -> None:
        """:raises TooLarge: when the object needs more chunks than a manifest holds."""
        view = memoryview(data)
        while view:
            piece = view[: CHUNK_BYTES - self._filled]
            self._current.update(piece)
            self._filled += len(piece)
            self._size += len(piece)
            view = view[len(piece) :]
            if self._filled == CHUNK_BYTES:
                self._close_chunk()

    def _close_chunk(self) -> None:
        if len(self._chunks) >= MANIFEST_CHUNKS_MAX:
            raise TooLarge(f"an object has at most {MANIFEST_CHUNKS_MAX} chunks of 1 MiB")
        self._chunks.append(self._current.hexdigest())
        self._current = hashlib.sha256()
        self._filled = 0

    def finish(self) -> Manifest:
        if self._filled:
            self._close_chunk()
        return Manifest(self._size, self._type, CHUNK_BYTES, tuple(self._chunks))


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A verified manifest with its id and the signed text as received."""

    manifest: Manifest
    object_id: str
    token: str


def verify_manifest(token: str | bytes, keys: dict[str, PublicKey], object_id: str | None = None) -> SignedManifest:
    """Check signature, strict form and, where given, that the manifest is that of ``object_id``.

    :param keys: the scheduler's keys by ``kid``.
    :raises PeerError: naming what is wrong.
    """
    unverified: Unverified = split(token, Kind.MANIFEST)
    if unverified.kid not in keys:
        raise Malformed("the manifest is signed with a key that is not known here")
    check(unverified, keys[unverified.kid])
    manifest = parse(unverified, Manifest)
    found = hashlib.sha256(unverified.payload).hexdigest()
    if dumps(encode(manifest)) != unverified.payload:
        raise Malformed("the manifest is not in canonical form")
    if object_id is not None and found != object_id:
        raise ChunkMismatch("this is the manifest of another object")
    return SignedManifest(manifest, found, unverified.token)
