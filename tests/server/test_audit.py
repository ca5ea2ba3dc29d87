"""``fallow verify``: honest books compute again to the same, and any damage is found where it is."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fallow_client.audit.report import Report
from fallow_client.audit.run import audit
from fallow_client.audit.source import COLUMNS
from fallow_client.cli import run as fallow
from fallow_client.errors import ClientError
from fallow_client.ledger import Ledger
from fallow_server.ledger.export import EXPORTED
from fallow_server.ledger.outward_tables import restores, reward_webhooks
from fallow_server.ledger.tables import chain_head, redemptions
from fallow_wire.batches import Head
from fallow_wire.ids import uuid7
from fallow_wire.journal import MOVES
from fallow_wire.jws import Kind, verify
from ledger_world import LINK, MIB, OPERATOR, OTHER, OWNER, PUBLISHER, Chain, World, in_world
from sqlalchemy import insert, select, update

on_sqlite = pytest.mark.skipif("FALLOW_TEST_DATABASE_URL" in os.environ, reason="reads the SQLite file itself")
DAY_S = 86_400


async def busy(world: World) -> None:
    """A bit of everything that a ledger books."""
    second = Chain(40)
    await world.bind(second, OTHER)
    reversed_ = world.ticket()
    repeated = world.item()
    await world.prove(
        world.item(reversed_), repeated, world.item(world.ticket(None, line="line")), world.item(confirmed=0)
    )
    for jti in (reversed_.jti, "0189c0f0-0000-7000-8000-000000000000"):
        audit_ = {"device": world.device.id, "jti": jti, "bytes": 1, "agreed": True}
        await world.good("POST", "/v1/audits", OPERATOR, audit_)
    routed = {"region": "DE", "bps": 10_000, "reach": 900}
    ids = [uuid7(world.clock.now_ms(), os.urandom(10)) for _ in range(6)]
    await world.prove(*(world.item(world.ticket(jti=jti, sub=f"c{n}", **routed)) for n, jti in enumerate(ids)))
    for _ in range(3):
        item = world.item(world.ticket(chain=second), confirmed=3 * MIB, claimed=5 * MIB)
        await world.prove(item, world.item(world.ticket(svc="probe", chain=second)), chain=second)
    await world.good(
        "POST", f"/v1/settlements/{reversed_.jti}/clawback", OPERATOR, {"reason": "a test"}, once="reversal"
    )
    world.clock.time += 100
    await world.service.sweep()
    reward = await world.good("POST", "/v1/rewards", OPERATOR, {"title": "a cup", "micro_points": 10, "stock": 9})
    for number, outcome in enumerate(("fulfilled", "voided", None)):
        body = {"reward": reward["id"]}
        redemption = await world.good("POST", "/v1/redemptions", OTHER, body, once=f"r{number}")
        if outcome is not None:
            path = f"/v1/redemptions/{redemption['id']}/resolution"
            await world.good("POST", path, OPERATOR, {"outcome": outcome})
    refused = world.item(world.ticket(tariff="f" * 64))
    await world.prove(repeated, refused, world.item())
    world.clock.time += 3 * DAY_S
    await world.service.sweep()
    await out_of_order(world, second)
    await world.bind(world.device, None)
    await told(world)


async def out_of_order(world: World, chain: Chain) -> None:
    """A canary that found a device wrong, a fork of its chain, a gap in it."""
    wrong = {"device": chain.id, "jti": "0189c0f0-0000-7000-8000-000000000001", "bytes": 0, "agreed": False}
    await world.good("POST", "/v1/audits", OPERATOR, wrong)
    for seq, slug in ((chain.seq, "chain-fork"), (chain.seq + 2, "sequence-gap")):
        assert (await world.post(chain.batch(world.item(), seq=seq))).type == slug
    world.device.sent(world.device.batch(world.item()))  # one that never arrives
    for days in (4, 16):  # by then the day is looked at, and then the month is over
        world.clock.time += days * DAY_S
        await world.service.sweep()


async def told(world: World) -> None:
    """What leaves the ledger: statements, a report, an order to a provider who is not there; and a restore."""
    for account in (OTHER, "publisher-1"):
        await world.good("GET", f"/v1/accounts/{account}/statements/2023-11", OPERATOR)
    assert (await world.service.reports.make_due())["sound"]
    for more in ({"codes": ["SECRET-CODE-1", "SECRET-CODE-2"]}, {"webhook": "http://127.0.0.1:9/SECRET-PATH"}):
        reward = await world.good("POST", "/v1/rewards", OPERATOR, {"title": "y", "micro_points": 10, **more})
        await world.good("POST", "/v1/redemptions", OTHER, {"reward": reward["id"]}, once=next(iter(more)))
    async with world.database.write() as connection:
        await connection.execute(update(redemptions).values(reason="SECRET-REASON"))
        head = (await connection.execute(select(chain_head))).one()
        row = {"at": world.clock.time, "backup_at": world.clock.time - 9, "entries": head.entries, "hash": head.hash}
        await connection.execute(insert(restores), [row])


async def exported(world: World, file: Path) -> None:
    async with Ledger(world.address, OPERATOR) as ledger:
        await ledger.export(file)


def books(tmp_path: Path, script: Callable[[World], Any] | None = None) -> Path:
    """A ledger's database after :func:`busy`, closed."""
    state = tmp_path / "state"
    state.mkdir()

    async def work(world: World) -> None:
        await busy(world)
        if script is not None:
            await script(world)

    in_world(state, work, hold_s=50, early_hold_s=60 * DAY_S)
    return state / "ledger.sqlite"


def places(report: Report) -> set[tuple[str, str]]:
    return {(one.table, one.what) for one in report.differences}


@pytest.mark.parametrize("name", ["books.ndjson", "books.ndjson.gz"])
def test_an_export_computes_again_to_what_was_booked(tmp_path: Path, name: str) -> None:
    async def script(world: World) -> None:
        await busy(world)
        await exported(world, tmp_path / name)
        head = verify((await world.call("GET", "/v1/head")).body, Kind.HEAD, Head, world.keys.public_keys().get).value
        report = await asyncio.to_thread(audit, tmp_path / name, None, (head.entries, head.hash))
        assert report.differences == []
        assert (report.entries, report.head, report.sum) == (head.entries, head.hash, 0)
        known = await world.reconciled()
        assert (report.settlements, report.micro_points) == (known["settlements"], known["recomputed"])
        assert report.batches == 6
        assert report.signatures > 5 * 2 + 9
        forged = await asyncio.to_thread(audit, tmp_path / name, None, (head.entries - 1, head.hash))
        assert places(forged) == {("entries", "head that was kept")}

    in_world(tmp_path, script, hold_s=50, early_hold_s=200_000)


def test_an_audit_knows_every_column_that_is_exported() -> None:
    exported = {
        table.name: {column.name for column in table.columns} - withheld for table, withheld in EXPORTED.items()
    }
    assert exported == {table: set(columns.split()) for table, columns in COLUMNS.items()}


def test_an_export_tells_no_secrets_and_only_operators_get_it(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await busy(world)
        async with world.database.read() as connection:
            secrets = (await connection.execute(select(reward_webhooks.c.secret))).scalars().all()
        assert len(secrets) == 1
        for token in (OWNER, OTHER, PUBLISHER, LINK):
            assert (await world.call("GET", "/v1/export", token)).status == 403
        answer = await world.call("GET", "/v1/export", OPERATOR)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
        for secret in ("SECRET", "token_hash", "127.0.0.1:9", *secrets):
            assert secret.encode() not in answer.body, secret
        assert answer.body.count(b'"redemptions"') == 5 + 1  # rows and their count

    in_world(tmp_path, script, hold_s=50)


def test_an_export_that_is_cut_or_is_none_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole"

    async def script(world: World) -> None:
        await busy(world)
        await exported(world, whole)

    in_world(tmp_path, script, hold_s=50)
    content = whole.read_bytes()
    lines = content.splitlines(keepends=True)
    packed = gzip.compress(content)
    broken = [
        b"",
        b"no JSON",
        b'{"a": 1}',
        b"[]",
        content[:-1][: len(content) // 2],
        b"".join(lines[:-1]),
        b"".join(lines[:5] + lines[6:]),
        b"".join(lines[:5] + lines[4:]),
        packed[: len(packed) // 2],
        b"SQLite format 3\0" + b"\1" * 4000,
    ]
    for number, bad in enumerate(broken):
        file = tmp_path / f"bad-{number}"
        file.write_bytes(bad)
        try:
            assert audit(file).differing, bad[:80]
        except ClientError as error:
            assert error.remedy, bad[:80]
    with pytest.raises(ClientError, match="No such file"):
        audit(tmp_path / "absent")


@on_sqlite
def test_a_closed_database_is_audited_in_place_and_not_touched(tmp_path: Path) -> None:
    file = books(tmp_path)
    before = file.read_bytes()
    report = audit(file)
    assert report.differences == []
    assert file.read_bytes() == before
    code = fallow(["verify", str(file), "--json"], {"FALLOW_HOME": str(tmp_path)})
    assert code == 0


@on_sqlite
def test_every_column_of_every_row_is_covered(tmp_path: Path) -> None:
    """One value at a time, changed as a flipped bit would, in every table that there is."""
    file = books(tmp_path)
    draw = random.Random(5)
    copy = tmp_path / "copy.sqlite"
    checked = 0
    for table, columns in columns_of(file).items():
        assert values_of(file, table, columns[0], draw), f"{table} has no rows"
        for column in columns:
            for rowid, value in values_of(file, table, column, draw):
                shutil.copy(file, copy)
                alter(copy, table, column, rowid, flipped(value, draw))
                assert audit(copy).differences, (table, column, rowid, value)
                checked += 1
    assert checked > 100


def columns_of(file: Path) -> dict[str, list[str]]:
    """All tables of the ledger with their columns."""
    connection = sqlite3.connect(file)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
    connection.close()
    del found["alembic_version_ledger"]
    assert set(COLUMNS) <= set(found)
    return found


def values_of(file: Path, table: str, column: str, draw: random.Random) -> list[tuple[Any, Any]]:
    """Two rows of a table that have a value there, by primary key."""
    connection = sqlite3.connect(file)
    key = "jti" if table == "settlements" else "rowid"
    rows = connection.execute(f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
    connection.close()
    return draw.sample(rows, min(2, len(rows)))


def flipped(value: Any, draw: random.Random) -> Any:
    if isinstance(value, int):
        return value ^ (1 << draw.randrange(20))
    raw = bytearray(value.encode() or b"x")
    raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(7)
    return raw.decode()


def alter(file: Path, table: str, column: str, key: Any, value: Any) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    triggers = connection.execute(query, (table,)).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    where = "jti" if table == "settlements" else "rowid"
    connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {where} = ?", (value, key))
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()


def dump(file: Path, columns: dict[str, list[str]]) -> dict[str, list[Any]] | None:
    """What the tables say; None where SQLite can no longer read them."""
    connection = sqlite3.connect(file)
    connection.text_factory = bytes
    try:
        return {
            table: sorted(map(repr, connection.execute(f"SELECT {', '.join(names)} FROM {table}")))
            for table, names in columns.items()
        }
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    finally:
        connection.close()


@on_sqlite
def test_one_flipped_byte_anywhere_in_the_file_is_found(tmp_path: Path) -> None:
    """Any byte of the file. One that changes no row (in free space) need not be found."""
    file = books(tmp_path)
    columns = columns_of(file)
    content, honest = file.read_bytes(), dump(file, columns)
    draw = random.Random(11)
    copy = tmp_path / "copy.sqlite"
    found = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[draw.randrange(100, len(content))] ^= 1 << draw.randrange(8)
        copy.write_bytes(damaged)
        if dump(copy, columns) != honest:
            found += 1
            assert audit(copy).differences
    assert found > 50


@on_sqlite
@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("DELETE FROM entries WHERE seq = 7", ("entries", "seq")),
        ("DELETE FROM settlements WHERE item = 1 AND batch_seq = 1", ("settlements", "missing")),
        ("DELETE FROM batches WHERE seq = 2", ("batches", "seq")),
        ("DELETE FROM balances WHERE account = 'vested:other'", ("balances", "missing")),
        ("DELETE FROM holds", ("holds", "missing")),
        ("DELETE FROM clawbacks", ("clawbacks", "missing")),
        ("DELETE FROM earners", ("earners", "since")),
        ("DELETE FROM devices", ("batches", "device")),
        ("DELETE FROM redemptions", ("redemptions", "missing")),
        ("DELETE FROM legacy_days", ("legacy_days", "bytes")),
        ("DELETE FROM roots WHERE day = (SELECT min(day) + 1 FROM roots)", ("roots", "the day before")),
        ("DELETE FROM tariffs", ("settlements", "tariff")),
        ("UPDATE statements SET month = '2023-10'", ("statements", "what it is of")),
        ("UPDATE restores SET hash = replace(hash, substr(hash, 1, 1), 'x')", ("restores", "hash")),
        (
            'UPDATE reports SET report = replace(report, \'"moved":{}\', \'"moved":{"deposit":1}\')',
            ("reports", "movements"),
        ),
        ("UPDATE reports SET report = replace(report, '\"vested\":', '\"vested\":1')", ("reports", "places")),
        ("UPDATE reports SET sound = 0", ("reports", "day, time and soundness")),
    ],
)
def test_what_is_missing_is_found(tmp_path: Path, statement: str, where: tuple[str, str]) -> None:
    file = books(tmp_path)
    connection = sqlite3.connect(file)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()
    assert where in places(audit(file))


@on_sqlite
def test_the_command_says_what_is_wrong_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = books(tmp_path)
    alter(file, "entries", "micro_points", 6, 12_345)
    assert fallow(["verify", str(file)], {"FALLOW_HOME": str(tmp_path)}) == 1
    output = capsys.readouterr()
    assert "12345" in output.out or "12_345" in output.out or "hash" in output.out
    assert "differ" in output.err


def test_the_kinds_of_postings_are_those_that_an_audit_knows() -> None:
    from fallow_server.ledger.journal import AccountKind, PostingKind

    assert set(MOVES) == set(PostingKind)
    assert {kind for move in MOVES.values() for kind in move} == set(AccountKind)


def test_each_day_gets_its_signed_root(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        assert await world.good("GET", "/v1/roots") == []
        await world.prove(world.item())
        heads = await world.good("GET", "/v1/reconciliation", OPERATOR)
        assert heads["differences"] == []
        await world.service.sweep()
        assert await world.good("GET", "/v1/roots") == []  # today has not ended
        world.clock.time += 2 * DAY_S
        await world.service.sweep()
        newest, oldest = await world.good("GET", "/v1/roots")
        assert (newest["hash"], newest["entries"]) == (oldest["hash"], oldest["entries"])
        root = verify(oldest["root"], Kind.HEAD, Head, world.keys.public_keys().get).value
        assert (root.entries, root.hash, root.at % DAY_S) == (oldest["entries"], oldest["hash"], 0)
        assert await world.good("GET", f"/v1/roots/{oldest['day']}") == oldest
        assert (await world.call("GET", "/v1/roots/2001-01-01")).status == 404
        assert (await world.call("GET", "/v1/roots/2023-02-31")).status == 400

    in_world(tmp_path, script)
