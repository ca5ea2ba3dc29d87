"""The journal: sums to zero, never overdrawn, chained, and unchangeable where it is stored."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fallow_server.clock import Clock
from fallow_server.ledger import tables
from fallow_server.ledger.books import open_books
from fallow_server.ledger.journal import (
    Account,
    AccountKind,
    Posting,
    PostingKind,
    transfer,
    write_entries,
)
from fallow_server.schema import ledger_metadata
from fallow_wire.errors import LocalError
from fallow_wire.journal import GENESIS, ChainHead, Entry, first_break
from fallow_wire.strict import dumps
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import OPERATOR, OWNER, World, in_world
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

MINT, ESCROW = Account(AccountKind.MINT, "p"), Account(AccountKind.ESCROW, "p")
HOUR = Account(AccountKind.RESERVED, "p", 472_222)
HELD = Account(AccountKind.HELD, "o")


def test_account_names_tell_kind_holder_and_hour() -> None:
    assert (MINT.name, HOUR.name, HELD.name) == ("mint:p", "reserved:p:472222", "held:o")
    with pytest.raises(AssertionError):
        Account(AccountKind.RESERVED, "p")


@pytest.mark.parametrize("moves", [((ESCROW, -5), (HOUR, 4)), ((ESCROW, 0), (HOUR, 0)), ((ESCROW, 1),)])
def test_a_posting_that_does_not_balance_cannot_be_made(moves: tuple[tuple[Account, int], ...]) -> None:
    with pytest.raises(LocalError):
        Posting(PostingKind.RESERVATION, "r", moves)


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_and_less_cannot_be_transferred(amount: int) -> None:
    with pytest.raises(LocalError):
        transfer(PostingKind.DEPOSIT, "d", MINT, ESCROW, amount)


AMOUNTS = st.lists(st.integers(1, 2**53 - 1), min_size=1, max_size=6)


@given(AMOUNTS, st.integers(0, 10**6), st.data())
@settings(max_examples=40)
def test_any_change_of_any_entry_breaks_the_chain_there(amounts: list[int], place: int, data: st.DataObject) -> None:
    head, stored = ChainHead(), []
    for number, amount in enumerate(amounts):
        posting = transfer(PostingKind.DEPOSIT, f"d{number}", MINT, ESCROW, amount)
        head, written = write_entries(head, 1000 + number, posting, f"id{number}")
        stored += [(entry, digest) for _, entry, digest in written]
    assert first_break(ChainHead(), stored) == (head, None)
    assert head.entries == 2 * len(amounts)
    place %= len(stored)
    entry, digest = stored[place]
    changes = {
        "at": entry.at + 1,
        "kind": "release",
        "account": "escrow:q",
        "micro_points": -entry.micro_points,
        "posting": "other",
        "ref": "other",
    }
    name = data.draw(st.sampled_from(sorted(changes)))
    changed = [*stored[:place], (entry._replace(**{name: changes[name]}), digest), *stored[place + 1 :]]
    assert first_break(ChainHead(), changed)[1] == entry.seq
    missing = stored[:place] + stored[place + 1 :]
    if place < len(stored) - 1:
        assert first_break(ChainHead(), missing)[1] == stored[place + 1][0].seq
    else:
        assert first_break(ChainHead(), missing)[0] != head  # a cut tail shows against a signed head


def test_the_hash_is_what_the_documentation_says() -> None:
    """Anyone can follow the chain from the JSON of the entries alone."""
    import hashlib
    import json

    _, written = write_entries(ChainHead(), 7, transfer(PostingKind.DEPOSIT, "d", MINT, ESCROW, 5), "id")
    previous = GENESIS
    for _, entry, digest in written:
        canonical = json.dumps(entry.as_json(), sort_keys=True, separators=(",", ":")).encode()
        previous = hashlib.sha256(bytes.fromhex(previous) + canonical).hexdigest()
        assert previous == digest
    assert [entry.as_json()["direction"] for _, entry, _ in written] == ["out", "in"]


@pytest.mark.both_databases
def test_books_refuse_to_overdraw_and_roll_back_whole(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        async def overdraw() -> None:
            async with world.database.write() as connection:
                books = await open_books(connection, Clock())
                await books.load([MINT, ESCROW, HELD])
                books.post(transfer(PostingKind.DEPOSIT, "d", MINT, ESCROW, 5))
                await books.save()
                books.post(transfer(PostingKind.SETTLEMENT, "s", ESCROW, HELD, 6))

        with pytest.raises(LocalError, match="overdraw"):
            await overdraw()
        async with world.database.read() as connection:
            for table in ("entries", "balances"):
                assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0

    in_world(tmp_path, script, populate=False)


UNCHANGEABLE = {
    "entries": "at",
    "settlements": "micro_points",
    "batches": "received_at",
    "tariffs": "version",
    "clawbacks": "reason",
    "earners": "since",
    "audits": "agreed",
}


@pytest.mark.parametrize(("table", "column"), UNCHANGEABLE.items())
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
@pytest.mark.both_databases
def test_what_was_booked_cannot_be_changed(tmp_path: Path, table: str, column: str, change: str) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket()
        await world.prove(world.item(ticket))
        audit = {"device": world.device.id, "jti": ticket.jti, "bytes": 1, "agreed": True}
        await world.good("POST", "/v1/audits", OPERATOR, audit)
        await world.good(
            "POST", f"/v1/settlements/{ticket.jti}/clawback", OPERATOR, {"reason": "a test"}, once="reversal"
        )

        async def alter() -> None:
            async with world.database.write() as connection:
                await connection.execute(text(change.format(table, column, column)))

        with pytest.raises(DBAPIError, match="immutable"):
            await alter()
        await world.reconciled()

    in_world(tmp_path, script, hold_s=100)


@pytest.mark.skipif("FALLOW_TEST_DATABASE_URL" in os.environ, reason="PostgreSQL's tables are always strict")
def test_sqlites_tables_are_strict(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        async with world.database.read() as connection:
            query = "SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND schema = 'main'"
            strict = {row.name: row.strict for row in await connection.execute(text(query))}
        assert {name for name in strict if name in ledger_metadata.tables} == set(ledger_metadata.tables)
        assert {name for name, value in strict.items() if not value} == {"alembic_version_ledger", "sqlite_schema"}

        async def mistype() -> None:
            async with world.database.write() as connection:
                await connection.execute(text("UPDATE balances SET micro_points = '1.5x'"))

        with pytest.raises(DBAPIError, match="cannot store TEXT"):
            await mistype()

    in_world(tmp_path, script)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE balances SET micro_points = -1 WHERE kind = 'held'",
        "UPDATE balances SET micro_points = -1 WHERE kind = 'escrow'",
        "INSERT INTO chain_head (id, entries, hash) VALUES (2, 0, '')",
        "INSERT INTO entries SELECT max(seq) + 1, 0, 'voiding', 'a', 'a', 1, 'p', 'resolved', hash FROM entries "
        "GROUP BY hash UNION ALL SELECT 100, 0, 'fulfilment', 'a', 'a', 1, 'p', 'resolved', hash FROM entries",
    ],
)
@pytest.mark.both_databases
def test_the_database_itself_refuses_what_must_not_be(tmp_path: Path, statement: str) -> None:
    async def script(world: World) -> None:
        await world.prove(world.item())

        async def alter() -> None:
            async with world.database.write() as connection:
                await connection.execute(text(statement))

        with pytest.raises(DBAPIError):
            await alter()
        assert (await world.account(OWNER))["vested"] > 0

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_the_migration_makes_the_tables_that_the_code_declares(tmp_path: Path) -> None:
    assert tables.entries.metadata is ledger_metadata

    async def script(world: World) -> None:
        async with world.database.read() as connection:

            def compare(sync: object) -> list[object]:
                options = {"include_name": lambda name, kind, parents: name != "alembic_version_ledger"}
                return list(compare_metadata(MigrationContext.configure(sync, opts=options), ledger_metadata))  # type: ignore[arg-type]

            assert await connection.run_sync(compare) == []

    in_world(tmp_path, script, populate=False)


@given(
    st.text(max_size=6) | st.just("held:own-1"), st.integers(-(2**53) + 1, 2**53 - 1).filter(bool), st.text(max_size=3)
)
def test_an_entry_is_hashed_as_its_canonical_json(account: str, micro_points: int, ref: str) -> None:
    entry = Entry(1, 2, "settlement", account, micro_points, "posting", ref)
    try:
        canonical = dumps(entry.as_json())
    except LocalError:  # a lone surrogate
        return
    assert entry.hash_after(GENESIS) == hashlib.sha256(bytes(32) + canonical).hexdigest()
