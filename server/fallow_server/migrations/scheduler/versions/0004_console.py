"""Who is signed in at the console, and what was asked for over time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_console_sessions"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_console_sessions_account"),
    )
    op.create_index("ix_console_sessions_account", "console_sessions", ["account"])
    op.create_index("ix_console_sessions_expires_at", "console_sessions", ["expires_at"])
    op.create_table(
        "history",
        sa.Column("at", sa.BigInteger, autoincrement=False, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in (
                "requests",
                "asked_bytes",
                "routed_bytes",
                "origin_bytes",
                "filled_bytes",
                "connected",
                "reachable",
                "idle_up_bps",
            )
        ),
        sa.PrimaryKeyConstraint("at", name="pk_history"),
    )


def downgrade() -> None:
    op.drop_table("history")
    op.drop_table("console_sessions")
