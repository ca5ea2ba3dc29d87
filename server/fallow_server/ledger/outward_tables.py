"""Tables of what leaves the ledger: orders to providers, signed statements, reports, and restores from backups.

Triggers refuse every UPDATE and DELETE of reward_webhooks, statements and reports; of restores only ``reviewed_at`` is
set, once.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Table, Text

from ..schema import WHOLE
from ..schema import ledger_metadata as metadata

# Who fulfils a reward: asked at url, with requests signed by secret. Rewards without a row here have codes, or wait
# for the operator.
reward_webhooks = Table(
    "reward_webhooks",
    metadata,
    Column("reward", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
)

# Redemptions that a provider is to be asked about; written in the transaction that reserves, gone with the one that
# resolves. attempts counts those that began in the redemption's present state.
redemption_outbox = Table(
    "redemption_outbox",
    metadata,
    Column("redemption", Text, primary_key=True),
    Column("due_at", WHOLE, nullable=False),
    Column("attempts", WHOLE, nullable=False),
    CheckConstraint("attempts >= 0", name="counted"),
    Index("ix_redemption_outbox_due_at", "due_at"),
)

# A month's statement as it was first signed, once the month was over.
statements = Table(
    "statements",
    metadata,
    Column("account", Text, primary_key=True),
    Column("month", Text, primary_key=True),
    Column("token", Text, nullable=False),
    CheckConstraint("length(month) = 7", name="month"),
)

# The daily reports; day counts from 1970 (UTC), report is JSON.
reports = Table(
    "reports",
    metadata,
    Column("day", WHOLE, primary_key=True, autoincrement=False),
    Column("at", WHOLE, nullable=False),
    Column("sound", WHOLE, nullable=False),
    Column("report", Text, nullable=False),
    CheckConstraint("sound IN (0, 1)", name="sound"),
)

# Each restore from a backup: when, of what time the backup was, and where the chain ended in it.
restores = Table(
    "restores",
    metadata,
    Column("at", WHOLE, primary_key=True, autoincrement=False),
    Column("backup_at", WHOLE, nullable=False),
    Column("entries", WHOLE, nullable=False),
    Column("hash", Text, nullable=False),
    Column("reviewed_at", WHOLE),
    CheckConstraint("entries >= 0", name="counted"),
    CheckConstraint("length(hash) = 64", name="hashed"),
)

# Devices that stood further in their chain than the ledger: batches from ``expected`` up to but not including ``seen``
# had been acknowledged, and were missing here.
gaps = Table(
    "gaps",
    metadata,
    Column("device", Text, primary_key=True),
    Column("expected", WHOLE, primary_key=True, autoincrement=False),
    Column("seen", WHOLE, nullable=False),
    Column("noted_at", WHOLE, nullable=False),
    CheckConstraint("seen > expected AND expected >= 1", name="ahead"),
)
