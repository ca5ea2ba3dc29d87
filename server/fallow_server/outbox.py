"""What the ledger must be told, written in the transaction that changed it.

A row names a thing and not its content: the link sends the thing as it is when its turn comes, so that a row that is
sent twice, or late, still leaves the ledger with the truth.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from sqlalchemy import BigInteger, Column, Integer, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import scheduler_metadata

Subject = Literal["scheduler", "account", "device"]

# SQLite gives numbers in order to an INTEGER primary key only; AUTOINCREMENT never gives one twice.
outbox = Table(
    "link_outbox",
    scheduler_metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("subject", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    sqlite_autoincrement=True,
)


class Outbox:
    """Where changes are noted and the link is woken."""

    def __init__(self) -> None:
        self.noted = asyncio.Event()

    async def note(self, connection: AsyncConnection, subject: Subject, key: str) -> None:
        """Note a change within the caller's transaction. Call :meth:`wake` after it has committed."""
        await connection.execute(insert(outbox).values(subject=subject, key=key))

    def wake(self) -> None:
        self.noted.set()
