"""The database: transactions, durability settings, migrations."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import fallow_server.app  # noqa: F401  # all tables of all concerns
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fallow_server.database import Branch, Database
from fallow_server.schema import ledger_metadata, scheduler_metadata
from ledger_world import world
from server_world import running_server
from sqlalchemy import text
from sqlalchemy.exc import OperationalError


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def test_writers_do_not_collide_and_readers_see_one_state(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(url_of(tmp_path / "x.sqlite"))
        async with database.write() as connection:
            await connection.execute(text("CREATE TABLE t (n INTEGER)"))
            await connection.execute(text("INSERT INTO t VALUES (0)"))

        async def add() -> None:
            async with database.write() as connection:
                n = (await connection.execute(text("SELECT n FROM t"))).scalar_one()
                await asyncio.sleep(0)
                await connection.execute(text("UPDATE t SET n = :n"), {"n": n + 1})

        async with database.read() as before:
            assert (await before.execute(text("SELECT n FROM t"))).scalar_one() == 0
            await asyncio.gather(*(add() for _ in range(25)))
            assert (await before.execute(text("SELECT n FROM t"))).scalar_one() == 0
        async with database.read() as after:
            assert (await after.execute(text("SELECT n FROM t"))).scalar_one() == 25
        await database.close()

    asyncio.run(run())


def test_a_raise_rolls_back_and_a_reader_cannot_write(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(url_of(tmp_path / "x.sqlite"))
        async with database.write() as connection:
            await connection.execute(text("CREATE TABLE t (n INTEGER)"))

        async def fail() -> None:
            async with database.write() as connection:
                await connection.execute(text("INSERT INTO t VALUES (1)"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(OperationalError):
            async with database.read() as connection:
                await connection.execute(text("INSERT INTO t VALUES (2)"))
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM t"))).scalar_one() == 0
            assert (await connection.execute(text("PRAGMA synchronous"))).scalar_one() == 2
            assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
            assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar_one() == 1
        await database.close()

    asyncio.run(run())


def tables_of(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.parametrize("branch", ["scheduler", "ledger"])
def test_migrations_make_what_the_code_declares(tmp_path: Path, branch: Branch) -> None:
    path = tmp_path / "x.sqlite"
    metadata = {"scheduler": scheduler_metadata, "ledger": ledger_metadata}[branch]

    async def run() -> list[object]:
        database = Database(url_of(path))
        await database.migrate(branch)
        async with database.read() as connection:
            differences = await connection.run_sync(
                lambda sync: compare_metadata(
                    MigrationContext.configure(
                        sync, opts={"version_table": f"alembic_version_{branch}", "compare_type": True}
                    ),
                    metadata,
                )
            )
        await database.close()
        return list(differences)

    assert asyncio.run(run()) == []
    assert tables_of(path) == {*metadata.tables, f"alembic_version_{branch}"} | (tables_of(path) & {"sqlite_sequence"})


@pytest.mark.parametrize("branch", ["scheduler", "ledger"])
def test_migrating_again_changes_nothing(tmp_path: Path, branch: Branch) -> None:
    path = tmp_path / "x.sqlite"

    async def run() -> None:
        database = Database(url_of(path))
        await database.migrate(branch)
        await database.close()

    def dump() -> list[str]:
        with sqlite3.connect(path) as connection:
            return list(connection.iterdump())

    asyncio.run(run())
    before = dump()
    asyncio.run(run())
    assert dump() == before
    assert any("alembic_version" in line for line in before)


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE devices (id TEXT)")  # in the way of a later statement of the first migration

    async def run() -> None:
        database = Database(url_of(path))
        try:
            with pytest.raises(OperationalError):
                await database.migrate("scheduler")
        finally:
            await database.close()

    asyncio.run(run())
    assert "accounts" not in tables_of(path)


@pytest.mark.both_databases
def test_worlds_have_the_database_that_a_test_is_run_on(tmp_path: Path, database_server: str) -> None:
    async def run() -> None:
        async with world(tmp_path / "ledger") as made, running_server(tmp_path / "server") as server:
            assert server.app.ledger is not None
            databases = (made.database, server.scheduler.database, server.app.ledger._database)
            assert {one.is_sqlite for one in databases} == {database_server == "sqlite"}

    (tmp_path / "ledger").mkdir()
    asyncio.run(run())
