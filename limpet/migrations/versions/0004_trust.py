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
        "removed_blobs",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_removed_blobs")),
    )
    for table in _WITH_PREDICTIONS:
        op.create_index(op.f(f"ix_{table}_predictions_digest"), table, ["predictions_digest"])


def downgrade() -> None:
    for table in _WITH_PREDICTIONS:
        op.drop_index(op.f(f"ix_{table}_predictions_digest"), table)
    op.drop_table("removed_blobs")
