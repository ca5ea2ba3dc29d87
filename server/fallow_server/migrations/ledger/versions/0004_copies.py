"""A second copy of what cannot be computed from anything else, kept by triggers, so that damage to either shows.

On SQLite alone: PostgreSQL has checksums of its own for its pages (``initdb --data-checksums``).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fallow_server.migrations.guards import keep_copies

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COPIED = {
    "accounts": (("id",), ("role", "name")),
    "account_tokens": (("token_hash",), ("account",)),
    "answers": (("scope", "key"), ("digest", "status", "body", "at")),
    "audits": (("jti",), ("device", "bytes", "agreed", "reason", "at")),
    "chain_head": (("id",), ()),
    "clawbacks": (("jti",), ("reason",)),
    "devices": (("id",), ("owner", "token_hash", "forked_at")),
    "forks": (("hash",), ("device", "token", "received_at")),
    "redemptions": (("id",), ("owner", "reward", "micro_points", "state", "code", "created_at", "changed_at")),
    "reviews": (("id",), ("owner", "device", "reason", "detail", "state", "at", "changed_at")),
    "reward_codes": (("reward", "code"), ("redemption",)),
    "rewards": (("id",), ("title", "micro_points", "stock", "has_codes", "created_at")),
    "schedulers": (("url",), ("jwks",)),
}
"""Key and other columns, by table. Where all of a row follows from proofs or entries there is no need."""


def upgrade() -> None:
    op.create_table(
        "copies",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "key", name=op.f("pk_copies")),
        sqlite_strict=True,
    )
    keep_copies(COPIED)
