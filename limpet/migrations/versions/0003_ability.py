"""Probes of general ability: what the base can do beside the tasks, alone and under each version's weights."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_VERSIONS = ("head_version_id", "state_version_id", "after_version_id")


def upgrade() -> None:
    op.create_table(
        "abilities",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("probe", sa.Text(), nullable=False),
        sa.Column("probe_digest", sa.String(length=71), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in _VERSIONS),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("predictions_digest", sa.String(length=71), nullable=False),
        sa.Column("logits_digest", sa.String(length=71), nullable=False),
        sa.Column("plan_digest", sa.String(length=71), nullable=False),
        sa.Column("base_digest", sa.String(length=71), nullable=False),
        sa.Column("environment_id", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_abilities_environment_id")),
        *(sa.ForeignKeyConstraint([name], ["versions.id"], name=op.f(f"fk_abilities_{name}")) for name in _VERSIONS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_abilities")),
    )
    op.create_index(
        op.f("ix_abilities_probe_digest_state_version_id"), "abilities", ["probe_digest", "state_version_id"]
    )


def downgrade() -> None:
    op.drop_table("abilities")
