"""Tables of the ledger's database. Money is integer micro-points, times are Unix seconds.

On SQLite all are STRICT. Triggers, which migrations make, refuse every UPDATE and DELETE of entries, settlements,
batches, tariffs, clawbacks, earners, audits, deliveries, roots and ledger_keys, and another state of a redemption that
is resolved.
"""

from __future__ import annotations

import sqlalchemy
from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, text

from ..schema import WHOLE
from ..schema import ledger_metadata as metadata

Boolean = sqlalchemy.Boolean().with_variant(Integer(), "sqlite")
"""SQLite's strict tables know no booleans."""

ONCE = "kind IN ('fulfilment', 'voiding', 'clawback') AND micro_points > 0"
"""Entries whose ``ref`` may stand there once: a pending is resolved, a settlement reversed, at most once."""

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
    Column("seq", WHOLE, nullable=False),
    Column("hash", Text, nullable=False),
    Column("forked_at", WHOLE),
    CheckConstraint("seq >= 0", name="counted"),
    CheckConstraint("length(hash) = 64", name="hashed"),
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
    Column("entries", WHOLE, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("id = 1", name="single"),
    CheckConstraint("entries >= 0", name="counted"),
    CheckConstraint("length(hash) = 64", name="hashed"),
)

entries = Table(
    "entries",
    metadata,
    Column("seq", WHOLE, primary_key=True, autoincrement=False),
    Column("at", WHOLE, nullable=False),
    Column("kind", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("micro_points", WHOLE, nullable=False),
    Column("posting", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("micro_points <> 0", name="moves"),
    Index("ix_entries_holder", "holder", "seq"),
    Index("uq_entries_once", "ref", unique=True, sqlite_where=text(ONCE), postgresql_where=text(ONCE)),
    CheckConstraint("seq >= 1", name="counted"),
    CheckConstraint("length(hash) = 64", name="hashed"),
    CheckConstraint("micro_points BETWEEN -9007199254740991 AND 9007199254740991", name="bounded"),
)

balances = Table(
    "balances",
    metadata,
    Column("account", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("hour", WHOLE),
    Column("micro_points", WHOLE, nullable=False),
    CheckConstraint("kind = 'mint' OR micro_points >= 0", name="covered"),
    Index("ix_balances_holder", "holder", "kind"),
    Index("ix_balances_hour", "hour"),
)

# The head of the chain at the end of a day (days since 1970), and as the ledger signed it.
roots = Table(
    "roots",
    metadata,
    Column("day", WHOLE, primary_key=True, autoincrement=False),
    Column("entries", WHOLE, nullable=False),
    Column("hash", Text, nullable=False),
    Column("token", Text, nullable=False),
    CheckConstraint("length(hash) = 64", name="hashed"),
)

# Public keys that the ledger has signed with, so that its database can be audited without it.
ledger_keys = Table(
    "ledger_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("x", Text, nullable=False),
)

# Held points by the second at which they become redeemable; a row goes when they do.
holds = Table(
    "holds",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("matures_at", WHOLE, primary_key=True),
    Column("micro_points", WHOLE, nullable=False),
    CheckConstraint("micro_points > 0", name="some"),
    Index("ix_holds_matures_at", "matures_at"),
)

# ------------------------------------------------------------------ proofs

# Device's batch and ledger's ack exactly as sent: the evidence of everything below.
batches = Table(
    "batches",
    metadata,
    Column("device", Text, primary_key=True),
    Column("seq", WHOLE, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("ack", Text, nullable=False),
    Column("received_at", WHOLE, nullable=False),
    CheckConstraint("seq >= 1", name="counted"),
    CheckConstraint("length(hash) = 64", name="hashed"),
)

# One row a ticket. Ticket, receipt and claim stand verbatim in the batch, at place ``item``. The points mature at
# matures_at; where late_at is set, half of them (rounded down) only then.
settlements = Table(
    "settlements",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("batch_seq", WHOLE, nullable=False),
    Column("item", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("issued_at", WHOLE, nullable=False),
    Column("claimed_bytes", WHOLE, nullable=False),
    Column("allowed_bytes", WHOLE, nullable=False),
    Column("confirmed_bytes", WHOLE),
    Column("paid_bytes", WHOLE, nullable=False),
    Column("tariff", Text, nullable=False),
    Column("rate", WHOLE, nullable=False),
    Column("quality", WHOLE, nullable=False),
    Column("scarcity", WHOLE, nullable=False),
    Column("weight", WHOLE, nullable=False),
    Column("micro_points", WHOLE, nullable=False),
    Column("entry_seq", WHOLE),
    Column("booked_at", WHOLE, nullable=False),
    Column("matures_at", WHOLE, nullable=False),
    Column("late_at", WHOLE),
    Column("confirmed_ms", WHOLE),
    Column("consumer", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("line", Text),
    Column("odds", WHOLE),
    Column("audits", WHOLE),
    Column("seal", Text, nullable=False),
    Column("region", Text),
    Column("bps", WHOLE),
    Column("reach", WHOLE),
    Column("delivered", WHOLE),
    CheckConstraint("micro_points >= 0", name="not_negative"),
    CheckConstraint(
        "paid_bytes <= claimed_bytes AND paid_bytes <= allowed_bytes "
        "AND (confirmed_bytes IS NULL OR paid_bytes <= confirmed_bytes)",
        name="least",
    ),
    CheckConstraint("(confirmed_bytes IS NOT NULL) = (tier = 'countersigned')", name="witnessed"),
    CheckConstraint("(entry_seq IS NULL) = (micro_points = 0)", name="booked"),
    UniqueConstraint("device", "batch_seq", "item"),
    sqlite_with_rowid=False,
)

# Settlements whose points went back to the publisher while they were still held.
clawbacks = Table(
    "clawbacks",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("micro_points", WHOLE, nullable=False),
    Column("reason", Text, nullable=False),
    Column("entry_seq", WHOLE, nullable=False),
    Column("at", WHOLE, nullable=False),
    CheckConstraint("micro_points > 0", name="some"),
)

# When an owner earned the first points.
earners = Table(
    "earners",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("since", WHOLE, nullable=False),
)

# ------------------------------------------------------------------ against fraud

# What canary consumers found of a ticket: bytes that came, and whether all was as it should be (1) or not (0).
audits = Table(
    "audits",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("bytes", WHOLE, nullable=False),
    Column("agreed", WHOLE, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", WHOLE, nullable=False),
    CheckConstraint("agreed IN (0, 1)", name="agreed"),
    Index("ix_audits_device", "device", "at"),
)

# What a day's consumers measured of a device: ‰ of the promised rate, for tickets issued from valid_from on. day counts
# from 1970.
deliveries = Table(
    "deliveries",
    metadata,
    Column("device", Text, primary_key=True),
    Column("day", WHOLE, primary_key=True, autoincrement=False),
    Column("delivered", WHOLE, nullable=False),
    Column("consumers", WHOLE, nullable=False),
    Column("valid_from", WHOLE, nullable=False),
    CheckConstraint("delivered >= 0", name="not_negative"),
    Index("ix_deliveries_day", "day"),
)

# Bytes paid to all devices of one line, by hour of the tickets.
line_hours = Table(
    "line_hours",
    metadata,
    Column("line", Text, primary_key=True),
    Column("hour", WHOLE, primary_key=True, autoincrement=False),
    Column("bytes", WHOLE, nullable=False),
    CheckConstraint("bytes >= 0", name="not_negative"),
)

# What looks wrong about a device, for an operator to decide and its owner to read.
reviews = Table(
    "reviews",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("at", WHOLE, nullable=False),
    Column("changed_at", WHOLE, nullable=False),
    CheckConstraint("state IN ('open', 'cleared', 'upheld')", name="state"),
    Index("ix_reviews_owner", "owner", "id"),
    Index("uq_reviews_device_reason_at", "device", "reason", "at", unique=True),
)

# Batches that do not continue their device's chain: evidence, a few for each device.
forks = Table(
    "forks",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("device", Text, nullable=False, index=True),
    Column("token", Text, nullable=False),
    Column("received_at", WHOLE, nullable=False),
)

# Bytes paid under legacy tickets. scope is "device" or "publisher", day counts from 1970.
legacy_days = Table(
    "legacy_days",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("day", WHOLE, primary_key=True, autoincrement=False),
    Column("bytes", WHOLE, nullable=False),
    CheckConstraint("bytes >= 0", name="not_negative"),
    CheckConstraint("scope IN ('device', 'publisher')", name="scope"),
)

tariffs = Table(
    "tariffs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", WHOLE, nullable=False, unique=True),
    Column("valid_from", WHOLE, nullable=False, unique=True),
    Column("token", Text, nullable=False),
)

# What cannot be computed from anything else once more, kept by triggers: damage to either shows. SQLite alone.
copies = Table(
    "copies",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("content", Text, nullable=False),
)

# ------------------------------------------------------------------ rewards

# stock is null where there is no end to it, and counts the unused codes where there are codes. A withdrawn reward is
# no longer offered; what was redeemed before goes on.
rewards = Table(
    "rewards",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("micro_points", WHOLE, nullable=False),
    Column("stock", WHOLE),
    Column("has_codes", Boolean, nullable=False),
    Column("created_at", WHOLE, nullable=False),
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
    Column("micro_points", WHOLE, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text),
    Column("created_at", WHOLE, nullable=False),
    Column("changed_at", WHOLE, nullable=False),
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
    Column("at", WHOLE, nullable=False),
    Index("ix_answers_at", "scope", "at"),
)
