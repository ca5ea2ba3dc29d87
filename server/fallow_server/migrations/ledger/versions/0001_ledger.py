"""The ledger's tables, and the triggers that keep what was booked as it was booked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IMMUTABLE = ("entries", "settlements", "batches", "tariffs")


def upgrade() -> None:
    op.create_table(
        "account_tokens",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_account_tokens")),
    )
    op.create_index(op.f("ix_account_tokens_account"), "account_tokens", ["account"], unique=False)
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "answers",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_answers")),
    )
    op.create_index("ix_answers_at", "answers", ["scope", "at"], unique=False)
    op.create_table(
        "balances",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=True),
        sa.Column("micro_points", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind = 'mint' OR micro_points >= 0", name=op.f("ck_balances_covered")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_balances")),
    )
    op.create_index("ix_balances_holder", "balances", ["holder", "kind"], unique=False)
    op.create_index("ix_balances_hour", "balances", ["hour"], unique=False)
    op.create_table(
        "batches",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("ack", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "seq", name=op.f("pk_batches")),
    )
    op.create_table(
        "chain_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_chain_head_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_head")),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("x", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("token_hash", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("forked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_devices_token_hash")),
    )
    op.create_table(
        "entries",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("micro_points", sa.BigInteger(), nullable=False),
        sa.Column("posting", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("micro_points <> 0", name=op.f("ck_entries_moves")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_entries")),
    )
    op.create_index("ix_entries_holder", "entries", ["holder", "seq"], unique=False)
    op.create_table(
        "forks",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_forks")),
    )
    op.create_index(op.f("ix_forks_device"), "forks", ["device"], unique=False)
    op.create_table(
        "holds",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("matures_at", sa.BigInteger(), nullable=False),
        sa.Column("micro_points", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("micro_points > 0", name=op.f("ck_holds_some")),
        sa.PrimaryKeyConstraint("owner", "matures_at", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_matures_at", "holds", ["matures_at"], unique=False)
    op.create_table(
        "legacy_days",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "holder", "day", name=op.f("pk_legacy_days")),
    )
    op.create_table(
        "redemptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reward", sa.Text(), nullable=False),
        sa.Column("micro_points", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('reserved', 'fulfilled', 'voided', 'unknown')", name=op.f("ck_redemptions_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemptions")),
    )
    op.create_index(op.f("ix_redemptions_owner"), "redemptions", ["owner"], unique=False)
    op.create_table(
        "reward_codes",
        sa.Column("reward", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("redemption", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("reward", "code", name=op.f("pk_reward_codes")),
        sa.UniqueConstraint("redemption", name=op.f("uq_reward_codes_redemption")),
    )
    op.create_table(
        "rewards",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("micro_points", sa.BigInteger(), nullable=False),
        sa.Column("stock", sa.BigInteger(), nullable=True),
        sa.Column("has_codes", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("micro_points > 0", name=op.f("ck_rewards_costs")),
        sa.CheckConstraint("stock IS NULL OR stock >= 0", name=op.f("ck_rewards_in_stock")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rewards")),
    )
    op.create_table(
        "schedulers",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("jwks", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_schedulers")),
    )
    op.create_table(
        "settlements",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("batch_seq", sa.BigInteger(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("publisher", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("claimed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("allowed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_bytes", sa.BigInteger(), nullable=True),
        sa.Column("paid_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tariff", sa.Text(), nullable=False),
        sa.Column("rate", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.BigInteger(), nullable=False),
        sa.Column("scarcity", sa.BigInteger(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("micro_points", sa.BigInteger(), nullable=False),
        sa.Column("entry_seq", sa.BigInteger(), nullable=True),
        sa.Column("booked_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("micro_points >= 0", name=op.f("ck_settlements_not_negative")),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_settlements")),
        sa.UniqueConstraint("device", "batch_seq", "item", name=op.f("uq_settlements_device_batch_seq_item")),
    )
    op.create_table(
        "tariffs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tariffs")),
        sa.UniqueConstraint("valid_from", name=op.f("uq_tariffs_valid_from")),
        sa.UniqueConstraint("version", name=op.f("uq_tariffs_version")),
    )
    op.execute(f"INSERT INTO chain_head (id, entries, hash) VALUES (1, 0, '{'0' * 64}')")
    _forbid_changes()


def _forbid_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is immutable', TG_TABLE_NAME; END $$"
        )
        for table in IMMUTABLE:
            op.execute(
                f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
        return
    for table in IMMUTABLE:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END"
            )
