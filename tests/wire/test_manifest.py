"""Manifests: any size through a little memory, every wrong chunk found."""

from __future__ import annotations

import base64
import hashlib
import tracemalloc

import pytest
from fallow_wire.errors import ChunkMismatch, LocalError, PeerError
from fallow_wire.fields import decode, encode
from fallow_wire.jws import Kind, sign
from fallow_wire.limits import CHUNK_BYTES
from fallow_wire.manifest import Manifest, ManifestBuilder, verify_manifest
from hypothesis import given
from hypothesis import strategies as st
from support import key

SCHEDULER = key(1)
KEYS = {SCHEDULER.public.thumbprint(): SCHEDULER.public}


def build(data: bytes, cuts: list[int] | None = None) -> Manifest:
    builder = ManifestBuilder("text/plain")
    last = 0
    for cut in sorted(cuts or []):
        builder.feed(data[last:cut])
        last = max(last, cut)
    builder.feed(data[last:])
    return builder.finish()


@given(st.integers(0, 3 * CHUNK_BYTES + 1), st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=5))
def test_the_pieces_fed_do_not_matter(size: int, cuts: list[int]) -> None:
    data = (b"fallow" * (size // 6 + 1))[:size]
    manifest = build(data, [c for c in cuts if c <= size])
    assert manifest == build(data)
    assert manifest.size == size
    for index in range(len(manifest.chunks)):
        start, length = manifest.chunk_span(index)
        manifest.verify_chunk(index, data[start : start + length])


def test_exact_multiples_and_nothing() -> None:
    assert build(b"").chunks == ()
    assert len(build(bytes(CHUNK_BYTES)).chunks) == 1
    assert len(build(bytes(CHUNK_BYTES + 1)).chunks) == 2


def test_wrong_chunks_are_found() -> None:
    manifest = build(b"a" * (CHUNK_BYTES + 10))
    for index, data in ((0, b"b" * CHUNK_BYTES), (0, b"a" * 10), (1, b"a" * 11), (1, b"")):
        with pytest.raises(ChunkMismatch):
            manifest.verify_chunk(index, data)
    with pytest.raises(LocalError):
        manifest.verify_chunk(2, b"")


def test_a_signed_manifest_is_bound_to_its_id() -> None:
    manifest = build(b"content")
    token = sign(Kind.MANIFEST, manifest, SCHEDULER)
    found = verify_manifest(token, KEYS, manifest.object_id())
    assert found.manifest == manifest
    assert found.object_id == hashlib.sha256(base64.urlsafe_b64decode(token.split(".")[1] + "==")).hexdigest()
    with pytest.raises(ChunkMismatch):
        verify_manifest(token, KEYS, "0" * 64)
    with pytest.raises(PeerError):
        verify_manifest(sign(Kind.MANIFEST, manifest, key(2)), KEYS)


@pytest.mark.parametrize(
    "change", [{"size": 2 * CHUNK_BYTES}, {"chunk_size": 1}, {"chunks": ["x"]}, {"type": "a b"}, {"type": "text"}]
)
def test_manifests_that_do_not_add_up_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(PeerError):
        decode(Manifest, {**encode(build(b"content")), **change}, strict=True)


def test_building_holds_digests_only() -> None:
    piece = bytes(CHUNK_BYTES)
    builder = ManifestBuilder()
    tracemalloc.start()
    for _ in range(256):
        builder.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert builder.finish().size == 256 * CHUNK_BYTES
    assert peak < CHUNK_BYTES
