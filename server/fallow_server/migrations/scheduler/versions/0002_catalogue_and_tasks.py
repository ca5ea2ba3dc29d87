"""Catalogue and tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("object_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(127), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("object_id", name="pk_blobs"),
    )
    op.create_table(
        "objects",
        sa.Column("object_id", sa.String(64), nullable=False),
        sa.Column("publisher", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("mirrored", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("object_id", "publisher", name="pk_objects"),
        sa.ForeignKeyConstraint(["object_id"], ["blobs.object_id"], name="fk_objects_object_id"),
    )
    op.create_index("ix_objects_publisher", "objects", ["publisher", "created_at"])
    op.create_table(
        "sites",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("publisher", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(512), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sites"),
    )
    op.create_index("ix_sites_publisher", "sites", ["publisher"])
    op.create_table(
        "mirrored",
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("object_id", sa.String(64), nullable=False),
        sa.Column("publisher", sa.String(64), nullable=False),
        sa.Column("etag", sa.String(256)),
        sa.Column("last_modified", sa.String(64)),
        sa.Column("fresh_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("site", "path", name="pk_mirrored"),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name="fk_mirrored_site", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["object_id", "publisher"],
            ["objects.object_id", "objects.publisher"],
            name="fk_mirrored_object_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_mirrored_object_id", "mirrored", ["object_id", "publisher"])
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("publisher", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("object_id", sa.String(64), nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("deadline", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_tasks"),
    )
    op.create_index("ix_tasks_state", "tasks", ["state"])
    op.create_index("ix_tasks_publisher", "tasks", ["publisher", "task_id"])
    op.create_index("ix_tasks_object_id", "tasks", ["object_id"])
    op.create_table(
        "placements",
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("device_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "device_id", name="pk_placements"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_placements_task_id", ondelete="CASCADE"),
    )


def downgrade() -> None:
    for table in ("placements", "tasks", "mirrored", "sites", "objects", "blobs"):
        op.drop_table(table)
