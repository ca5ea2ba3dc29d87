"""A ledger that is as old as the first migration, with everything in it, is brought to the newest one and goes on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import alembic.command
import pytest
from fallow_client.audit.run import audit
from fallow_server.database import Database, migration_config
from ledger_world import MIB, OPERATOR, OWNER, World, in_world
from sqlalchemy import Connection, create_engine

pytestmark = pytest.mark.skipif("FALLOW_TEST_DATABASE_URL" in os.environ, reason="makes the old SQLite file itself")
DAY_S = 86_400
HOLD_S = 14 * DAY_S


async def busy(world: World) -> None:
    """What the first ledger knew: settlements, held and vested points, redemptions, codes, a fork."""
    items = world.item(), world.item(world.ticket(None)), world.item(confirmed=0), world.item(world.ticket(svc="probe"))
    await world.prove(*items)
    world.clock.time += HOLD_S
    await world.service.sweep()
    await world.reserve(10**7)
    await world.prove(world.item(confirmed=3 * MIB, claimed=4 * MIB))
    for more in ({"codes": ["one", "two"]}, {"stock": 3}):
        reward = await world.good("POST", "/v1/rewards", OPERATOR, {"title": "x", "micro_points": 10, **more})
        await world.good("POST", "/v1/redemptions", OWNER, {"reward": reward["id"]}, once=next(iter(more)))
    fork = await world.post(world.device.batch(world.item(), seq=world.device.seq))
    assert fork.type == "chain-fork"


def to_the_first(file: Path, old: Path) -> None:
    """The rows of ``file`` as the first migration's tables hold them."""

    def upgrade(connection: Connection) -> None:
        alembic.command.upgrade(migration_config("ledger", connection), "0001")

    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as made:
        upgrade(made)
    engine.dispose()
    connection = sqlite3.connect(old)
    connection.execute("ATTACH ? AS newer", (str(file),))
    connection.execute("DELETE FROM chain_head")
    query = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'alembic%'"
    for (table,) in connection.execute(query).fetchall():
        columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
        connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")
        assert connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0], f"{table} has no rows"
    connection.commit()
    connection.close()


def rows_of(file: Path, tables_of: Path) -> dict[str, list[object]]:
    """The rows of ``file``, in tables and columns that ``tables_of`` has."""
    with sqlite3.connect(tables_of) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'alembic%'"
        names = [row[0] for row in connection.execute(query)]
        columns = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
    with sqlite3.connect(file) as connection:
        return {
            name: connection.execute(f"SELECT {', '.join(some)} FROM {name} ORDER BY 1, 2").fetchall()
            for name, some in columns.items()
        }


def test_an_old_ledger_goes_on(tmp_path: Path) -> None:
    made, state = tmp_path / "made", tmp_path / "state"
    for directory in (made, state):
        directory.mkdir()
    ended: list[World] = []

    async def make(world: World) -> None:
        await busy(world)
        ended.append(world)

    in_world(made, make, hold_s=HOLD_S)
    old, new = tmp_path / "old.sqlite", state / "ledger.sqlite"
    to_the_first(made / "ledger.sqlite", old)
    new.write_bytes(old.read_bytes())
    (state / "ledger.keys").write_bytes((made / "ledger.keys").read_bytes())
    (state / "ledger.keys").chmod(0o600)

    async def migrate() -> None:
        database = Database(f"sqlite+aiosqlite:///{new}")
        await database.migrate("ledger")
        await database.close()

    asyncio.run(migrate())
    assert rows_of(new, old) == rows_of(old, old)
    with sqlite3.connect(new) as connection:
        for table in ("settlements", "entries", "batches", "tariffs"):
            with pytest.raises(sqlite3.IntegrityError, match="immutable"):
                connection.execute(f"DELETE FROM {table}")

    async def go_on() -> None:
        before = ended[0]
        world = World(state, before.clock, HOLD_S)
        world.device, world.tariff = before.device, before.tariff
        await world.open()
        await world.prove(world.item())
        world.clock.time += HOLD_S
        await world.service.sweep()
        await world.reconciled()
        assert (await world.account(OWNER))["held"] == 0
        assert (await world.service.reports.make_due())["sound"]
        await world.close()

    asyncio.run(go_on())
    report = audit(new)
    assert report.differences == []
    assert report.settlements == 6
