"""A canary: fetches a chunk as anybody without receipts would, checks it, and tells the ledger what it found.

It takes whichever device the scheduler sends it to, by the same address that curl would use; nothing in its requests
tells it from other consumers, as long as it runs somewhere that devices do not know.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
from fallow_wire.errors import PeerError
from fallow_wire.jws import Kind, parse, split
from fallow_wire.manifest import SignedManifest, verify_manifest
from fallow_wire.tickets import Ticket

from .errors import BadAnswer, Unreachable
from .locations import Location
from .scheduler import Scheduler
from .transport import reason_of

ANSWER_S = 30
"""For one chunk; who is slower is found wrong, for a consumer would have gone by then."""

REASON_CHARS_MAX = 200
"""What the ledger takes."""


@dataclass(frozen=True, slots=True)
class Found:
    """``bytes``: received and right. ``reason`` says what is wrong where the device does not agree."""

    device: str
    jti: str
    bytes: int
    agreed: bool
    reason: str = ""


async def manifest_of(scheduler: Scheduler, object_id: str) -> SignedManifest:
    """:raises BadAnswer: the scheduler's manifest does not verify."""
    path = f"/v1/manifests/{object_id}"
    try:
        return verify_manifest(str(await scheduler.call("GET", path)), await scheduler.keys(), object_id)
    except PeerError as error:
        raise BadAnswer(scheduler.base_url + path, error.detail) from error


async def fetch_one(
    scheduler: Scheduler, location: Location, signed: SignedManifest, draw: random.Random
) -> Found | None:
    """What one device brings of one chunk; None where the origin serves the request itself.

    :raises Unreachable: the scheduler does not answer.
    :raises BadAnswer: it sends to something that is no ticketed address.
    """
    url = f"{scheduler.base_url}/o/{location.object_id}/{quote(location.name or 'file')}"
    try:
        async with scheduler.session.get(url, allow_redirects=False) as response:
            target = response.headers.get("Location") if response.status == 302 else None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(scheduler.base_url, reason_of(error)) from error
    if target is None:
        return None
    try:
        (token,) = parse_qs(urlsplit(target).query)["ticket"]
        ticket = parse(split(token, Kind.TICKET), Ticket)
    except (KeyError, ValueError, PeerError) as error:
        raise BadAnswer(url, "the redirect has no ticket") from error
    index = draw.randrange(len(signed.manifest.chunks))
    start, length = signed.manifest.chunk_span(index)
    headers = {"Range": f"bytes={start}-{start + length - 1}"}
    data = bytearray()
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with scheduler.session.get(target, headers=headers, timeout=timeout, allow_redirects=False) as response:
            if response.status in (429, 503):
                return None  # busy with others or with its household, which is no fault
            if response.status != 206:
                return Found(ticket.aud, ticket.jti, 0, False, f"answered {response.status}")
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > length:
                    return Found(ticket.aud, ticket.jti, 0, False, "more bytes than were asked for")
        signed.manifest.verify_chunk(index, bytes(data))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Found(ticket.aud, ticket.jti, 0, False, _fault_of(error, target))
    except PeerError as error:
        return Found(ticket.aud, ticket.jti, 0, False, error.detail[:REASON_CHARS_MAX])
    return Found(ticket.aud, ticket.jti, length, True)


def _fault_of(error: Exception, target: str) -> str:
    """For the ledger, which keeps no device's address."""
    reason = reason_of(error)
    named = (urlsplit(target).hostname or "") in reason
    return type(error).__name__ if named else reason[:REASON_CHARS_MAX]
