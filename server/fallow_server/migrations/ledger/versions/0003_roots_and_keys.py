"""What an audit without the ledger needs: its public keys, and the head of each day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fallow_server.migrations.guards import forbid_changes
from fallow_server.schema import WHOLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("x", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_ledger_keys")),
        sqlite_strict=True,
    )
    op.create_table(
        "roots",
        sa.Column("day", WHOLE, autoincrement=False, nullable=False),
        sa.Column("entries", WHOLE, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.CheckConstraint("length(hash) = 64", name=op.f("ck_roots_hashed")),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_roots")),
        sqlite_strict=True,
    )
    forbid_changes("ledger_keys", "roots")
