"""What owners sign in with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0060"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logins",
        sa.Column("login", sa.String(64), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("password", sa.String(128), nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("login", name="pk_logins"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_logins_account"),
        sa.UniqueConstraint("account", name="uq_logins_account"),
    )


def downgrade() -> None:
    op.drop_table("logins")
