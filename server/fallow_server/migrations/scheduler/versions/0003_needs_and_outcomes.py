"""What tasks want of devices, their parameters, why they were placed, and what was measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fallow_server.schema import WHOLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("needs", sa.Text))
    op.add_column("tasks", sa.Column("parameters", sa.Text))
    op.create_table(
        "decisions",
        sa.Column("number", WHOLE, autoincrement=True, nullable=False),
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_decisions"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_decisions_task_id", ondelete="CASCADE"),
    )
    op.create_index("ix_decisions_task_id", "decisions", ["task_id", "number"])
    op.create_table(
        "results",
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("device_id", sa.String(32), nullable=False),
        sa.Column("measured_at", sa.BigInteger, nullable=False),
        sa.Column("country", sa.String(2)),
        sa.Column("asn", sa.BigInteger),
        sa.Column("told", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "device_id", name="pk_results"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_results_task_id", ondelete="CASCADE"),
    )
    op.create_index("ix_results_measured_at", "results", ["measured_at"])


def downgrade() -> None:
    op.drop_table("results")
    op.drop_table("decisions")
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_column("needs")
        tasks.drop_column("parameters")
