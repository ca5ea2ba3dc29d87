"""Triggers that migrations put on tables, in the words of SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from alembic import op

Copied = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Key and other columns, by table."""


def on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def forbid_changes(*tables: str) -> None:
    """The database refuses every UPDATE and DELETE of ``tables``."""
    for table in tables:
        if on_postgresql():
            op.execute(
                f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
            continue
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END"
            )


@contextmanager
def changeable(table: str) -> Iterator[None]:
    """Lift what :func:`forbid_changes` forbids for ``table``, for a migration that completes its rows."""
    if on_postgresql():
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_immutable")
        yield
        op.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_immutable")
        return
    for change in ("update", "delete"):
        op.execute(f"DROP TRIGGER {table}_no_{change}")
    yield
    forbid_changes(table)


def forbid_update(name: str, table: str, condition: str) -> None:
    """The database refuses an UPDATE of a row where ``condition`` holds of ``OLD`` and ``NEW``."""
    if on_postgresql():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW "
            f"WHEN ({condition}) EXECUTE FUNCTION refuse_change()"
        )
        return
    op.execute(
        f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} WHEN {condition} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END"
    )


def forbid_delete(*tables: str) -> None:
    """The database refuses every DELETE of ``tables``."""
    for table in tables:
        if on_postgresql():
            op.execute(
                f"CREATE TRIGGER {table}_kept BEFORE DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
            continue
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END"
        )


def keep_copies(tables: Copied) -> None:
    """From now on each row of ``tables`` has its copy in ``copies``, in place of what was copied of them before. On
    SQLite alone."""
    if on_postgresql():
        return
    for table, (keys, others) in tables.items():
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
