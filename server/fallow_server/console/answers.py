"""Answers that pages ask for again and again: one that did not change is not sent again."""

from __future__ import annotations

import hashlib
from typing import Any

from aiohttp import web
from fallow_wire import strict
from fallow_wire.fields import encode


def tagged(request: web.Request, value: Any) -> web.Response:
    """JSON with an ``ETag``; 304 to who has it."""
    return tagged_body(request, strict.dumps(encode(value)), "application/json")


def tagged_body(request: web.Request, body: bytes, media_type: str) -> web.Response:
    """``body`` with an ``ETag``; 304 to who has it. :param media_type: with its parameters."""
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    # Kept by the page's script and not by the browser's cache: it tells of people.
    headers = {"ETag": tag, "Cache-Control": "no-store"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**headers, "Content-Type": media_type})
