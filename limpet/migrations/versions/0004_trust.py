"""What a home must be able to prove: each decision that a row holds is covered by a digest or by the log's chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# a gc looks for a few digests among all of them while others wait
_WITH_PREDICTIONS = ("evaluations", "abilities")


def upgrade() -> None:
    op.create_table(
        "home",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_home")),
    )
    op.create_table(
        "removed_blobs",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_removed_blobs")),
    )
    for table in _WITH_PREDICTIONS:
        op.create_index(op.f(f"ix_{table}_predictions_digest"), table, ["predictions_digest"])
    op.add_column("log_events", sa.Column("rows", sa.Text(), nullable=True))


def downgrade() -> None:
    _forget_rows()
    for table in _WITH_PREDICTIONS:
        op.drop_index(op.f(f"ix_{table}_predictions_digest"), table)
    op.drop_table("removed_blobs")
    op.drop_table("home")


def _forget_rows() -> None:
    """Take out the events that the older schema can't hold: their digests cover the rows that they name."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    guard = "CREATE TRIGGER log_events_no_delete BEFORE DELETE ON log_events "
    guard += "BEGIN SELECT RAISE(ABORT, 'log_events is only ever added to'); END"
    op.execute("DROP TRIGGER log_events_no_delete" if is_sqlite else "ALTER TABLE log_events DISABLE TRIGGER USER")
    op.execute('DELETE FROM log_events WHERE id >= (SELECT min(id) FROM log_events WHERE "rows" IS NOT NULL)')
    op.execute(guard if is_sqlite else "ALTER TABLE log_events ENABLE TRIGGER USER")
    op.drop_column("log_events", "rows")
