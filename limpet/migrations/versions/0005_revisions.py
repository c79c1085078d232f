"""Tasks in revisions, renamed and removed; evaluations scored anew; aliases taken off; versions judged anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from limpet.errors import ConflictError

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
    _let_moves_lead_nowhere(True)
    op.add_column("gate_refusals", sa.Column("bars", sa.Boolean(), nullable=True))
    op.add_column("gate_refusals", sa.Column("max_forgetting", sa.Float(), nullable=True))
    op.add_column("gate_refusals", sa.Column("lifted_at", sa.String(length=27), nullable=True))


def downgrade() -> None:
    _refuse_to_lose()
    for name in ("lifted_at", "max_forgetting", "bars"):
        op.drop_column("gate_refusals", name)
    _let_moves_lead_nowhere(False)
    op.drop_column("evaluations", "rescored_from_id")
    op.drop_table("task_revisions")
    for name in _OF_TASKS:
        op.drop_column("tasks", name)


def _let_moves_lead_nowhere(nullable: bool) -> None:
    """Let a move take an alias off, or take out the moves that the older schema can't hold."""
    if op.get_bind().dialect.name != "sqlite":
        if not nullable:
            op.execute("ALTER TABLE alias_events DISABLE TRIGGER USER")
            op.execute("DELETE FROM alias_events WHERE to_version_id IS NULL")
            op.execute("ALTER TABLE alias_events ENABLE TRIGGER USER")
        op.alter_column("alias_events", "to_version_id", nullable=nullable)
        return
    # the table is made anew, and its triggers go with the old one
    for verb in ("update", "delete"):
        op.execute(f"DROP TRIGGER alias_events_no_{verb}")
    if not nullable:
        op.execute("DELETE FROM alias_events WHERE to_version_id IS NULL")
    with op.batch_alter_table("alias_events") as events:
        events.alter_column("to_version_id", existing_type=sa.Integer(), nullable=nullable)
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER alias_events_no_{verb.lower()} BEFORE {verb} ON alias_events "
            f"BEGIN SELECT RAISE(ABORT, 'alias_events is only ever added to'); END"
        )


def _refuse_to_lose() -> None:
    """The older schema has no place for what this one was made for: with it, versions would lose their data."""
    for what, query in (
        ("revisions of tasks", "SELECT count(*) FROM task_revisions"),
        ("tasks whose first revision is elsewhere", "SELECT count(*) FROM tasks WHERE revision IS NOT NULL"),
        ("tasks that were renamed", "SELECT count(*) FROM tasks WHERE former_names IS NOT NULL"),
        ("tasks that were removed", "SELECT count(*) FROM tasks WHERE removed_at IS NOT NULL"),
        (
            "evaluations that were scored anew",
            "SELECT count(*) FROM evaluations WHERE rescored_from_id IS NOT NULL",
        ),
    ):
        if count := op.get_bind().execute(sa.text(query)).scalar():
            raise ConflictError(
                f"This home can't go back to the older schema: it has {count} {what}, which that one can't hold.",
                "put back the copy of the database that the upgrade left",
            )
