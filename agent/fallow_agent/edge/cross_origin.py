"""What the pages of any site may do at the service port (CORS): read objects that they have a ticket for, and hand over
receipts. A browser sends nothing of its own along, and keeps the permission for as long as it likes, a day at most."""

from __future__ import annotations

OPEN = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest, Retry-After\r\n"
)
"""Header lines of every answer at an object's address and at that of receipts; no other answer has them."""
KEPT_S = 86_400


def preflight_lines(*, is_object: bool) -> bytes:
    """Header lines that permit what scripts need there."""
    methods, headers = (b"GET, HEAD", b"Range, If-Range, Fallow-Receipt") if is_object else (b"POST", b"Content-Type")
    return (
        b"Access-Control-Allow-Methods: %s\r\nAccess-Control-Allow-Headers: %s\r\nAccess-Control-Max-Age: %d\r\n"
        b"Allow: %s, OPTIONS\r\n"
    ) % (methods, headers, KEPT_S, methods)
