"""From held to vested: earned points wait ``hold_s`` before they can be redeemed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from .books import open_books, upsert
from .journal import Account, AccountKind, PostingKind, transfer
from .tables import holds

OWNERS_PER_SWEEP = 1000
"""Owners whose points vest in one transaction; others' batches wait meanwhile."""


async def hold(connection: AsyncConnection, owner: str, matures_at: int, micro_points: int) -> None:
    """Note that ``micro_points`` more of ``owner`` mature at ``matures_at``; belongs to the booking's transaction."""
    if not micro_points:
        return
    query = select(holds.c.micro_points).where(holds.c.owner == owner, holds.c.matures_at == matures_at)
    before = (await connection.execute(query)).scalar_one_or_none() or 0
    row = {"owner": owner, "matures_at": matures_at, "micro_points": before + micro_points}
    await upsert(connection, holds, [row])


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
