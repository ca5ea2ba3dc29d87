"""HTTP/1.1 as the service port needs it: a strict reading of request heads, and response heads. Pure.

RFC 9112, without what this port has no use for: no transfer codings in requests (411), no trailers, no folded lines,
no bare CR or LF. Whatever could be read in two ways is refused, and the connection is closed after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fallow_wire.http import PROBLEM_MEDIA_TYPE, Problem
from fallow_wire.strict import dumps

HEAD_BYTES_MAX = 16 * 1024
"""A ticket (4 KiB) in the target, a receipt (2 KiB) in a header, and what browsers add."""
TARGET_BYTES_MAX = 8 * 1024
FIELDS_MAX = 64
"""Browsers send about 20."""

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\x21-\x7e\x80-\xff]+(?:[ \t]+[\x21-\x7e\x80-\xff]+)*)?)[ \t]*\r\n"
)
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,15}\Z")
_SINGLE = frozenset({"host", "content-length", "range", "if-range", "fallow-receipt"})
"""Two of these would leave it open which one counts."""


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` and ``query`` as sent, not percent-decoded; names of ``fields`` in lower case."""

    method: str
    path: str
    query: str
    fields: Mapping[str, str]
    body_bytes: int
    keep_alive: bool


class BadRequest(Exception):
    """The caller's head cannot be read in exactly one way; answer ``problem`` and close."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(status, slug, HTTPStatus(status).phrase, detail, remedy="send a plain HTTP/1.1 request")


def head_length(data: bytes | bytearray) -> int:
    """Length of the complete head at the start of ``data``, its empty line included, or 0 while it is incomplete.

    :raises BadRequest: when it is too long already.
    """
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    if end >= 0:
        return end + 4
    if len(data) >= HEAD_BYTES_MAX:
        if data.find(b"\n", 0, TARGET_BYTES_MAX) < 0:
            raise BadRequest(414, "uri-too-long", f"the target may have {TARGET_BYTES_MAX} bytes")
        raise BadRequest(431, "head-too-large", f"a request head may have {HEAD_BYTES_MAX} bytes")
    return 0


def read_head(head: bytes) -> Request:
    """Read a complete head, with its empty line.

    :raises BadRequest: for anything but the strict form.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadRequest(400, "bad-request", "the request line is not METHOD target HTTP/1.1")
    if line.end(2) - line.start(2) > TARGET_BYTES_MAX:
        raise BadRequest(414, "uri-too-long", f"the target may have {TARGET_BYTES_MAX} bytes")
    fields = _read_fields(head, line.end())
    minor = line[3]
    if minor == b"1" and "host" not in fields:
        raise BadRequest(400, "bad-request", "Host is missing")
    if "transfer-encoding" in fields:
        raise BadRequest(411, "length-required", "a body is sent with Content-Length here")
    length = fields.get("content-length", "0")
    if not _DIGITS.match(length):
        raise BadRequest(400, "bad-request", "Content-Length is not a number")
    options = {option.strip().lower() for option in fields.get("connection", "").split(",")}
    keep_alive = "close" not in options and (minor == b"1" or "keep-alive" in options)
    target = line[2].decode("ascii")
    if not target.startswith("/"):
        target = _ABSOLUTE.sub("", target, count=1) or "/"
    path, _, query = target.partition("?")
    return Request(line[1].decode("ascii"), path, query, fields, int(length), keep_alive)


def _read_fields(head: bytes, at: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    end = len(head) - 2
    for _ in range(FIELDS_MAX):
        if at == end:
            return fields
        found = _FIELD.match(head, at)
        if found is None:
            raise BadRequest(400, "bad-request", "a header line is not name: value")
        name = found[1].decode("ascii").lower()
        value = found[2].decode("latin-1")
        if name in fields:
            if name in _SINGLE:
                raise BadRequest(400, "bad-request", f"{name} is there twice")
            value = f"{fields[name]}, {value}"
        fields[name] = value
        at = found.end()
    if at == end:
        return fields
    raise BadRequest(431, "head-too-large", f"at most {FIELDS_MAX} header lines")


def head(status: int, lines: bytes, keep_alive: bool) -> bytes:
    """A response head from its ready header ``lines`` (each ends with CRLF)."""
    connection = b"" if keep_alive else b"Connection: close\r\n"
    return b"HTTP/1.1 %d %s\r\n%s%s\r\n" % (status, _PHRASES[status], lines, connection)


def problem_answer(
    problem: Problem, lines: bytes, keep_alive: bool, retry_after_s: int | None, with_body: bool
) -> bytes:
    """The whole answer that carries ``problem``; ``lines`` are header lines to send along."""
    body = dumps(problem.as_json())
    lines += b"Content-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % (
        PROBLEM_MEDIA_TYPE.encode("ascii"),
        len(body),
    )
    if retry_after_s is not None:
        lines += b"Retry-After: %d\r\n" % retry_after_s
    return head(problem.status, lines, keep_alive) + (body if with_body else b"")


_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
