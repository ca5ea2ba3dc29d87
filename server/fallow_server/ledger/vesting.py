"""From held to vested: earned points wait before they can be redeemed, half of a new owner's longer than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallow_wire.journal import EARLY_S
from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..rows import Rows, marks
from .books import open_books, upsert
from .config import LedgerConfig
from .journal import Account, AccountKind, PostingKind, transfer
from .tables import holds

OWNERS_PER_SWEEP = 1000
"""Owners whose points vest in one transaction; others' batches wait meanwhile."""


def hold_until(config: LedgerConfig, now: int, since: int) -> tuple[int, int | None]:
    """When points that are booked now mature, and when the later half does; None where all mature together.

    :param since: when the owner earned the first points.
    """
    early = 0 < config.hold_s < config.early_hold_s and now < since + EARLY_S
    return now + config.hold_s, now + config.early_hold_s if early else None


def earning_since(rows: Rows, owner: str, now: int) -> int:
    """When ``owner`` earned the first points: ``now``, where these are the first."""
    found = rows.all("SELECT since FROM earners WHERE owner = ?", (owner,))
    return int(found[0][0]) if found else now


def hold(rows: Rows, owner: str, since: int, parts: Mapping[int, int]) -> None:
    """Note that more of ``owner`` matures, µp by Unix seconds; belongs to the booking's transaction."""
    if not parts:
        return
    rows.many(
        f"INSERT INTO holds (owner, matures_at, micro_points) VALUES ({marks(3)}) "
        "ON CONFLICT (owner, matures_at) DO UPDATE SET micro_points = holds.micro_points + excluded.micro_points",
        [(owner, at, amount) for at, amount in parts.items()],
    )
    rows.run("INSERT INTO earners (owner, since) VALUES (?, ?) ON CONFLICT (owner) DO NOTHING", (owner, since))


async def unhold(connection: AsyncConnection, owner: str, parts: Mapping[int, int]) -> None:
    """The reverse of :func:`hold`: ``parts`` no longer mature."""
    for at, amount in parts.items():
        mine = (holds.c.owner == owner) & (holds.c.matures_at == at)
        left = (await connection.execute(select(holds.c.micro_points).where(mine))).scalar_one() - amount
        if left:
            await upsert(connection, holds, [{"owner": owner, "matures_at": at, "micro_points": left}])
        else:
            await connection.execute(delete(holds).where(mine))


async def vest(database: Database, clock: Clock) -> int:
    """Move everything that matured from held to vested.

    :return: µp moved.
    """
    moved = 0
    while True:
        # Most sweeps find nothing, and need no writer for that.
        async with database.read() as connection:
            due = (await connection.execute(_due(clock.now()))).all()
        if not due:
            return moved
        async with database.write() as connection:
            books = await open_books(connection, clock)
            due = (await connection.execute(_due(books.now))).all()
            await books.load(Account(kind, row.owner) for row in due for kind in (AccountKind.HELD, AccountKind.VESTED))
            for row in due:
                held, vested = Account(AccountKind.HELD, row.owner), Account(AccountKind.VESTED, row.owner)
                amount = int(row.micro_points)
                books.post(transfer(PostingKind.VESTING, f"until:{books.now}", held, vested, amount))
                moved += amount
            owners = [row.owner for row in due]
            await connection.execute(delete(holds).where(holds.c.matures_at <= books.now, holds.c.owner.in_(owners)))
            await books.save()


def _due(now: int) -> Select[Any]:
    return (
        select(holds.c.owner, func.sum(holds.c.micro_points).label("micro_points"))
        .where(holds.c.matures_at <= now)
        .group_by(holds.c.owner)
        .order_by(holds.c.owner)
        .limit(OWNERS_PER_SWEEP)
    )
