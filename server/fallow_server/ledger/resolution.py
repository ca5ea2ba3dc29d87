"""How a redemption ends: its states, and the one way from each to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from .books import Books
from .journal import Account, AccountKind, PostingKind, transfer
from .tables import redemptions, rewards

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "reserved": frozenset({"fulfilled", "voided", "unknown"}),
    "unknown": frozenset({"fulfilled", "voided"}),
    "fulfilled": frozenset(),
    "voided": frozenset(),
}
"""States of a redemption, and what can become of each."""


def purses(owner: str) -> tuple[Account, Account, Account]:
    """``vested``, ``redeeming`` and ``redeemed``."""
    return (
        Account(AccountKind.VESTED, owner),
        Account(AccountKind.REDEEMING, owner),
        Account(AccountKind.REDEEMED, owner),
    )


async def resolve(
    connection: AsyncConnection, books: Books, row: Any, outcome: str, *, code: str | None = None, reason: str = ""
) -> None:
    """Bring the redemption in ``row`` into the state ``outcome``; belongs to the transaction that read it.

    The caller has looked whether :data:`TRANSITIONS` has that way, and saves ``books``.
    """
    assert outcome in TRANSITIONS[row.state], f"{row.id}: from {row.state} to {outcome}"
    vested, redeeming, redeemed = purses(row.owner)
    await books.load([vested, redeeming, redeemed])
    if outcome == "fulfilled":
        books.post(transfer(PostingKind.FULFILMENT, row.id, redeeming, redeemed, row.micro_points))
    elif outcome == "voided":
        books.post(transfer(PostingKind.VOIDING, row.id, redeeming, vested, row.micro_points))
        back = update(rewards).where(rewards.c.id == row.reward, rewards.c.stock.is_not(None))
        await connection.execute(back.values(stock=rewards.c.stock + 1))
    changed = {"state": outcome, "changed_at": books.now, "code": code or row.code, "reason": reason or None}
    await connection.execute(update(redemptions).where(redemptions.c.id == row.id).values(changed))
