"""What was measured of devices' lines, so that a restart does not forget it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table

from ..schema import scheduler_metadata

# bps is the largest measurement that counts; null where nothing was measured yet. looked_at: the last canary.
measurements = Table(
    "measurements",
    scheduler_metadata,
    Column("device_id", String(27), primary_key=True),
    Column("bps", BigInteger, nullable=True),
    Column("measured_at", BigInteger, nullable=True),
    Column("looked_at", BigInteger, nullable=True),
)
