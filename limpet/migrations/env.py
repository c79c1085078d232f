"""Runs the migrations on the connection that `limpet.registry.database.upgrade` passes in."""

from __future__ import annotations

from alembic import context

from limpet.registry.schema import TableBase

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TableBase.metadata,
    # SQLite's tables are made in the same transaction as the revision number, or not at all
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
