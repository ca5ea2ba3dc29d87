"""The journal's writer: postings, running balances and the hash chain move together in the caller's transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fallow_wire.batches import Head
from fallow_wire.errors import LocalError
from fallow_wire.ids import uuid7
from fallow_wire.journal import ChainHead, Entry
from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..rows import AlchemyRows, Row, Rows, marks
from .journal import Account, AccountKind, Posting, write_entries
from .tables import chain_head

QUERY_VALUES_MAX = 500
"""Values in one ``IN (…)``: a batch has that many items at most, and SQLite takes far more."""
ID_BYTES, IDS_AT_ONCE = 10, 64
"""Randomness is fetched for several ids: asking the kernel costs more than the bytes."""


def new_id(clock: Clock) -> str:
    """A UUIDv7."""
    return uuid7(clock.now_ms(), os.urandom(ID_BYTES))


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
    """One writing transaction. Made by :func:`open_books` or :func:`begin_books`; nothing is written before it is
    saved. :meth:`load_now` and :meth:`save_now` are for functions of :class:`Rows`, the others for coroutines."""

    def __init__(self, rows: Rows, head: ChainHead, clock: Clock, connection: AsyncConnection | None = None) -> None:
        self._rows = rows
        self._connection = connection
        self._head = head
        self._clock = clock
        self._balances: dict[Account, int] = {}
        self._touched: set[Account] = set()
        self._entries: list[Row] = []
        self._randomness = b""
        self.now = clock.now()

    async def load(self, accounts: Iterable[Account]) -> None:
        """Read the balances of ``accounts``; :meth:`balance` and :meth:`post` know only accounts that were loaded."""
        assert self._connection is not None, "made by open_books"
        await self._connection.run_sync(lambda _: self.load_now(accounts))

    async def save(self) -> Head:
        """Write entries, balances and the chain's head, and tell the head."""
        assert self._connection is not None, "made by open_books"
        return await self._connection.run_sync(lambda _: self.save_now())

    def load_now(self, accounts: Iterable[Account]) -> None:
        missing = {account.name: account for account in accounts if account not in self._balances}
        self._balances.update(dict.fromkeys(missing.values(), 0))
        names = list(missing)
        for start in range(0, len(names), QUERY_VALUES_MAX):
            some = names[start : start + QUERY_VALUES_MAX]
            query = f"SELECT account, micro_points FROM balances WHERE account IN ({marks(len(some))})"
            for account, micro_points in self._rows.all(query, some):
                self._balances[missing[account]] = micro_points

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
        self._head, written = write_entries(self._head, self.now, posting, self._new_id())
        self._entries += [_entry_row(account, entry, digest) for account, entry, digest in written]
        return first

    def save_now(self) -> Head:
        if self._entries:
            self._rows.many(
                "INSERT INTO entries (seq, at, kind, account, holder, micro_points, posting, ref, hash) "
                f"VALUES ({marks(9)})",
                self._entries,
            )
            self._rows.many(
                f"INSERT INTO balances (account, kind, holder, hour, micro_points) VALUES ({marks(5)}) "
                "ON CONFLICT (account) DO UPDATE SET micro_points = excluded.micro_points",
                [
                    (account.name, account.kind.value, account.holder, account.hour, self._balances[account])
                    for account in self._touched
                ],
            )
            self._rows.run("UPDATE chain_head SET entries = ?, hash = ?", (self._head.entries, self._head.hash))
            self._entries, self._touched = [], set()
        return Head(self._head.entries, self._head.hash, self.now)

    def _new_id(self) -> str:
        if not self._randomness:
            self._randomness = os.urandom(ID_BYTES * IDS_AT_ONCE)
        some, self._randomness = self._randomness[:ID_BYTES], self._randomness[ID_BYTES:]
        return uuid7(self._clock.now_ms(), some)


def begin_books(rows: Rows, clock: Clock, connection: AsyncConnection | None = None) -> Books:
    """Start writing in the transaction of ``rows``.

    The head's row is locked first, so that writers stand in line on PostgreSQL as they do on SQLite: the chain has
    one order, and what a transaction reads after this is what it decides about.
    """
    ((entries, digest),) = rows.all(f"SELECT entries, hash FROM chain_head{rows.for_update}")
    return Books(rows, ChainHead(entries, digest), clock, connection)


async def open_books(connection: AsyncConnection, clock: Clock) -> Books:
    """:func:`begin_books` for coroutines."""
    return await connection.run_sync(lambda sync: begin_books(AlchemyRows(sync), clock, connection))


async def read_head(connection: AsyncConnection, now: int) -> Head:
    row = (await connection.execute(select(chain_head))).one()
    return Head(row.entries, row.hash, now)


def _entry_row(account: Account, entry: Entry, digest: str) -> Row:
    return (
        entry.seq,
        entry.at,
        entry.kind,
        entry.account,
        account.holder,
        entry.micro_points,
        entry.posting,
        entry.ref,
        digest,
    )


def entry_of(row: Any) -> Entry:
    """The entry in a row of ``entries``."""
    return Entry(row.seq, row.at, row.kind, row.account, row.micro_points, row.posting, row.ref)
