"""Reconciliation finds whatever was altered behind the ledger's back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from ledger_world import OPERATOR, OWNER, PUBLISHER, World, in_world

on_sqlite = pytest.mark.skipif("FALLOW_TEST_DATABASE_URL" in os.environ, reason="alters the SQLite file itself")


async def busy(world: World) -> None:
    for _ in range(3):
        await world.prove(world.item(), world.item(world.ticket(None)), world.item())
    world.clock.time += 100
    await world.service.sweep()
    await world.prove(world.item())


def test_honest_books_reconcile(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        empty = await world.reconciled()
        assert empty["accounts"] == empty["settlements"] == 0
        await world.populate()
        await busy(world)
        report = await world.reconciled()
        assert report["settlements"] == 10
        assert set(report) == {"sum", "accounts", "settlements", "booked", "recomputed", "differences"}
        for token, status in ((OWNER, 403), (PUBLISHER, 403), (None, 401)):
            assert (await world.call("GET", "/v1/reconciliation", token)).status == status

    async def with_operator(world: World) -> None:
        from fallow_server.tokens import hash_token

        body = {"role": "operator", "name": "o", "token_hashes": [hash_token(OPERATOR)]}
        await world.good("PUT", f"/v1/link/accounts/{OPERATOR}", "link", body)
        await script(world)

    in_world(tmp_path, with_operator, populate=False, hold_s=50)


@on_sqlite
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "UPDATE entries SET micro_points = micro_points + 1 WHERE seq = 6",
            {"posting", "chain", "balance", "entries"},
        ),
        ("UPDATE entries SET at = at + 1 WHERE seq = 8", {"chain"}),
        ("UPDATE entries SET ref = 'other' WHERE seq = 6", {"chain"}),
        ("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)", {"chain", "posting", "balance"}),
        ("UPDATE balances SET micro_points = micro_points + 1 WHERE account = 'held:owner'", {"balance", "held"}),
        ("UPDATE balances SET micro_points = micro_points + 1 WHERE account = 'escrow:publisher-1'", {"balance"}),
        ("DELETE FROM balances WHERE account = 'vested:owner'", {"balance"}),
        ("UPDATE settlements SET micro_points = micro_points + 1 WHERE item = 1", {"micro_points", "entries"}),
        ("UPDATE settlements SET paid_bytes = paid_bytes + 1 WHERE item = 1", {"factors"}),
        ("UPDATE settlements SET claimed_bytes = 0 WHERE item = 0", {"inputs"}),
        ("UPDATE settlements SET service = 'live' WHERE item = 0", {"inputs"}),
        ("UPDATE settlements SET owner = 'other' WHERE item = 0", {"entries"}),
        ("UPDATE settlements SET entry_seq = NULL WHERE item = 0", {"entries"}),
        ("UPDATE settlements SET weight = 2000 WHERE tier = 'legacy'", {"factors"}),
        ("UPDATE settlements SET batch_seq = 99 WHERE batch_seq = 1", {"settlements"}),
        ("DELETE FROM settlements WHERE item = 2", {"settlements"}),
        ("UPDATE batches SET token = replace(token, '.', '..') WHERE seq = 2", {"batch"}),
        ("UPDATE batches SET token = (SELECT token FROM batches WHERE seq = 1) WHERE seq = 2", {"batch", "inputs"}),
        ("DELETE FROM tariffs", {"settlement"}),
        ("UPDATE chain_head SET entries = entries + 1", {"chain"}),
        ("DELETE FROM holds", {"held"}),
    ],
)
def test_each_kind_of_tampering_is_found(tmp_path: Path, statement: str, what: set[str]) -> None:
    async def script(world: World) -> None:
        await busy(world)
        await world.reconciled()

        def tamper() -> None:
            with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
                connection.execute("PRAGMA ignore_check_constraints = ON")
                triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
                for (name,) in triggers:
                    connection.execute(f"DROP TRIGGER {name}")
                assert connection.execute(statement).rowcount > 0
            connection.close()

        await asyncio.to_thread(tamper)
        report = await world.good("GET", "/v1/reconciliation", OPERATOR)
        assert what <= {one["what"] for one in report["differences"]}, report["differences"]
        assert all(set(one) == {"what", "where", "stored", "found"} for one in report["differences"])

    in_world(tmp_path, script, hold_s=50)
