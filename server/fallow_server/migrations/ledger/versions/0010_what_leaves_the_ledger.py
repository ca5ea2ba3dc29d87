"""Orders to providers, terms of rewards, signed statements, daily reports, restores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fallow_server.migrations.guards import forbid_changes, forbid_delete, forbid_update, keep_copies
from fallow_server.schema import WHOLE

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None

COPIED = {
    "gaps": (("device", "expected"), ("seen", "noted_at")),
    "redemption_outbox": (("redemption",), ("due_at", "attempts")),
    "redemptions": (
        ("id",),
        ("owner", "reward", "micro_points", "state", "code", "created_at", "changed_at", "reason"),
    ),
    "reports": (("day",), ("at", "sound", "report")),
    "restores": (("at",), ("backup_at", "entries", "hash", "reviewed_at")),
    "reward_webhooks": (("reward",), ("url", "secret")),
    "rewards": (("id",), ("title", "micro_points", "stock", "has_codes", "created_at", "terms", "withdrawn_at")),
    "statements": (("account", "month"), ("token",)),
}
"""As of 0004, with the columns that are added here."""


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
        sa.CheckConstraint("length(month) = 7", name=op.f("ck_statements_month")),
        sa.PrimaryKeyConstraint("account", "month", name=op.f("pk_statements")),
        sqlite_strict=True,
    )
    op.create_table(
        "reports",
        sa.Column("day", WHOLE, autoincrement=False, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
        sa.Column("sound", WHOLE, nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.CheckConstraint("sound IN (0, 1)", name=op.f("ck_reports_sound")),
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
        sa.CheckConstraint("entries >= 0", name=op.f("ck_restores_counted")),
        sa.CheckConstraint("length(hash) = 64", name=op.f("ck_restores_hashed")),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_restores")),
        sqlite_strict=True,
    )
    op.create_table(
        "gaps",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("expected", WHOLE, autoincrement=False, nullable=False),
        sa.Column("seen", WHOLE, nullable=False),
        sa.Column("noted_at", WHOLE, nullable=False),
        sa.CheckConstraint("seen > expected AND expected >= 1", name=op.f("ck_gaps_ahead")),
        sa.PrimaryKeyConstraint("device", "expected", name=op.f("pk_gaps")),
        sqlite_strict=True,
    )
    forbid_changes("reward_webhooks", "statements", "reports")
    forbid_delete("restores")
    forbid_update(
        "restores_reviewed",
        "restores",
        "OLD.reviewed_at IS NOT NULL OR NEW.at <> OLD.at OR NEW.backup_at <> OLD.backup_at "
        "OR NEW.entries <> OLD.entries OR NEW.hash <> OLD.hash",
    )
    keep_copies(COPIED)
