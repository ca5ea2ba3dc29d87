"""What loops write is written to its end, even when they are cancelled in the middle of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fallow_server.background import uninterrupted
from fallow_server.database import Database
from sqlalchemy import text


def test_a_cancelled_loop_leaves_no_lock_behind(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite'}")
        async with database.write() as connection:
            await connection.execute(text("CREATE TABLE t (n INTEGER)"))
        started, go_on = asyncio.Event(), asyncio.Event()

        async def write() -> int:
            async with database.write() as connection:
                await connection.execute(text("INSERT INTO t VALUES (1)"))
                started.set()
                await go_on.wait()
            return 7

        task = asyncio.create_task(uninterrupted(write()))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.write() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM t"))).scalar_one() == 1
        assert await uninterrupted(write()) == 7
        await database.close()

    asyncio.run(run())


def test_what_fails_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def run() -> None:
        with pytest.raises(ZeroDivisionError):
            await uninterrupted(fail())

    asyncio.run(run())
