"""The agent's SQLite database: settings, the lifecycle among them, and the outbox of proofs.

All migrations of the agent are listed here, so that one number (``PRAGMA user_version``) says what a file holds. The
device key is not in it (:mod:`.identity`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fallow_wire.errors import LocalError

from .identity import open_private
from .proofs.outbox import KEPT_TABLE, OUTBOX_TABLES

_log = logging.getLogger(__name__)

DATABASE_FILE = "agent.sqlite"
CACHE_KIB = 512
"""Page cache: the database is small, and so is a router's memory."""
WAL_PAGES_MAX = 256
"""The write-ahead log is folded back every MiB, so that it stays small on flash."""
BUSY_TIMEOUT_MS = 2000
"""The command line may read while the agent writes."""

MIGRATIONS = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;" + OUTBOX_TABLES,
    KEPT_TABLE,
)
"""Scripts in order; a file holds the results of the first ``user_version`` of them. Released ones never change."""


class StoreError(LocalError):
    """The database cannot be used, and moving it aside would lose what may be whole."""

    slug = "store"


def open_database(path: Path) -> sqlite3.Connection:
    """Open or create the database at ``path``, in autocommit mode, migrated to the newest version.

    A commit survives the death of the process; ``Settings.set(durable=True)`` makes one survive a power cut too. A
    corrupt file is moved aside (``<name>.corrupt-<time>``) and a new one is started.

    :raises StoreError: when a newer version made it, or the disk refuses.
    """
    with _one_at_a_time(path.parent):
        try:
            return _open(path)
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: {error}; check the disk and the rights of the state directory") from None
        except sqlite3.DatabaseError as error:
            aside = _move_aside(path)
            _log.error(
                "%s is corrupt (%s); moved to %s, starting with a new one: activate again", path, error, aside.name
            )
        return _open(path)


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """The command line may open a new database at the moment at which the agent does; one of them makes the tables."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> sqlite3.Connection:
    os.close(open_private(path))
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(f"{path} was made by a newer fallow-agent; install that version again")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _move_aside(path: Path) -> Path:
    suffix = f".corrupt-{int(time.time())}"
    for name in (path.name, path.name + "-wal", path.name + "-shm"):
        file = path.with_name(name)
        if file.exists():
            file.replace(file.with_name(name + suffix))
    return path.with_name(path.name + suffix)


class Settings:
    """Small JSON values by name."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._unkept: set[str] = set()

    def get(self, name: str) -> Any | None:
        """The value, or None when it was never set."""
        row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set(self, name: str, value: Any, *, durable: bool = False) -> None:
        """Keep a JSON value. It survives the death of the process; with ``durable`` a power cut too (one fsync)."""
        statement = "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        values = (name, json.dumps(value, separators=(",", ":"), ensure_ascii=False))
        if not durable:
            self._connection.execute(statement, values)
            return
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            self._connection.execute(statement, values)
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def keep(self, name: str, value: Any) -> bool:
        """As :meth:`set`, of what is learnt or counted anew: a full or failing disk costs the value and not the agent.

        :returns: whether it is kept. That it is not is said once, until it is again.
        """
        try:
            self.set(name, value)
        except sqlite3.Error as error:
            if name not in self._unkept:
                _log.warning("%s cannot be written down (%s); trying on", name, error)
            self._unkept.add(name)
            return False
        self._unkept.discard(name)
        return True

    def delete(self, name: str) -> None:
        self._connection.execute("DELETE FROM settings WHERE name = ?", (name,))
