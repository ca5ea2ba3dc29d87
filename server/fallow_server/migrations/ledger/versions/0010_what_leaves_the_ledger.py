"""Orders to providers, terms of rewards, signed statements, daily reports, restores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IMMUTABLE = ("statements", "reports")


def upgrade() -> None:
    op.add_column("rewards", sa.Column("terms", sa.Text(), nullable=True))
    op.add_column("rewards", sa.Column("withdrawn_at", WHOLE, nullable=True))
    op.add_column("redemptions", sa.Column("reason", sa.Text(), nullable=True))
    op.create_table(
        "reward_webhooks",
        sa.Column("reward", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("reward", name=op.f("pk_reward_webhooks")),
        sqlite_strict=True,
    )
    op.create_table(
        "redemption_outbox",
        sa.Column("redemption", sa.Text(), nullable=False),
        sa.Column("due_at", WHOLE, nullable=False),
        sa.Column("attempts", WHOLE, nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_redemption_outbox_counted")),
        sa.PrimaryKeyConstraint("redemption", name=op.f("pk_redemption_outbox")),
        sqlite_strict=True,
    )
    op.create_index("ix_redemption_outbox_due_at", "redemption_outbox", ["due_at"], unique=False)
    op.create_table(
        "statements",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", "month", name=op.f("pk_statements")),
        sqlite_strict=True,
    )
    op.create_table(
        "reports",
        sa.Column("day", WHOLE, autoincrement=False, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
        sa.Column("sound", WHOLE, nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_reports")),
        sqlite_strict=True,
    )
    op.create_table(
        "restores",
        sa.Column("at", WHOLE, autoincrement=False, nullable=False),
        sa.Column("backup_at", WHOLE, nullable=False),
        sa.Column("entries", WHOLE, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("reviewed_at", WHOLE, nullable=True),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_restores")),
        sqlite_strict=True,
    )
    op.create_table(
        "gaps",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("expected", WHOLE, autoincrement=False, nullable=False),
        sa.Column("seen", WHOLE, nullable=False),
        sa.Column("noted_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("device", "expected", name=op.f("pk_gaps")),
        sqlite_strict=True,
    )
    for table in IMMUTABLE:
        _forbid_changes(table)


def _forbid_changes(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END"
        )
