"""One database, SQLite or PostgreSQL, behind the same calls.

SQLite: WAL, foreign keys on, every commit synced (a claim used or a proof acknowledged must survive a power cut), one
writing connection so that writers queue here and not in SQLite's busy handler, and readers that cannot write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Branch = Literal["scheduler", "ledger"]

_MIGRATIONS = Path(__file__).parent / "migrations"

READERS_MAX = 4
"""SQLite runs each connection in a thread of its own."""
POSTGRES_CONNECTIONS_MAX = 16
BUSY_TIMEOUT_MS = 10_000
"""Only another process (a backup, ``fallow-server operator-token``) can make us wait so long."""


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
        else:
            self._writer = create_async_engine(
                self.url, pool_size=POSTGRES_CONNECTIONS_MAX, max_overflow=0, pool_pre_ping=True
            )
            self._reader = self._writer

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database. Writing in it fails on SQLite."""
        async with self._reader.begin() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends and rolls back when it raises.

        On SQLite writers run one after another; do no network I/O in here.
        """
        async with self._writer.begin() as connection:
            yield connection

    async def migrate(self, branch: Branch) -> None:
        """Bring the tables to the newest revision; nothing happens when they are there already."""
        async with self._writer.connect() as connection:
            await connection.run_sync(_upgrade, branch)
            await connection.commit()

    async def close(self) -> None:
        """Close all connections. SQLite folds its WAL into the file with the last one."""
        if self._reader is not self._writer:
            await self._reader.dispose()
        await self._writer.dispose()


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
    alembic.command.upgrade(migration_config(branch, connection), "head")


def _prepare_sqlite(engine: AsyncEngine, *, begin: str, read_only: bool) -> None:
    pragmas: Iterable[str] = (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        *(("query_only=ON",) if read_only else ()),
    )

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
