"""The journal's writer: postings, running balances and the hash chain move together in the caller's transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fallow_wire.batches import Head
from fallow_wire.errors import LocalError
from fallow_wire.ids import uuid7
from sqlalchemy import Table, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from .journal import Account, AccountKind, ChainHead, Entry, Posting, write_entries
from .tables import balances, chain_head, entries

QUERY_VALUES_MAX = 500
"""Values in one ``IN (…)``: a batch has that many items at most, and SQLite takes far more."""


def new_id(clock: Clock) -> str:
    """A UUIDv7."""
    return uuid7(clock.now_ms(), os.urandom(10))


async def upsert(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or replace what stands under their primary keys. All rows name the same columns."""
    if not rows:
        return
    dialect_insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    statement = dialect_insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


async def insert_new(connection: AsyncConnection, table: Table, row: dict[str, Any]) -> None:
    """Insert ``row`` unless there is one under its primary key."""
    dialect_insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    await connection.execute(dialect_insert(table).values(row).on_conflict_do_nothing())


class Books:
    """One writing transaction. Made by :func:`open_books`; nothing is written before :meth:`save`."""

    def __init__(self, connection: AsyncConnection, head: ChainHead, clock: Clock) -> None:
        self._connection = connection
        self._head = head
        self._clock = clock
        self._balances: dict[Account, int] = {}
        self._touched: set[Account] = set()
        self._rows: list[dict[str, Any]] = []
        self.now = clock.now()

    async def load(self, accounts: Iterable[Account]) -> None:
        """Read the balances of ``accounts``; :meth:`balance` and :meth:`post` know only accounts that were loaded."""
        missing = {account.name: account for account in accounts if account not in self._balances}
        self._balances.update(dict.fromkeys(missing.values(), 0))
        names = list(missing)
        for start in range(0, len(names), QUERY_VALUES_MAX):
            query = select(balances.c.account, balances.c.micro_points).where(
                balances.c.account.in_(names[start : start + QUERY_VALUES_MAX])
            )
            for row in await self._connection.execute(query):
                self._balances[missing[row.account]] = row.micro_points

    def balance(self, account: Account) -> int:
        """µp, with what was posted in this transaction."""
        return self._balances[account]

    def post(self, posting: Posting) -> int:
        """Add ``posting``.

        :return: ``seq`` of its first entry.
        :raises LocalError: when an account would fall below zero; callers look before they post.
        """
        for account, micro_points in posting.moves:
            left = self._balances[account] + micro_points
            if left < 0 and account.kind is not AccountKind.MINT:
                raise LocalError(f"{posting.kind} {posting.ref} would overdraw {account.name}")
            self._balances[account] = left
            self._touched.add(account)
        first = self._head.entries + 1
        self._head, written = write_entries(self._head, self.now, posting, new_id(self._clock))
        self._rows += [_entry_row(account, entry, digest) for account, entry, digest in written]
        return first

    async def save(self) -> Head:
        """Write entries, balances and the chain's head, and tell the head."""
        if self._rows:
            await self._connection.execute(insert(entries), self._rows)
            rows = [
                {
                    "account": account.name,
                    "kind": account.kind.value,
                    "holder": account.holder,
                    "hour": account.hour,
                    "micro_points": self._balances[account],
                }
                for account in self._touched
            ]
            await upsert(self._connection, balances, rows)
            await self._connection.execute(update(chain_head).values(entries=self._head.entries, hash=self._head.hash))
            self._rows, self._touched = [], set()
        return Head(self._head.entries, self._head.hash, self.now)


async def open_books(connection: AsyncConnection, clock: Clock) -> Books:
    """Start writing in the transaction of ``connection``.

    The head's row is locked first, so that writers stand in line on PostgreSQL as they do on SQLite: the chain has
    one order, and what a transaction reads after this is what it decides about.
    """
    row = (await connection.execute(select(chain_head).with_for_update())).one()
    return Books(connection, ChainHead(row.entries, row.hash), clock)


async def read_head(connection: AsyncConnection, now: int) -> Head:
    row = (await connection.execute(select(chain_head))).one()
    return Head(row.entries, row.hash, now)


def _entry_row(account: Account, entry: Entry, digest: str) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at,
        "kind": entry.kind,
        "account": entry.account,
        "holder": account.holder,
        "micro_points": entry.micro_points,
        "posting": entry.posting,
        "ref": entry.ref,
        "hash": digest,
    }


def entry_of(row: Any) -> Entry:
    """The entry in a row of ``entries``."""
    return Entry(row.seq, row.at, row.kind, row.account, row.micro_points, row.posting, row.ref)
