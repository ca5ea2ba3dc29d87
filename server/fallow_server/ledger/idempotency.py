"""``Idempotency-Key``: the same request again gets the same answer, and what it did happens once.

The answer is kept in the transaction that did the work; refusals are not kept, so that a later try may succeed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from fallow_wire.strict import dumps, loads
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..http import json_response, refusal
from .tables import answers

KEY = re.compile(r"[!-~]{1,128}\Z")
"""Printable ASCII without spaces; a UUID has 36 characters."""


@dataclass(frozen=True, slots=True)
class Once:
    """A request with its key. ``scope`` says what is asked and by whom: keys of others are other keys."""

    scope: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any

    def response(self) -> web.Response:
        return json_response(self.body, self.status)


def once(request: web.Request, scope: str, body: Any) -> Once:
    """:raises ApiProblem: 400 without a usable ``Idempotency-Key``."""
    key = request.headers.get("Idempotency-Key", "")
    if not KEY.match(key):
        raise refusal(
            400,
            "idempotency-key-needed",
            "This call needs an Idempotency-Key",
            remedy="Send a new random Idempotency-Key of 1 to 128 characters, and the same one to repeat the call.",
        )
    return Once(scope, key, hashlib.sha256(dumps(body)).hexdigest())


async def answered(connection: AsyncConnection, asked: Once) -> Answer | None:
    """The answer that was given before, if any.

    :raises ApiProblem: 422 when the key was used for another request.
    """
    query = select(answers).where(answers.c.scope == asked.scope, answers.c.key == asked.key)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if row.digest != asked.digest:
        raise refusal(
            422,
            "idempotency-key-reused",
            "The Idempotency-Key was used for another request",
            remedy="Send a new Idempotency-Key for a new request.",
        )
    return Answer(row.status, loads(row.body, len(row.body.encode())))


async def remember(connection: AsyncConnection, asked: Once, answer: Answer, now: int) -> None:
    """Keep ``answer``; belongs into the transaction that did the work."""
    row = {
        "scope": asked.scope,
        "key": asked.key,
        "digest": asked.digest,
        "status": answer.status,
        "body": dumps(answer.body).decode(),
        "at": now,
    }
    await connection.execute(insert(answers), [row])


async def forget(connection: AsyncConnection, scope: str, before: int) -> None:
    """Drop the answers of ``scope`` that are older than ``before``."""
    await connection.execute(delete(answers).where(answers.c.scope == scope, answers.c.at < before))
