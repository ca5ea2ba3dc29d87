"""Asking a provider over its webhook: what is sent, how it is signed, and what an answer means.

Two questions, both ``POST`` to the reward's address and both under the redemption's id as ``Idempotency-Key``::

    {"kind": "fulfil", …}   do it, unless it was done under this key before
    {"kind": "ask", …}      say what became of it, and do nothing

Only an answer of status 200 that is ``{"outcome": "fulfilled", "code"?}``, ``{"outcome": "voided", "reason"?}`` or
``{"outcome": "pending"}`` says anything. ``voided`` is a promise: it was not done and never will be under this key.
Everything else – another status, a connection that broke, an answer that is not of the form – leaves open whether it
was done.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import aiohttp
from aiohttp.resolver import ThreadedResolver
from fallow_wire.errors import PeerError
from fallow_wire.fields import decode, encode, integer, one_of, text, word
from fallow_wire.strict import dumps, loads_object

from ..catalogue.addresses import AddressRefused, GuardedResolver, refused_literal

ANSWER_BYTES_MAX = 8 * 1024
"""A code and a reason, and room."""
CODE_CHARS_MAX = 512
REASON_CHARS_MAX = 256
CONNECT_S_MAX = 10
CONNECTIONS_MAX = 16
USER_AGENT = "fallow"


@dataclass(frozen=True, slots=True)
class Order:
    """What a provider is told. ``kind``: ``fulfil`` or ``ask``."""

    kind: Annotated[str, one_of("fulfil", "ask")]
    redemption: Annotated[str, word()]
    reward: Annotated[str, word()]
    title: Annotated[str, text(128, 1)]
    owner: Annotated[str, word()]
    micro_points: Annotated[int, integer(1)]
    created_at: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class Webhook:
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Fulfilled:
    code: str | None


@dataclass(frozen=True, slots=True)
class Voided:
    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """Whether it was done is open; ``reason`` says why."""

    reason: str


Outcome = Fulfilled | Voided | Later


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: Annotated[str, one_of("fulfilled", "voided", "pending")]
    code: Annotated[str | None, text(CODE_CHARS_MAX, 1)] = None
    reason: Annotated[str | None, text(REASON_CHARS_MAX)] = None


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """``sha256=`` and the HMAC-SHA256 over ``fallow-webhook-v1\\n<timestamp>\\n<body>``, hexadecimal."""
    signed = b"fallow-webhook-v1\n%d\n%b" % (timestamp, body)
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def headers_of(webhook: Webhook, order: Order, timestamp: int, body: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": order.redemption,
        "Fallow-Timestamp": str(timestamp),
        "Fallow-Signature": signature(webhook.secret, timestamp, body),
    }


def read_answer(status: int, body: bytes) -> Outcome:
    if status != 200:
        return Later(f"the provider answered {status}")
    try:
        answer = decode(_Answer, loads_object(body, ANSWER_BYTES_MAX), strict=False)
    except PeerError as error:
        return Later(f"the provider's answer cannot be read: {error.detail}"[:REASON_CHARS_MAX])
    if answer.outcome == "fulfilled":
        return Fulfilled(answer.code)
    if answer.outcome == "voided":
        return Voided(answer.reason or "the provider refused")
    return Later(answer.reason or "the provider is at work on it")


def refusal_of(url: str, allow_private: bool) -> str | None:
    """Why ``url`` may not be a provider's, as far as its text tells; None when it may."""
    if allow_private:
        return None
    parts = urlsplit(url)
    if parts.scheme != "https":
        return "a provider is asked over https: its answers carry codes"
    if refused_literal(parts.hostname or ""):
        return "its address is not public"
    return None


class Webhooks:
    """The client. :meth:`start` and :meth:`close` frame its use.

    A name is resolved for each request, all its addresses must be public, and the connection goes to exactly those.

    :param timeout_s: for a whole request, name resolution to the last byte.
    """

    def __init__(self, timeout_s: float, allow_private: bool) -> None:
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        inner = ThreadedResolver()
        connector = aiohttp.TCPConnector(
            resolver=inner if self._allow_private else GuardedResolver(inner),
            use_dns_cache=False,
            force_close=True,
            limit=CONNECTIONS_MAX,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=CONNECT_S_MAX),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, webhook: Webhook, order: Order, now: int) -> Outcome:
        """Send ``order`` and read the answer; what goes wrong on the way is :class:`Later`."""
        assert self._session is not None, "start() comes first"
        refused = refusal_of(webhook.url, self._allow_private)
        if refused is not None:
            return Later(f"the provider is not asked: {refused}")
        body = dumps(encode(order))
        try:
            async with self._session.post(
                webhook.url, data=body, headers=headers_of(webhook, order, now, body), allow_redirects=False
            ) as response:
                answer = bytearray()
                async for piece in response.content.iter_any():
                    answer += piece
                    if len(answer) > ANSWER_BYTES_MAX:
                        return Later("the provider's answer is too large")
                return read_answer(response.status, bytes(answer))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                return Later("the provider is not asked: its address is not public")
            return Later("the provider cannot be reached")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Later(f"the provider did not answer: {type(error).__name__}")
