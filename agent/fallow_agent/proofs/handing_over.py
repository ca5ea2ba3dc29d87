"""The last submission, of a device that leaves."""

from __future__ import annotations

import asyncio
import sqlite3

import aiohttp
from fallow_wire.keys import PrivateKey

from .outbox import Outbox
from .submission import Submission


async def hand_over(connection: sqlite3.Connection, http: aiohttp.ClientSession, ledger: str, key: PrivateKey) -> None:
    """Seal all tickets and bring their proofs to the ledger; ends when it has acknowledged everything."""
    outbox = Outbox(connection)
    for served in outbox.open_tickets():
        outbox.seal(served.jti)
    submission = Submission(outbox, http, lambda: ledger, key)
    running = asyncio.get_running_loop().create_task(submission.run(), name="last-submission")
    done = asyncio.get_running_loop().create_task(submission.all_acknowledged(), name="all-acknowledged")
    try:
        ended, _ = await asyncio.wait((running, done), return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        outbox.forget_kept()  # the next ledger may be another one
    finally:
        for task in (running, done):
            task.cancel()
        await asyncio.gather(running, done, return_exceptions=True)
