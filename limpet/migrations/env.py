"""Runs the migrations on the connection that `limpet.registry.database.migrate.upgrade` passes in."""

from __future__ import annotations

from alembic import context

from limpet.registry.database.schema import TableBase

# the caller's transaction is open: tables and revision number are committed together, or not at all
context.configure(connection=context.config.attributes["connection"], target_metadata=TableBase.metadata)
with context.begin_transaction():
    context.run_migrations()
