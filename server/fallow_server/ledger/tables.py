"""Tables of the ledger's database. Money is integer micro-points, times are Unix seconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint

from ..schema import WHOLE
from ..schema import ledger_metadata as metadata

# ------------------------------------------------------------------ what the link tells

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
)

account_tokens = Table(
    "account_tokens",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("account", Text, nullable=False, index=True),
)

# seq and hash: the last batch that was answered. owner is null while the device is bound to nobody.
devices = Table(
    "devices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("x", Text, nullable=False),
    Column("owner", Text),
    Column("token_hash", Text, unique=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    Column("forked_at", BigInteger),
)

schedulers = Table(
    "schedulers",
    metadata,
    Column("url", Text, primary_key=True),
    Column("jwks", Text, nullable=False),
)

# ------------------------------------------------------------------ the journal

chain_head = Table(
    "chain_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("entries", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

entries = Table(
    "entries",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("micro_points", BigInteger, nullable=False),
    Column("posting", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("micro_points <> 0", name="moves"),
    Index("ix_entries_holder", "holder", "seq"),
)

balances = Table(
    "balances",
    metadata,
    Column("account", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("hour", BigInteger),
    Column("micro_points", BigInteger, nullable=False),
    CheckConstraint("kind = 'mint' OR micro_points >= 0", name="covered"),
    Index("ix_balances_holder", "holder", "kind"),
    Index("ix_balances_hour", "hour"),
)

# Held points by the second at which they become redeemable; a row goes when they do.
holds = Table(
    "holds",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("matures_at", BigInteger, primary_key=True),
    Column("micro_points", BigInteger, nullable=False),
    CheckConstraint("micro_points > 0", name="some"),
    Index("ix_holds_matures_at", "matures_at"),
)

# ------------------------------------------------------------------ proofs

# Device's batch and ledger's ack exactly as sent: the evidence of everything below.
batches = Table(
    "batches",
    metadata,
    Column("device", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("ack", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
)

# One row a ticket. Ticket, receipt and claim stand verbatim in the batch, at place ``item``.
settlements = Table(
    "settlements",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("batch_seq", BigInteger, nullable=False),
    Column("item", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("claimed_bytes", BigInteger, nullable=False),
    Column("allowed_bytes", BigInteger, nullable=False),
    Column("confirmed_bytes", BigInteger),
    Column("paid_bytes", BigInteger, nullable=False),
    Column("tariff", Text, nullable=False),
    Column("rate", BigInteger, nullable=False),
    Column("quality", BigInteger, nullable=False),
    Column("scarcity", BigInteger, nullable=False),
    Column("weight", BigInteger, nullable=False),
    Column("micro_points", BigInteger, nullable=False),
    Column("entry_seq", BigInteger),
    Column("booked_at", BigInteger, nullable=False),
    CheckConstraint("micro_points >= 0", name="not_negative"),
    UniqueConstraint("device", "batch_seq", "item"),
)

# Batches that do not continue their device's chain: evidence, a few for each device.
forks = Table(
    "forks",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("device", Text, nullable=False, index=True),
    Column("token", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
)

# Bytes paid under legacy tickets. scope is "device" or "publisher", day counts from 1970.
legacy_days = Table(
    "legacy_days",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False),
)

tariffs = Table(
    "tariffs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, unique=True),
    Column("valid_from", BigInteger, nullable=False, unique=True),
    Column("token", Text, nullable=False),
)

# ------------------------------------------------------------------ rewards

# stock is null where there is no end to it, and counts the unused codes where there are codes. A withdrawn reward is
# no longer offered; what was redeemed before goes on.
rewards = Table(
    "rewards",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("micro_points", BigInteger, nullable=False),
    Column("stock", BigInteger),
    Column("has_codes", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("terms", Text),
    Column("withdrawn_at", WHOLE),
    CheckConstraint("micro_points > 0", name="costs"),
    CheckConstraint("stock IS NULL OR stock >= 0", name="in_stock"),
)

reward_codes = Table(
    "reward_codes",
    metadata,
    Column("reward", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("redemption", Text, unique=True),
)

# reason: what the provider said when it refused, or why its answer is not there yet.
redemptions = Table(
    "redemptions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("reward", Text, nullable=False),
    Column("micro_points", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("reason", Text),
    CheckConstraint("state IN ('reserved', 'fulfilled', 'voided', 'unknown')", name="state"),
)

# Answers under an Idempotency-Key. digest is that of the request.
answers = Table(
    "answers",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ix_answers_at", "scope", "at"),
)
