"""Tasks in revisions, renamed and removed; evaluations that were scored anew from their kept predictions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# null for every row there is, so that no digest of a row changes
_OF_TASKS: dict[str, sa.Integer | sa.String] = {
    "revision": sa.Integer(),
    "previous": sa.String(length=71),
    "former_names": sa.Text(),
    "removed_at": sa.String(length=27),
    "removed_by": sa.Text(),
    "removed_because": sa.Text(),
}


def upgrade() -> None:
    for name, kind in _OF_TASKS.items():
        op.add_column("tasks", sa.Column(name, kind, nullable=True))
    op.create_table(
        "task_revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("splits", sa.Text(), nullable=False),
        sa.Column("data_digest", sa.String(length=71), nullable=False),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("previous", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_task_revisions_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_revisions")),
        sa.UniqueConstraint("task_id", "revision", name=op.f("uq_task_revisions_task_id_revision")),
    )
    op.add_column("evaluations", sa.Column("rescored_from_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("evaluations", "rescored_from_id")
    op.drop_table("task_revisions")
    for name in _OF_TASKS:
        op.drop_column("tasks", name)
