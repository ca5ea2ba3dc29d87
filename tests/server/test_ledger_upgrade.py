"""A ledger that is as old as the first migration, with everything in it, is brought to the newest one and goes on."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import pytest
from fallow_client.audit.run import audit
from fallow_client.ledger import Ledger
from fallow_server.database import migration_config
from ledger_world import MIB, OPERATOR, OWNER, World, in_world, world
from sqlalchemy import Connection, MetaData, Table, delete, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

DAY_S = 86_400
HOLD_S = 14 * DAY_S
Rows = dict[str, list[tuple[object, ...]]]


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


def first_tables(connection: Connection) -> list[Table]:
    """Those of the first migration, which are made here."""
    alembic.command.upgrade(migration_config("ledger", connection), "0001")
    found = MetaData()
    found.reflect(connection, only=lambda name, _: not name.startswith("alembic_version"))
    return list(found.sorted_tables)


async def rows_of(connection: AsyncConnection, tables: list[Table]) -> Rows:
    """All rows, in the columns of ``tables``."""
    return {
        table.name: sorted((tuple(row) for row in await connection.execute(select(table))), key=repr)
        for table in tables
    }


async def empty(world: World) -> None:
    """A database without tables, in the place of the one that ``world`` has closed."""
    if world.database.is_sqlite:
        (world.directory / "ledger.sqlite").unlink()
        return
    engine = create_async_engine(world.url)
    async with engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await engine.dispose()


async def make_old(newer: World, world: World) -> tuple[list[Table], Rows]:
    """The database of ``world`` as the first migration made it, with what ``newer`` holds."""
    engine = create_async_engine(world.url)
    async with engine.begin() as connection:
        tables = await connection.run_sync(first_tables)
        async with newer.database.read() as reader:
            rows = await rows_of(reader, tables)
        for table in tables:
            assert rows[table.name], f"{table.name} has no rows"
            if table.name == "chain_head":
                await connection.execute(delete(table))
            names = [column.name for column in table.columns]
            await connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows[table.name]])
    await engine.dispose()
    return tables, rows


async def goes_on(world: World, tables: list[Table], rows: Rows) -> None:
    async with world.database.read() as connection:
        assert await rows_of(connection, tables) == rows
    for table in ("settlements", "entries", "batches", "tariffs"):
        with pytest.raises(DBAPIError, match="immutable"):
            async with world.database.write() as writer:
                await writer.execute(text(f"DELETE FROM {table}"))
    await world.prove(world.item())
    world.clock.time += HOLD_S
    await world.service.sweep()
    await world.reconciled()
    assert (await world.account(OWNER))["held"] == 0
    assert (await world.service.reports.make_due())["sound"]


def test_an_old_ledger_goes_on(tmp_path: Path) -> None:
    made, state = tmp_path / "made", tmp_path / "state"
    for directory in (made, state):
        directory.mkdir()
    file = tmp_path / "export"

    async def script(before: World) -> None:
        await busy(before)
        (state / "ledger.keys").write_bytes((made / "ledger.keys").read_bytes())
        (state / "ledger.keys").chmod(0o600)
        async with world(state, hold_s=HOLD_S, populate=False) as after:
            await after.close()
            await empty(after)
            tables, rows = await make_old(before, after)
            after.clock, after.device, after.tariff = before.clock, before.device, before.tariff
            await after.open()
            await goes_on(after, tables, rows)
            async with Ledger(after.address, OPERATOR) as ledger:
                await ledger.export(file)

    in_world(made, script, hold_s=HOLD_S)
    report = audit(file)
    assert report.differences == []
    assert report.settlements == 6
