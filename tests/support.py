"""Helpers that several test folders share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from fallow_wire.ids import uuid7
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.tickets import Confirmation, Receipt, Ticket

NOW = 1_700_000_000
PATIENCE_S = 60
"""Waits for what something else brings about end with it, and are this long at most: a machine that does other things
too is slow, and no test is about how fast it is."""

TICK_S = 0.01


class Stopwatch:
    """``seconds``: as many as this process had. While the computer does other things it stands still, so that a bound
    on it holds on a busy one as well; what the process itself does all the while counts."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        while True:
            began, worked = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK_S)
            had = max(2 * TICK_S, time.process_time() - worked)
            self.seconds += min(time.monotonic() - began, had)


@contextlib.asynccontextmanager
async def stopwatch() -> AsyncIterator[Stopwatch]:
    watch = Stopwatch()
    running = asyncio.create_task(watch.run(), name="stopwatch")
    try:
        yield watch
    finally:
        running.cancel()


def key(number: int) -> PrivateKey:
    """A key that is the same in every run."""
    return PrivateKey(number.to_bytes(32, "big"))


def new_jti() -> str:
    return uuid7(time.time_ns() // 10**6, os.urandom(10))


def make_ticket(device: PrivateKey, consumer: PrivateKey | None = None, **changes: Any) -> Ticket:
    """A good ticket for ``device``: countersigned when ``consumer`` is given, else legacy."""
    fields: dict[str, Any] = {
        "iss": "http://scheduler.test",
        "aud": device.public.device_id(),
        "jti": new_jti(),
        "sub": "pseudonym",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 600,
        "obj": "a" * 64,
        "svc": "object",
        "tier": "countersigned" if consumer else "legacy",
        "max_bytes": 10 * 2**20,
        "publisher": "publisher-1",
        "tariff": "b" * 64,
        "ledger": "http://ledger.test",
        "cnf": Confirmation(consumer.public.jwk()) if consumer else None,
    }
    return Ticket(**{**fields, **changes})


def make_receipt(ticket: Ticket, n: int = 1, size: int = 2**20, **changes: Any) -> Receipt:
    return Receipt(**{"jti": ticket.jti, "n": n, "bytes": size, "ms": 100, "digest": "c" * 64, **changes})


def signed_ticket(ticket: Ticket, scheduler: PrivateKey) -> str:
    return sign(Kind.TICKET, ticket, scheduler)
