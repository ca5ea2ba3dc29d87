"""HTTP semantics that device, scheduler and client share: single byte ranges, validators, digests, problems.

Sources: RFC 9110 (ranges, validators), RFC 9530 (Repr-Digest), RFC 9457 (problem documents).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from .errors import UnsatisfiableRange

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*\Z", re.IGNORECASE)
PROBLEM_MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Span:
    """``length`` bytes from ``start``, out of ``size``. ``partial`` tells 206 from 200."""

    start: int
    length: int
    size: int
    partial: bool

    def content_range(self) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def etag_of(object_id: str) -> str:
    """The strong entity tag of an object."""
    return f'"{object_id}"'


def repr_digest(sha256: bytes) -> str:
    """The ``Repr-Digest`` field for the whole representation."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"


def requested_span(range_header: str | None, if_range: str | None, size: int, etag: str) -> Span:
    """What a GET asks for.

    A range that is not a single byte range is ignored, as RFC 9110 section 14.2 allows; so is one whose ``If-Range``
    is not the current strong tag.

    :raises UnsatisfiableRange: a well-formed single range outside of the object, ``bytes=-0`` included.
    """
    whole = Span(0, size, size, False)
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return whole
    found = _RANGE.match(range_header.strip())
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:
        length = min(int(found[2]), size)
        if length == 0:
            raise UnsatisfiableRange(f"the object has {size} bytes")
        return Span(size - length, length, size, True)
    start = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if last < start and found[2]:
        return whole
    if start >= size:
        raise UnsatisfiableRange(f"the object has {size} bytes")
    return Span(start, min(last, size - 1) - start + 1, size, True)


def not_modified(if_none_match: str | None, etag: str) -> bool:
    """True when ``If-None-Match`` names the tag (weak comparison, RFC 9110 section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(tag.strip().removeprefix("W/") == etag for tag in if_none_match.split(","))


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document. ``type`` is a stable slug; ``fault`` is ``caller``, ``here`` or ``upstream``; ``remedy``
    says what to do."""

    status: int
    type: str
    title: str
    detail: str = ""
    fault: str = "caller"
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        members = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "fault": self.fault,
            "remedy": self.remedy,
        }
        return {name: value for name, value in members.items() if value != ""}
