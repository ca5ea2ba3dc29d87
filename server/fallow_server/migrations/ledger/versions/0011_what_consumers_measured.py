"""Where and how a ticket was routed, and what consumers measured of a device: the inputs of quality and scarcity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fallow_server.migrations.guards import forbid_changes, keep_copies
from fallow_server.schema import WHOLE

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("settlements", sa.Column("region", sa.Text(), nullable=True))
    for name in ("bps", "reach", "delivered"):
        op.add_column("settlements", sa.Column(name, WHOLE, nullable=True))
    op.create_table(
        "deliveries",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("day", WHOLE, autoincrement=False, nullable=False),
        sa.Column("delivered", WHOLE, nullable=False),
        sa.Column("consumers", WHOLE, nullable=False),
        sa.Column("valid_from", WHOLE, nullable=False),
        sa.CheckConstraint("delivered >= 0", name=op.f("ck_deliveries_not_negative")),
        sa.PrimaryKeyConstraint("device", "day", name=op.f("pk_deliveries")),
        sqlite_strict=True,
    )
    op.create_index("ix_deliveries_day", "deliveries", ["day"], unique=False)
    forbid_changes("deliveries")
    # The other columns follow from receipts.
    keep_copies({"deliveries": (("device", "day"), ("valid_from",))})
