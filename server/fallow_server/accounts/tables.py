"""Accounts, their tokens, and claims."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table

from ..schema import scheduler_metadata

accounts = Table(
    "accounts",
    scheduler_metadata,
    Column("id", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    scheduler_metadata,
    Column("hash", String(64), primary_key=True),
    Column("account", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
)

# What an owner signs in with, where there is such. The login is in its compared form, the password salted and hashed.
logins = Table(
    "logins",
    scheduler_metadata,
    Column("login", String(64), primary_key=True),
    Column("account", ForeignKey("accounts.id"), nullable=False, unique=True),
    Column("password", String(128), nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)

# A used claim keeps its row until it expires: the device that used it may ask again when the answer was lost.
claims = Table(
    "claims",
    scheduler_metadata,
    Column("hash", String(64), primary_key=True),
    Column("owner", ForeignKey("accounts.id"), nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("device", String(27), nullable=True),
    Index("ix_claims_owner_expires_at", "owner", "expires_at"),
)
