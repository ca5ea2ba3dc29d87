"""Strict tables, what rows promise as CHECKs, when points mature, reversals that happen once, and what is kept against
fraud: audits, lines, reviews."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from alembic import op
from fallow_wire.batches import Batch
from fallow_wire.journal import settlement_seal
from fallow_wire.jws import Kind, parse, split
from fallow_wire.tickets import Receipt, Ticket

from fallow_server.migrations.guards import changeable, forbid_changes, forbid_update
from fallow_server.schema import WHOLE

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHECKS = {
    "entries": {
        "counted": "seq >= 1",
        "hashed": "length(hash) = 64",
        "bounded": "micro_points BETWEEN -9007199254740991 AND 9007199254740991",
    },
    "batches": {"counted": "seq >= 1", "hashed": "length(hash) = 64"},
    "devices": {"counted": "seq >= 0", "hashed": "length(hash) = 64"},
    "chain_head": {"counted": "entries >= 0", "hashed": "length(hash) = 64"},
    "legacy_days": {"not_negative": "bytes >= 0", "scope": "scope IN ('device', 'publisher')"},
    "settlements": {
        "least": "paid_bytes <= claimed_bytes AND paid_bytes <= allowed_bytes "
        "AND (confirmed_bytes IS NULL OR paid_bytes <= confirmed_bytes)",
        "witnessed": "(confirmed_bytes IS NOT NULL) = (tier = 'countersigned')",
        "booked": "(entry_seq IS NULL) = (micro_points = 0)",
    },
}
"""By table and name."""
WITHOUT_ROWID = ("settlements",)
"""Keyed by ticket ids, which rise with time: one tree less to write for each ticket."""
HOLD_S_BEFORE = 14 * 86_400
"""What was booked before this revision was held so long unless the operator had chosen otherwise."""


ADDED: dict[str, tuple[sa.Column[Any], ...]] = {
    "settlements": (
        sa.Column("matures_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("late_at", sa.BigInteger()),
        sa.Column("confirmed_ms", sa.BigInteger()),
        sa.Column("consumer", sa.Text(), server_default="", nullable=False),
        sa.Column("object", sa.Text(), server_default="", nullable=False),
        sa.Column("line", sa.Text()),
        sa.Column("odds", sa.BigInteger()),
        sa.Column("audits", sa.BigInteger()),
        sa.Column("seal", sa.Text(), server_default="", nullable=False),
    ),
}
"""Columns, by table."""


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        for table, columns in ADDED.items():
            for column in columns:
                op.add_column(table, column)
        with changeable("settlements"):
            op.execute(f"UPDATE settlements SET matures_at = booked_at + {HOLD_S_BEFORE}")
        op.alter_column("settlements", "matures_at", server_default=None)
        for name in ("consumer", "object", "seal"):
            op.alter_column("settlements", name, server_default=None)
        for table, checks in CHECKS.items():
            for name, condition in checks.items():
                op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
    else:
        for table in sa.inspect(op.get_bind()).get_table_names():
            if not table.startswith("alembic_version"):
                _rebuild(table)
    _complete_settlements()
    _create(
        "clawbacks",
        _text("jti"),
        _number("micro_points"),
        _text("reason"),
        _number("entry_seq"),
        _number("at"),
        sa.CheckConstraint("micro_points > 0", name=op.f("ck_clawbacks_some")),
        keys=("jti",),
    )
    _create("earners", _text("owner"), _number("since"), keys=("owner",))
    _create(
        "audits",
        _text("jti"),
        _text("device"),
        _number("bytes"),
        _number("agreed"),
        _text("reason"),
        _number("at"),
        sa.CheckConstraint("agreed IN (0, 1)", name=op.f("ck_audits_agreed")),
        keys=("jti",),
    )
    op.create_index("ix_audits_device", "audits", ["device", "at"])
    _create(
        "line_hours",
        _text("line"),
        _number("hour"),
        _number("bytes"),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_line_hours_not_negative")),
        keys=("line", "hour"),
    )
    _create(
        "reviews",
        _text("id"),
        _text("owner"),
        _text("device"),
        _text("reason"),
        _text("detail"),
        _text("state"),
        _number("at"),
        _number("changed_at"),
        sa.CheckConstraint("state IN ('open', 'cleared', 'upheld')", name=op.f("ck_reviews_state")),
        keys=("id",),
    )
    op.create_index("ix_reviews_owner", "reviews", ["owner", "id"])
    op.create_index("uq_reviews_device_reason_at", "reviews", ["device", "reason", "at"], unique=True)
    op.execute(
        "INSERT INTO earners (owner, since) "
        "SELECT owner, min(booked_at) FROM settlements WHERE micro_points > 0 GROUP BY owner"
    )
    # A redemption is resolved at most once, and a reversal is posted at most once, whatever the code believes.
    where = sa.text(ONCE)
    op.create_index("uq_entries_once", "entries", ["ref"], unique=True, sqlite_where=where, postgresql_where=where)
    forbid_changes("clawbacks", "earners", "audits")
    forbid_update(
        "redemptions_resolved", "redemptions", "OLD.state IN ('fulfilled', 'voided') AND NEW.state <> OLD.state"
    )


ONCE = "kind IN ('fulfilment', 'voiding', 'clawback') AND micro_points > 0"


def _complete_settlements() -> None:
    """What of a settlement was not stored yet, from the batch that it is in: ``fallow verify`` wants it everywhere."""
    connection = op.get_bind()
    of_batch = "device = :device AND batch_seq = :seq"
    query = sa.text(f"SELECT jti, item, owner, tier, matures_at FROM settlements WHERE {of_batch}")
    stored = sa.text("SELECT token FROM batches WHERE device = :device AND seq = :seq")
    change = sa.text(
        "UPDATE settlements SET confirmed_ms = :ms, consumer = :consumer, object = :object, audits = :audits, "
        "seal = :seal WHERE jti = :jti"
    )
    with changeable("settlements"):
        for device, seq in connection.execute(sa.text("SELECT device, seq FROM batches")).all():
            batch = {"device": device, "seq": seq}
            rows = connection.execute(query, batch).all()
            if not rows:
                continue
            items = parse(split(connection.execute(stored, batch).scalar_one(), Kind.BATCH), Batch).items
            for row in rows:
                item = items[row.item]
                ticket = parse(split(item.ticket, Kind.TICKET), Ticket)
                receipt = None if item.receipt is None else parse(split(item.receipt, Kind.RECEIPT), Receipt)
                completed = {
                    "jti": row.jti,
                    "ms": None if receipt is None else receipt.ms,
                    "consumer": ticket.sub,
                    "object": ticket.obj,
                    "audits": 0 if row.tier == "legacy" else None,
                    "seal": settlement_seal(row.jti, row.owner, row.matures_at, None),
                }
                connection.execute(change, completed)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, WHOLE, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _create(table: str, *parts: sa.schema.SchemaItem, keys: tuple[str, ...]) -> None:
    op.create_table(table, *parts, sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{table}")), sqlite_strict=True)


def _rebuild(table: str) -> None:
    """The same table, STRICT: SQLite turns no table into one. Strict tables know INTEGER and TEXT alone."""
    connection = op.get_bind()
    parts = connection.execute(
        sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL"), {"table": table}
    ).all()
    (made,) = (part.sql for part in parts if part.type == "table")
    columns = [column["name"] for column in sa.inspect(connection).get_columns(table)]
    values = list(columns)
    body = re.sub(r"\b(BIGINT|BOOLEAN)\b", "INTEGER", made.strip()).removesuffix(")").rstrip()
    added = ""
    for column in ADDED.get(table, ()):
        kind = "TEXT" if isinstance(column.type, sa.Text) else "INTEGER"
        added += f"{column.name} {kind}{'' if column.nullable else ' NOT NULL'}, "
        columns.append(column.name)
        values.append(
            {"matures_at": f"booked_at + {HOLD_S_BEFORE}", "late_at": "NULL"}.get(
                column.name, "NULL" if column.nullable else "''"
            )
        )
    body = re.sub(r"\bCONSTRAINT\b", f"{added}CONSTRAINT", body, count=1)
    for name, condition in CHECKS.get(table, {}).items():
        body += f", CONSTRAINT ck_{table}_{name} CHECK ({condition})"
    body = re.sub(rf"^CREATE TABLE \"?{table}\"?", f"CREATE TABLE strict_{table}", body)
    options = "STRICT, WITHOUT ROWID" if table in WITHOUT_ROWID else "STRICT"
    op.execute(f"{body}) {options}")
    op.execute(f"INSERT INTO strict_{table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table}")
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE strict_{table} RENAME TO {table}")
    for part in parts:
        if part.type != "table":
            op.execute(part.sql)
