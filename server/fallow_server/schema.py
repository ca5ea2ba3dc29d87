"""The metadata of the two databases. Each concern declares its tables on one of them in its ``tables.py``."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

# Named constraints, so that migrations can change them on SQLite and PostgreSQL alike.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

scheduler_metadata = MetaData(naming_convention=_NAMES)
ledger_metadata = MetaData(naming_convention=_NAMES)

WHOLE = BigInteger().with_variant(Integer(), "sqlite")
"""A whole number of 64 bits, under the one name for it that SQLite's strict tables know."""
