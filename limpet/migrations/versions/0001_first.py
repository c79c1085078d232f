"""The first schema: bases, tasks, versions, aliases, evaluations, streams, the mirror."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _bases_and_tasks()
    _versions()
    _aliases()
    _evaluations()
    _streams()
    _mirror()


def downgrade() -> None:
    for table in (
        "mirror_items",
        "step_cells",
        "steps",
        "arm_runs",
        "streams",
        "evaluations",
        "alias_events",
        "aliases",
        "gate_refusals",
        "version_files",
        "versions",
        "tasks",
        "environments",
        "bases",
    ):
        op.drop_table(table)


def _bases_and_tasks() -> None:
    op.create_table(
        "bases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("weights_digest", sa.String(length=71), nullable=False),
        sa.Column("config_digest", sa.String(length=71), nullable=False),
        sa.Column("tokenizer_digest", sa.String(length=71), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("hidden_size", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bases")),
        sa.UniqueConstraint("name", name=op.f("uq_bases_name")),
    )
    op.create_index(op.f("ix_bases_digest"), "bases", ["digest"])
    op.create_table(
        "environments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
        sa.UniqueConstraint("digest", name=op.f("uq_environments_digest")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("splits", sa.Text(), nullable=False),
        sa.Column("data_digest", sa.String(length=71), nullable=False),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("name", name=op.f("uq_tasks_name")),
    )


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("manifest_digest", sa.String(length=71), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("trainable_parameters", sa.BigInteger(), nullable=True),
        sa.Column("base_digest", sa.String(length=71), nullable=False),
        sa.Column("data_digest", sa.String(length=71), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("environment_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_versions_environment_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_versions_parent_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_versions_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("task_id", "digest", name=op.f("uq_versions_task_id_digest")),
        sa.UniqueConstraint("task_id", "number", name=op.f("uq_versions_task_id_number")),
    )
    op.create_index(op.f("ix_versions_method_id"), "versions", ["method", "id"])
    op.create_index(op.f("ix_versions_task_id_id"), "versions", ["task_id", "id"])
    op.create_index(op.f("ix_versions_score"), "versions", ["score"])
    op.create_index(op.f("ix_versions_task_id_role_number"), "versions", ["task_id", "role", "number"])
    op.create_table(
        "version_files",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_files_version_id")),
        sa.PrimaryKeyConstraint("version_id", "name", name=op.f("pk_version_files")),
    )
    op.create_index(op.f("ix_version_files_digest"), "version_files", ["digest"])
    op.create_table(
        "gate_refusals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_gate_refusals_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_refusals")),
    )
    op.create_index(op.f("ix_gate_refusals_version_id"), "gate_refusals", ["version_id"])


def _aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_aliases_task_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_aliases_version_id")),
        sa.PrimaryKeyConstraint("task_id", "name", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_version_id"), "aliases", ["version_id"])
    op.create_table(
        "alias_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("from_version_id", sa.Integer(), nullable=True),
        sa.Column("to_version_id", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["from_version_id"], ["versions.id"], name=op.f("fk_alias_events_from_version_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_alias_events_task_id")),
        sa.ForeignKeyConstraint(["to_version_id"], ["versions.id"], name=op.f("fk_alias_events_to_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_events")),
    )
    op.create_index(op.f("ix_alias_events_task_id_alias"), "alias_events", ["task_id", "alias"])


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("state_version_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("predictions_digest", sa.String(length=71), nullable=False),
        sa.Column("logits_digest", sa.String(length=71), nullable=False),
        sa.Column("plan_digest", sa.String(length=71), nullable=False),
        sa.Column("data_digest", sa.String(length=71), nullable=False),
        sa.Column("base_digest", sa.String(length=71), nullable=False),
        sa.Column("environment_id", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_evaluations_environment_id")),
        sa.ForeignKeyConstraint(["state_version_id"], ["versions.id"], name=op.f("fk_evaluations_state_version_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_evaluations_task_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_evaluations_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
    )
    op.create_index(op.f("ix_evaluations_task_id"), "evaluations", ["task_id"])
    op.create_index(
        op.f("ix_evaluations_version_id_state_version_id_kind_split"),
        "evaluations",
        ["version_id", "state_version_id", "kind", "split"],
    )


def _streams() -> None:
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("base_digest", sa.String(length=71), nullable=False),
        sa.Column("tasks", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams")),
        sa.UniqueConstraint("name", name=op.f("uq_streams_name")),
    )
    op.create_index(op.f("ix_streams_updated_at"), "streams", ["updated_at"])
    op.create_table(
        "arm_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stream_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"], name=op.f("fk_arm_runs_stream_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arm_runs")),
        sa.UniqueConstraint("stream_id", "name", "seed", name=op.f("uq_arm_runs_stream_id_name_seed")),
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("arm_run_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("base_unchanged", sa.Boolean(), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["arm_run_id"], ["arm_runs.id"], name=op.f("fk_steps_arm_run_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_steps_task_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_steps_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint("arm_run_id", "position", name=op.f("uq_steps_arm_run_id_position")),
    )
    op.create_table(
        "step_cells",
        sa.Column("step_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name=op.f("fk_step_cells_evaluation_id")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_step_cells_step_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_step_cells_task_id")),
        sa.PrimaryKeyConstraint("step_id", "task_id", name=op.f("pk_step_cells")),
    )


def _mirror() -> None:
    op.create_table(
        "mirror_items",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("mlflow_id", sa.Text(), nullable=False),
        sa.Column("content_digest", sa.String(length=71), nullable=False),
        sa.Column("synced_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_mirror_items")),
    )
