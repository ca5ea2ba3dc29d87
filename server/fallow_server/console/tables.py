"""Who is signed in, and what was asked for over time."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table, Text

from ..schema import scheduler_metadata

# ``hash`` is of the browser's secret, ``sealed`` the account's token under a key that only that secret gives.
console_sessions = Table(
    "console_sessions",
    scheduler_metadata,
    Column("hash", String(64), primary_key=True),
    Column("account", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("sealed", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

# What happened in the ``history.PERIOD_S`` seconds from ``at`` on, and the fleet at its end.
history = Table(
    "history",
    scheduler_metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("asked_bytes", BigInteger, nullable=False),
    Column("routed_bytes", BigInteger, nullable=False),
    Column("origin_bytes", BigInteger, nullable=False),
    Column("filled_bytes", BigInteger, nullable=False),
    Column("connected", BigInteger, nullable=False),
    Column("reachable", BigInteger, nullable=False),
    Column("idle_up_bps", BigInteger, nullable=False),
)
