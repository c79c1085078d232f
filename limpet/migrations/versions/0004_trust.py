"""What a home must be able to prove: each decision that a row holds is covered by a digest or by the log's chain."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
