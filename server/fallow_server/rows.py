"""Plain SQL in plain functions, for work that asks the database much in a row.

An await for each statement costs more than the statement. Such work is a function of :class:`Rows`, which
:meth:`~fallow_server.database.Database.ask` and :meth:`~fallow_server.database.Database.transact` run in one go: on
SQLite in a thread on a connection of its own, on PostgreSQL through SQLAlchemy. Parameters are ``?`` on both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import Connection

Row = Sequence[Any]


class Rows(Protocol):
    for_update: str
    """Ends a ``SELECT`` whose rows are to be locked until the transaction ends."""

    def all(self, sql: str, parameters: Row = ()) -> Sequence[Row]:
        """The rows of a query."""

    def run(self, sql: str, parameters: Row = ()) -> None:
        """A statement without rows."""

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        """A statement once for each of ``rows``; nothing happens where there are none."""


class SqliteRows:
    for_update = ""
    """Writers stand in line already: their transactions are ``BEGIN IMMEDIATE``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, sql: str, parameters: Row = ()) -> Sequence[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Row = ()) -> None:
        self._connection.execute(sql, parameters)

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(sql, rows)


class AlchemyRows:
    """Inside of ``AsyncConnection.run_sync``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbered = connection.dialect.paramstyle == "numeric_dollar"
        self.for_update = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""

    def _spelt(self, sql: str) -> str:
        return _numbered(sql) if self._numbered else sql

    def all(self, sql: str, parameters: Row = ()) -> Sequence[Row]:
        return self._connection.exec_driver_sql(self._spelt(sql), tuple(parameters)).all()

    def run(self, sql: str, parameters: Row = ()) -> None:
        self._connection.exec_driver_sql(self._spelt(sql), tuple(parameters))

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        if rows:
            self._connection.exec_driver_sql(self._spelt(sql), [tuple(row) for row in rows])


@lru_cache(maxsize=256)
def _numbered(sql: str) -> str:
    """``?`` as ``$1``, ``$2``, …: none of our statements has a question mark in a text."""
    first, *rest = sql.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


def marks(count: int) -> str:
    """``?, ?, …`` for ``IN (…)`` and ``VALUES (…)``."""
    return ", ".join("?" * count)
