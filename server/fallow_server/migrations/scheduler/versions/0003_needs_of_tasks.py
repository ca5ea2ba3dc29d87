"""What tasks want of devices, and their parameters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("needs", sa.Text))
    op.add_column("tasks", sa.Column("parameters", sa.Text))


def downgrade() -> None:
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_column("needs")
        tasks.drop_column("parameters")
