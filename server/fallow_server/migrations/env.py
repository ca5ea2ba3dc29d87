"""Alembic's environment. The connection comes from :meth:`fallow_server.database.Database.migrate`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from fallow_server.schema import ledger_metadata, scheduler_metadata

_METADATA = {"scheduler": scheduler_metadata, "ledger": ledger_metadata}


def run() -> None:
    connection: Connection = context.config.attributes["connection"]
    branch: str = context.config.attributes["branch"]
    context.configure(
        connection=connection,
        target_metadata=_METADATA[branch],
        version_table=f"alembic_version_{branch}",
        # SQLite alters tables by copying them.
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
