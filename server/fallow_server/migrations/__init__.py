"""Alembic migrations, one branch per database; :meth:`fallow_server.database.Database.migrate` runs them."""
