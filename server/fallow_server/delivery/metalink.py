"""Metalink 4 (RFC 5854): one file, its digests piece by piece, and where to get it from, best first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from fallow_wire.manifest import Manifest

MEDIA_TYPE = "application/metalink4+xml"
SUFFIX = ".meta4"
ORIGIN_PRIORITY = 999_999
"""The least that RFC 5854 allows."""


@dataclass(frozen=True, slots=True)
class MetalinkFile:
    """``urls``: of devices, best first, each with its ticket. ``sha256``: of all bytes, hex."""

    name: str
    manifest: Manifest
    sha256: str
    urls: Sequence[str]
    origin: str


def metalink(file: MetalinkFile) -> str:
    """The document. Pieces are the object's chunks, so their digests are those of the manifest."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<metalink xmlns="urn:ietf:params:xml:ns:metalink">',
        "  <generator>Fallow</generator>",
        f"  <file name={quoteattr(file.name)}>",
        f"    <size>{file.manifest.size}</size>",
        f'    <hash type="sha-256">{file.sha256}</hash>',
    ]
    if file.manifest.chunks:
        lines.append(f'    <pieces length="{file.manifest.chunk_size}" type="sha-256">')
        lines += [f"      <hash>{digest}</hash>" for digest in file.manifest.chunks]
        lines.append("    </pieces>")
    for priority, url in enumerate(file.urls, 1):
        lines.append(f'    <url priority="{priority}">{escape(url)}</url>')
    lines.append(f'    <url priority="{ORIGIN_PRIORITY}">{escape(file.origin)}</url>')
    lines += ["  </file>", "</metalink>", ""]
    return "\n".join(lines)
