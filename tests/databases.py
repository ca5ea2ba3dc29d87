"""Databases of worlds: SQLite files with all their tables, which the migrations make once for each process of tests; or
new ones of a PostgreSQL server, where :data:`postgresql.URL` names one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import postgresql
from fallow_server.database import Branch, Database
from sqlalchemy import make_url

_made = tempfile.TemporaryDirectory(prefix="fallow-databases-")


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def place(branch: Branch, path: Path) -> str:
    """A migrated database at ``path``, unless there is one; gives its URL."""
    template = Path(_made.name) / f"{branch}.sqlite"
    if not _is_there(template):
        database = Database(url_of(template))
        await database.migrate(branch)
        await database.close()
    if not _is_there(path):
        shutil.copy(template, path)
    return url_of(path)


@contextlib.asynccontextmanager
async def of_server() -> AsyncIterator[str | None]:
    """The URL of a new, empty database of the PostgreSQL server; None where none is to be used."""
    server = os.environ.get(postgresql.URL)
    if server is None:
        yield None
        return
    name = f"fallow_{os.urandom(8).hex()}"
    await _administer(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        await _administer(server, f"DROP DATABASE {name}")


async def _administer(server: str, command: str) -> None:
    connection = await asyncpg.connect(make_url(server).set(drivername="postgresql").render_as_string(False))
    try:
        await connection.execute(command)
    finally:
        await connection.close()


def _is_there(path: Path) -> bool:
    return path.exists()
