"""Devices and whose they are."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table

from ..schema import scheduler_metadata

# ``owner`` is null when the device left or was unbound. ``claim_hash`` names the claim that bound it last.
devices = Table(
    "devices",
    scheduler_metadata,
    Column("id", String(27), primary_key=True),
    Column("public_key", String(43), nullable=False),
    Column("owner", ForeignKey("accounts.id"), nullable=True, index=True),
    Column("claim_hash", String(64), nullable=True),
    Column("token_hash", String(64), nullable=True, unique=True),
    Column("model", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("bound_at", BigInteger, nullable=True),
    Column("last_seen", BigInteger, nullable=True),
)
