"""Second copies, as of 0004, of the tables that came with 0010 and of the columns that it added."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COPIED = {
    "gaps": (("device", "expected"), ("seen", "noted_at")),
    "redemption_outbox": (("redemption",), ("due_at", "attempts")),
    "redemptions": (
        ("id",),
        ("owner", "reward", "micro_points", "state", "code", "created_at", "changed_at", "reason"),
    ),
    "reports": (("day",), ("at", "sound", "report")),
    "restores": (("at",), ("backup_at", "entries", "hash", "reviewed_at")),
    "reward_webhooks": (("reward",), ("url", "secret")),
    "rewards": (("id",), ("title", "micro_points", "stock", "has_codes", "created_at", "terms", "withdrawn_at")),
    "statements": (("account", "month"), ("token",)),
}
"""Key and other columns, by table."""


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    for table, (keys, others) in COPIED.items():
        op.execute(f"DELETE FROM copies WHERE origin = '{table}'")
        op.execute(
            f"INSERT INTO copies (origin, key, content) "
            f"SELECT '{table}', {_array(keys)}, {_array(keys + others)} FROM {table}"
        )
        remove = f"DELETE FROM copies WHERE origin = '{table}' AND key = {_array(keys, 'OLD.')};"
        add = f"INSERT INTO copies VALUES ('{table}', {_array(keys, 'NEW.')}, {_array(keys + others, 'NEW.')});"
        changed = ", ".join(keys + others)
        for event, body in (("INSERT", add), (f"UPDATE OF {changed}", remove + " " + add), ("DELETE", remove)):
            name = f"{table}_copy_{event.split()[0].lower()}"
            op.execute(f"DROP TRIGGER IF EXISTS {name}")
            op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {body} END")


def _array(columns: tuple[str, ...], row: str = "") -> str:
    return f"json_array({', '.join(row + column for column in columns)})"
