"""What was measured of devices' lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("device_id", sa.String(27), nullable=False),
        sa.Column("bps", sa.BigInteger, nullable=True),
        sa.Column("measured_at", sa.BigInteger, nullable=True),
        sa.Column("looked_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_measurements"),
    )
