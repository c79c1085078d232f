"""The life cycle of versions: tombstones, tags, notes, probes, policies, and the log of who did what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEPT = ("alias_events", "log_events", "version_notes")
_LIVE = sa.text("deleted_at IS NULL")
_SORTED = ("score", "number", "size", "created_at", "seed", "trainable_parameters")
_LISTED: tuple[tuple[str, ...], ...] = (("task_id", "role", "number"), ("task_id", "id"), ("method", "id"))


def upgrade() -> None:
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("deleted_at", sa.String(length=27), nullable=True))
        versions.add_column(sa.Column("deleted_by", sa.Text(), nullable=True))
        versions.add_column(sa.Column("deleted_because", sa.Text(), nullable=True))
        versions.drop_constraint("uq_versions_task_id_digest", type_="unique")
    op.create_index(
        "uq_versions_task_id_digest",
        "versions",
        ["task_id", "digest"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    _orders()
    _tags_and_notes()
    _probes()
    _home()
    _refuse_changes()


def downgrade() -> None:
    _allow_changes()
    for table in ("log_events", "policies", "probes", "version_notes", "version_tags"):
        op.drop_table(table)
    op.drop_index("uq_versions_task_id_digest", "versions")
    op.drop_index(op.f("ix_aliases_name_version_id"), "aliases")
    for columns in (*_LISTED, *((column, "id") for column in _SORTED)):
        op.drop_index(_index(*columns), "versions")
    with op.batch_alter_table("versions") as versions:
        versions.drop_column("deleted_because")
        versions.drop_column("deleted_by")
        versions.drop_column("deleted_at")
        versions.create_unique_constraint("uq_versions_task_id_digest", ["task_id", "digest"])
    op.create_index(op.f("ix_versions_score"), "versions", ["score"])
    for columns in _LISTED:
        op.create_index(_index(*columns), "versions", columns)


def _orders() -> None:
    """Index every order in which versions are listed, without those that were deleted."""
    op.drop_index(op.f("ix_versions_score"), "versions")
    for columns in _LISTED:
        op.drop_index(_index(*columns), "versions")
    for columns in (*_LISTED, *((column, "id") for column in _SORTED)):
        op.create_index(_index(*columns), "versions", columns, sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index(op.f("ix_aliases_name_version_id"), "aliases", ["name", "version_id"])


def _index(*columns: str) -> str:
    return op.f(f"ix_versions_{'_'.join(columns)}")


def _tags_and_notes() -> None:
    op.create_table(
        "version_tags",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_tags_version_id")),
        sa.PrimaryKeyConstraint("version_id", "name", name=op.f("pk_version_tags")),
    )
    op.create_index(op.f("ix_version_tags_name_value"), "version_tags", ["name", "value"])
    op.create_table(
        "version_notes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_notes_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_notes")),
    )
    op.create_index(op.f("ix_version_notes_version_id"), "version_notes", ["version_id"])


def _probes() -> None:
    op.create_table(
        "probes",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("environment_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_probes_environment_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_probes_version_id")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_probes")),
    )
    op.create_index(op.f("ix_probes_digest"), "probes", ["digest"])


def _home() -> None:
    op.create_table(
        "policies",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_policies")),
    )
    op.create_table(
        "log_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_events")),
    )
    op.create_index(op.f("ix_log_events_subject_id"), "log_events", ["subject", "id"])


def _refuse_changes() -> None:
    """Let the database itself refuse to rewrite history, whoever asks."""
    if op.get_bind().dialect.name == "sqlite":
        for table in _KEPT:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION limpet_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME; END $$"
    )
    for table in _KEPT:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION limpet_only_added_to()"
        )


def _allow_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in _KEPT:
            for verb in ("update", "delete"):
                op.execute(f"DROP TRIGGER {table}_no_{verb}")
        return
    for table in _KEPT:
        op.execute(f"DROP TRIGGER {table}_no_change ON {table}")
    op.execute("DROP FUNCTION limpet_only_added_to()")
