"""The whole audit of one file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from fallow_wire.errors import PeerError
from fallow_wire.keys import PublicKey

from .books import check_books
from .copies import check_copies
from .proofs import check_proofs
from .report import Report
from .source import COLUMNS, ledger_key, opened, trusted_keys
from .told import check_told

DAMAGE = (sqlite3.Error, UnicodeDecodeError, IndexError, TypeError)
"""What a damaged file raises: pages or text that cannot be read, a column without its name, a value of another type."""


def audit(path: Path, jwks: Path | None = None, head: tuple[int, str] | None = None) -> Report:
    """Compute the ledger in ``path`` again.

    :param jwks: keys of the ledger that the auditor trusts; those in the file where there are none.
    :param head: entries and hash of a head that was kept from an ack or a root: it must still be there.
    :raises ClientError: the file cannot be read as a ledger.
    """
    report = Report()
    trusted = None if jwks is None else trusted_keys(jwks)
    with opened(path) as database:
        try:
            _check_file(database, report)
            named = _named_keys(database, report)
            keys = named if trusted is None else trusted
            check_books(database, report, keys)
            check_proofs(database, report, keys)
            check_told(database, report, keys)
            check_copies(database, report)
            if head is not None:
                found = database.execute("SELECT hash FROM entries WHERE seq = ?", head[:1]).fetchone()
                report.differ("entries", head[0], "head that was kept", found["hash"] if found else None, head[1])
        except DAMAGE as error:
            # Damage that the reading stumbles over ends the audit, and is what it found.
            report.differ("file", path.name, "database", str(error), "readable")
    return report


def _check_file(database: sqlite3.Connection, report: Report) -> None:
    """What SQLite itself finds: damaged pages, and indexes and rows that tell different things."""
    for (line,) in database.execute("PRAGMA integrity_check"):
        report.differ("file", "integrity_check", "database", line, "ok")
    _check_schema(database, report)
    for table, columns in COLUMNS.items():
        found = {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}
        report.differ("file", table, "missing columns", set(columns.split()) - found, set())


def _check_schema(database: sqlite3.Connection, report: Report) -> None:
    """A file that is only read is taken with table definitions that SQLite would not take where it may write."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'table' DESC, rowid"
    with closing(sqlite3.connect(":memory:")) as empty:
        for name, sql in database.execute(query):
            try:
                empty.execute(sql)
            except sqlite3.Error as error:
                report.differ("sqlite_master", name, "definition", str(error), "one that SQLite takes")


def _named_keys(database: sqlite3.Connection, report: Report) -> dict[str, PublicKey]:
    """The keys that the file says are the ledger's: enough to find damage, not to trust whoever made the file."""
    keys = {}
    for row in database.execute("SELECT * FROM ledger_keys"):
        try:
            key = ledger_key(row["x"])
        except PeerError as error:
            report.differ("ledger_keys", row["kid"], "key", row["x"], error.detail)
            continue
        report.differ("ledger_keys", row["kid"], "kid", row["kid"], key.thumbprint())
        keys[key.thumbprint()] = key
    return keys
