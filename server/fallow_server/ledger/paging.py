"""``?after=&limit=`` of listings."""

from __future__ import annotations

from aiohttp import web
from fallow_wire.errors import Malformed
from fallow_wire.limits import INTEGER_MAX


def limit_of(request: web.Request, limit_max: int) -> int:
    """``limit``, or ``limit_max`` where the caller names none. Larger ones are cut to it."""
    return min(limit_max, max(1, number(request.query.get("limit", str(limit_max)), "limit")))


def number(text: str, name: str) -> int:
    """:raises Malformed: unless ``text`` is a whole number of the wire."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(INTEGER_MAX))
    if not digits or int(text) > INTEGER_MAX:
        raise Malformed(f"{name}: a whole number from 0 to {INTEGER_MAX} is wanted")
    return int(text)
