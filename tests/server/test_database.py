"""The database: transactions, durability settings, migrations."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from fallow_server.database import Database


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
        with pytest.raises(ZeroDivisionError):
            async with database.write() as connection:
                await connection.execute(text("INSERT INTO t VALUES (1)"))
                raise ZeroDivisionError
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
