"""Tables of the catalogue."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from fallow_server.schema import scheduler_metadata

blobs = Table(
    "blobs",
    scheduler_metadata,
    Column("object_id", String(64), primary_key=True),
    Column("type", String(127), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""Bytes that are held, once each; ``manifest`` is the signed text."""

objects = Table(
    "objects",
    scheduler_metadata,
    Column("object_id", String(64), ForeignKey("blobs.object_id"), primary_key=True),
    Column("publisher", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("mirrored", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_objects_publisher", "publisher", "created_at"),
)
"""Who publishes a blob, and under which name. ``replicas`` is how many copies on devices this publisher wants;
``mirrored`` tells those that a mirror may let go of by itself."""

sites = Table(
    "sites",
    scheduler_metadata,
    Column("name", String(64), primary_key=True),
    Column("publisher", String(64), nullable=False),
    Column("origin", String(512), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_sites_publisher", "publisher"),
)

mirrored = Table(
    "mirrored",
    scheduler_metadata,
    Column("site", String(64), ForeignKey("sites.name", ondelete="CASCADE"), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("object_id", String(64), nullable=False),
    Column("publisher", String(64), nullable=False),
    Column("etag", String(256)),
    Column("last_modified", String(64)),
    Column("fresh_until", BigInteger, nullable=False),
    ForeignKeyConstraint(["object_id", "publisher"], ["objects.object_id", "objects.publisher"], ondelete="CASCADE"),
    Index("ix_mirrored_object_id", "object_id", "publisher"),
)
"""Paths of a site that are held as objects. ``fresh_until``: Unix seconds, when the origin is asked again."""
