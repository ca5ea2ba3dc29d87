"""One database, SQLite or PostgreSQL, behind the same calls.

SQLite: WAL, foreign keys on, every commit synced (a claim used or a proof acknowledged must survive a power cut), one
writer at a time so that writers queue here and not in SQLite's busy handler, and readers that cannot write.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

import alembic.command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from .rows import AlchemyRows, Rows, SqliteRows

T = TypeVar("T")
Branch = Literal["scheduler", "ledger"]

_MIGRATIONS = Path(__file__).parent / "migrations"

READERS_MAX = 4
"""SQLite runs each connection in a thread of its own."""
POSTGRES_CONNECTIONS_MAX = 16
BUSY_TIMEOUT_MS = 10_000
"""Only another process (a backup, ``fallow-server operator-token``) can make us wait so long."""

WAL_PAGES_MAX = 8000
"""32 MiB of log before it is folded into the file: pages that change with each transaction are written there once."""
CACHE_KIB = 32 * 1024
"""Of a connection that writes, filled as needed: the inner pages of the trees of some ten million rows."""
READER_CACHE_KIB = 2 * 1024
"""Of one that reads. SQLite empties it whenever another connection has written, and the system holds the pages too:
with 32 MiB a row is found 1 µs sooner, and readers keep four copies of a table that every device is looked up in."""


class Database:
    """``url`` is SQLAlchemy's, with an async driver: ``sqlite+aiosqlite:////var/lib/fallow/scheduler.sqlite`` or
    ``postgresql+asyncpg://…``."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._writer = create_async_engine(self.url, pool_size=1, max_overflow=0, pool_timeout=60)
            self._reader = create_async_engine(self.url, pool_size=READERS_MAX, max_overflow=0, pool_timeout=60)
            _prepare_sqlite(self._writer, begin="BEGIN IMMEDIATE", read_only=False)
            _prepare_sqlite(self._reader, begin="BEGIN", read_only=True)
            self._direct = _DirectSqlite(str(self.url.database))
            self._turn = asyncio.Lock()
        else:
            self._writer = create_async_engine(
                self.url, pool_size=POSTGRES_CONNECTIONS_MAX, max_overflow=0, pool_pre_ping=True
            )
            self._reader = self._writer

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for queries; on PostgreSQL each sees the newest state. Writing in it fails on SQLite."""
        async with self._reader.begin() as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """:meth:`read` where all queries see one state of the database."""
        async with self.read() as connection:
            if not self.is_sqlite:
                await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends and rolls back when it raises.

        On SQLite writers run one after another; do no network I/O in here.
        """
        if not self.is_sqlite:
            async with self._writer.begin() as connection:
                yield connection
            return
        async with self._turn, self._writer.begin() as connection:
            yield connection

    async def ask(self, work: Callable[[Rows], T]) -> T:
        """Run ``work`` in one go on one state of the database, which it must not change."""
        if self.is_sqlite:
            return await asyncio.get_running_loop().run_in_executor(self._direct.readers, self._direct.ask, work)
        async with self._reader.begin() as connection:
            return await connection.run_sync(lambda sync: work(AlchemyRows(sync)))

    async def transact(self, work: Callable[[Rows], T]) -> T:
        """Run ``work`` in one go as a writing transaction of its own, which what it raises rolls back."""
        if self.is_sqlite:
            async with self._turn:
                return await asyncio.get_running_loop().run_in_executor(
                    self._direct.writer, self._direct.transact, work
                )
        async with self._writer.begin() as connection:
            return await connection.run_sync(lambda sync: work(AlchemyRows(sync)))

    async def migrate(self, branch: Branch) -> None:
        """Bring the tables to the newest revision; nothing happens when they are there already."""
        async with self._writer.connect() as connection:
            await connection.run_sync(_upgrade, branch)
            await connection.commit()

    async def close(self) -> None:
        """Close all connections. SQLite folds its WAL into the file with the last one."""
        if self.is_sqlite:
            await asyncio.to_thread(self._direct.close)
            await self._reader.dispose()
        await self._writer.dispose()


class _DirectSqlite:
    """Connections of the standard library for :meth:`Database.ask` and :meth:`Database.transact`, each used by one
    thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._writing: sqlite3.Connection | None = None
        self.readers = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="database-reader")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")

    def ask(self, work: Callable[[Rows], T]) -> T:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._open(read_only=True)
        connection.execute("BEGIN")
        try:
            return work(SqliteRows(connection))
        finally:
            connection.execute("ROLLBACK")
            self._idle.put(connection)

    def transact(self, work: Callable[[Rows], T]) -> T:
        if self._writing is None:
            self._writing = self._open(read_only=False)
        self._writing.execute("BEGIN IMMEDIATE")
        try:
            found = work(SqliteRows(self._writing))
            self._writing.execute("COMMIT")
        except BaseException:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
            raise
        return found

    def _open(self, *, read_only: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in _pragmas(read_only):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def close(self) -> None:
        """What is under way is finished first."""
        self.readers.shutdown()
        self.writer.shutdown()
        if self._writing is not None:
            self._writing.close()
        while not self._idle.empty():
            self._idle.get().close()


def migration_config(branch: Branch, connection: Connection) -> Config:
    """Alembic's configuration for one branch, on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("version_locations", str(_MIGRATIONS / branch / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    config.attributes["branch"] = branch
    return config


def _upgrade(connection: Connection, branch: Branch) -> None:
    there = MigrationContext.configure(connection, opts={"version_table": f"alembic_version_{branch}"})
    if there.get_current_revision() != _newest(branch):
        alembic.command.upgrade(migration_config(branch, connection), "head")


@functools.cache
def _newest(branch: Branch) -> str | None:
    """The revision that the tables come to; to know it, every migration is read."""
    return ScriptDirectory(
        str(_MIGRATIONS), version_locations=[str(_MIGRATIONS / branch / "versions")]
    ).get_current_head()


def _pragmas(read_only: bool) -> Iterable[str]:
    return (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        f"wal_autocheckpoint={WAL_PAGES_MAX}",
        f"cache_size=-{READER_CACHE_KIB if read_only else CACHE_KIB}",
        *(("query_only=ON",) if read_only else ()),
    )


def _prepare_sqlite(engine: AsyncEngine, *, begin: str, read_only: bool) -> None:
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        for pragma in _pragmas(read_only):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
