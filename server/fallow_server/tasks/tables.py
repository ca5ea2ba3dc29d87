"""Tables of network tasks.

``object_id`` is empty where a task is about no object. ``needs`` and ``parameters`` are JSON objects; tasks from before
they were kept are copies that want nothing else. ``told`` of a decision and of a result is a JSON object.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from fallow_server.schema import WHOLE, scheduler_metadata

tasks = Table(
    "tasks",
    scheduler_metadata,
    Column("task_id", String(36), primary_key=True),
    Column("publisher", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("object_id", String(64), nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("needs", Text),
    Column("parameters", Text),
    Index("ix_tasks_state", "state"),
    Index("ix_tasks_publisher", "publisher", "task_id"),
    Index("ix_tasks_object_id", "object_id"),
)

placements = Table(
    "placements",
    scheduler_metadata,
    Column("task_id", String(36), ForeignKey("tasks.task_id", ondelete="CASCADE"), primary_key=True),
    Column("device_id", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", Text),
    Column("updated_at", BigInteger, nullable=False),
)

decisions = Table(
    "decisions",
    scheduler_metadata,
    Column("number", WHOLE, primary_key=True, autoincrement=True),
    Column("task_id", String(36), ForeignKey("tasks.task_id", ondelete="CASCADE"), nullable=False),
    Column("told", Text, nullable=False),
    Index("ix_decisions_task_id", "task_id", "number"),
)

results = Table(
    "results",
    scheduler_metadata,
    Column("task_id", String(36), ForeignKey("tasks.task_id", ondelete="CASCADE"), primary_key=True),
    Column("device_id", String(32), primary_key=True),
    Column("measured_at", BigInteger, nullable=False),
    Column("country", String(2)),
    Column("asn", BigInteger),
    Column("told", Text, nullable=False),
    Index("ix_results_measured_at", "measured_at"),
)
