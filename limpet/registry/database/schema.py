"""The tables of a home, as typed models; `limpet/migrations` makes them, a test compares the two."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from limpet.registry.database.columns import DIGEST, NAME, TIME, CanonicalJson, TableBase

__all__ = [
    "APPEND_ONLY",
    "HEAD",
    "AbilityRow",
    "AliasEventRow",
    "AliasRow",
    "ArmRunRow",
    "BaseRow",
    "EnvironmentRow",
    "EvaluationRow",
    "GateRefusalRow",
    "HomeRow",
    "LogEventRow",
    "MirrorItemRow",
    "PolicyRow",
    "ReferenceOutputsRow",
    "RemovedBlobRow",
    "StepCellRow",
    "StepRow",
    "StreamRow",
    "TableBase",
    "TaskRevisionRow",
    "TaskRow",
    "VersionFileRow",
    "VersionNoteRow",
    "VersionRow",
    "VersionTagRow",
]

# the newest Alembic revision, here so that opening a home need not import Alembic; a test compares them
HEAD = "0005"

APPEND_ONLY = ("alias_events", "log_events", "version_notes")
"""The tables whose rows the database itself refuses to change or to delete, by triggers that the migrations make."""


class BaseRow(TableBase):
    """A base: one name, one fingerprint; one fingerprint may have several names."""

    __tablename__ = "bases"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    digest: Mapped[str] = mapped_column(DIGEST, index=True)
    weights_digest: Mapped[str] = mapped_column(DIGEST)
    config_digest: Mapped[str] = mapped_column(DIGEST)
    tokenizer_digest: Mapped[str] = mapped_column(DIGEST)
    architecture: Mapped[str] = mapped_column(Text)
    family: Mapped[str] = mapped_column(Text)
    hidden_size: Mapped[int] = mapped_column(Integer)
    parameters: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    location: Mapped[Any] = mapped_column(CanonicalJson)
    created_at: Mapped[str] = mapped_column(TIME)


class TaskContent:
    """What a task is in one of its revisions; never changed. `previous` is the data digest of the revision before."""

    definition: Mapped[Any] = mapped_column(CanonicalJson)
    labels: Mapped[Any] = mapped_column(CanonicalJson)
    splits: Mapped[Any] = mapped_column(CanonicalJson)
    data_digest: Mapped[str] = mapped_column(DIGEST)
    checks: Mapped[Any] = mapped_column(CanonicalJson)
    created_at: Mapped[str] = mapped_column(TIME)
    previous: Mapped[str | None] = mapped_column(DIGEST)


class TaskRow(TaskContent, TableBase):
    """A task with its splits, in the first revision that this home has.

    What a task of before revisions has not is null: `revision` is then 1. `former_names`, with blanks between them,
    are those that it was called by, which stay its own; a task that was removed keeps its row.
    """

    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(NAME, unique=True)
    revision: Mapped[int | None] = mapped_column(Integer)
    former_names: Mapped[str | None] = mapped_column(Text)
    removed_at: Mapped[str | None] = mapped_column(TIME)
    removed_by: Mapped[str | None] = mapped_column(Text)
    removed_because: Mapped[str | None] = mapped_column(Text)


class TaskRevisionRow(TaskContent, TableBase):
    """Another revision of a task."""

    __tablename__ = "task_revisions"
    __table_args__ = (UniqueConstraint("task_id", "revision"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    revision: Mapped[int] = mapped_column(Integer)


class EnvironmentRow(TableBase):
    """An environment, kept once for all versions and evaluations that it made."""

    __tablename__ = "environments"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[str] = mapped_column(DIGEST, unique=True)
    content: Mapped[Any] = mapped_column(CanonicalJson)


# the migrations make these indexes of the live versions alone: the deleted ones, which may be most, cost a reader
# nothing. Here it is a note, which a test compares: as an argument of PostgreSQL's it would load that dialect, which
# is a tenth of the time that `limpet adapter list` takes
_LIVE = {"where": "deleted_at IS NULL"}


def _of_live(*columns: str) -> Index:
    """Return an index of the live versions alone."""
    return Index(None, *columns, info=_LIVE)


class VersionRow(TableBase):
    """A version: `manifest` is the whole truth, the other columns are there to search by."""

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("task_id", "number"),
        # a tombstone keeps its number for ever, and gives its identity free
        Index(
            "uq_versions_task_id_digest",
            "task_id",
            "digest",
            unique=True,
            info=_LIVE,
        ),
        _of_live("task_id", "role", "number"),
        # lists are read newest first, by id
        _of_live("task_id", "id"),
        _of_live("method", "id"),
        *(
            _of_live(column, "id")
            for column in ("score", "number", "size", "created_at", "seed", "trainable_parameters")
        ),
    )
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    number: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(DIGEST)
    manifest: Mapped[str] = mapped_column(Text)
    manifest_digest: Mapped[str] = mapped_column(DIGEST)
    method: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(16))
    seed: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float | None] = mapped_column(Float)
    size: Mapped[int] = mapped_column(BigInteger)
    trainable_parameters: Mapped[int | None] = mapped_column(BigInteger)
    base_digest: Mapped[str] = mapped_column(DIGEST)
    data_digest: Mapped[str] = mapped_column(DIGEST)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    created_at: Mapped[str] = mapped_column(TIME)
    deleted_at: Mapped[str | None] = mapped_column(TIME)
    deleted_by: Mapped[str | None] = mapped_column(Text)
    deleted_because: Mapped[str | None] = mapped_column(Text)


class VersionFileRow(TableBase):
    """One file of a version."""

    __tablename__ = "version_files"
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    digest: Mapped[str] = mapped_column(DIGEST, index=True)
    size: Mapped[int] = mapped_column(BigInteger)


class VersionTagRow(TableBase):
    """A tag of a version: a name with a value, which may be changed and taken away."""

    __tablename__ = "version_tags"
    __table_args__ = (Index(None, "name", "value"),)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    value: Mapped[str] = mapped_column(String(256))


class VersionNoteRow(TableBase):
    """A note that somebody left on a version; only ever inserted."""

    __tablename__ = "version_notes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    text: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[str] = mapped_column(TIME)


class ReferenceOutputsRow(TableBase):
    """A version's probe: the blob with a few fixed inputs and the logits that they gave when it was registered."""

    __tablename__ = "probes"
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(DIGEST, index=True)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    created_at: Mapped[str] = mapped_column(TIME)


class AliasRow(TableBase):
    """Where an alias points now."""

    __tablename__ = "aliases"
    __table_args__ = (Index(None, "name", "version_id"),)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)


class AliasEventRow(TableBase):
    """One move of an alias, to nowhere where it was taken off; only ever inserted."""

    __tablename__ = "alias_events"
    __table_args__ = (Index(None, "task_id", "alias"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    alias: Mapped[str] = mapped_column(NAME)
    action: Mapped[str] = mapped_column(String(16))
    from_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    to_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[str] = mapped_column(TIME)


class GateRefusalRow(TableBase):
    """A gate rule that a version crossed.

    `bars` says whether the version may not be promoted until it was judged anew, null for yes: so it was for every
    rule before schema 0005. `lifted_at` is when it was judged anew and passed, `max_forgetting` the limit that its
    promotion was asked for under, where it is not the home's own.
    """

    __tablename__ = "gate_refusals"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    rule: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    created_at: Mapped[str] = mapped_column(TIME)
    bars: Mapped[bool | None] = mapped_column(Boolean)
    max_forgetting: Mapped[float | None] = mapped_column(Float)
    lifted_at: Mapped[str | None] = mapped_column(TIME)


class PolicyRow(TableBase):
    """One rule of the home: protected aliases, retention. Kept here, so that it holds for everyone who writes."""

    __tablename__ = "policies"
    key: Mapped[str] = mapped_column(NAME, primary_key=True)
    value: Mapped[Any] = mapped_column(CanonicalJson)


class HomeRow(TableBase):
    """The id of the home, one row: its blob store has the same one; see `limpet.registry.store.ownership`."""

    __tablename__ = "home"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)


class RemovedBlobRow(TableBase):
    """A blob that a gc has taken away, or is about to: whoever records it again looks whether it is stored."""

    __tablename__ = "removed_blobs"
    digest: Mapped[str] = mapped_column(DIGEST, primary_key=True)


class LogEventRow(TableBase):
    """Who did what; only ever inserted. `digest` covers the row and the digest of the row before.

    `rows` names the rows that were written with it, each with its digest; see `limpet.registry.database.row_digests`.
    """

    __tablename__ = "log_events"
    __table_args__ = (Index(None, "subject", "id"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    created_at: Mapped[str] = mapped_column(TIME)
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[Any] = mapped_column(CanonicalJson)
    rows: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(DIGEST)


class EvaluationRow(TableBase):
    """One evaluation of a task's version on a backbone state."""

    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "version_id", "state_version_id", "kind", "split"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    state_version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    kind: Mapped[str] = mapped_column(String(16))
    split: Mapped[str] = mapped_column(String(16))
    metric: Mapped[str] = mapped_column(Text)
    score: Mapped[float] = mapped_column(Float)
    examples: Mapped[int] = mapped_column(Integer)
    predictions_digest: Mapped[str] = mapped_column(DIGEST, index=True)
    logits_digest: Mapped[str] = mapped_column(DIGEST)
    plan_digest: Mapped[str] = mapped_column(DIGEST)
    data_digest: Mapped[str] = mapped_column(DIGEST)
    base_digest: Mapped[str] = mapped_column(DIGEST)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    seconds: Mapped[float] = mapped_column(Float)
    created_at: Mapped[str] = mapped_column(TIME)
    rescored_from_id: Mapped[int | None] = mapped_column(Integer)


class AbilityRow(TableBase):
    """What one ability task found: on the base alone, or under a version's weights."""

    __tablename__ = "abilities"
    __table_args__ = (Index(None, "probe_digest", "state_version_id"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    probe: Mapped[Any] = mapped_column(CanonicalJson)
    probe_digest: Mapped[str] = mapped_column(DIGEST)
    head_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    state_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    after_version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    metric: Mapped[str] = mapped_column(Text)
    score: Mapped[float] = mapped_column(Float)
    examples: Mapped[int] = mapped_column(Integer)
    predictions_digest: Mapped[str] = mapped_column(DIGEST, index=True)
    logits_digest: Mapped[str] = mapped_column(DIGEST)
    plan_digest: Mapped[str] = mapped_column(DIGEST)
    base_digest: Mapped[str] = mapped_column(DIGEST)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    seconds: Mapped[float] = mapped_column(Float)
    created_at: Mapped[str] = mapped_column(TIME)


class StreamRow(TableBase):
    """A stream."""

    __tablename__ = "streams"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(NAME, unique=True)
    spec: Mapped[Any] = mapped_column(CanonicalJson)
    digest: Mapped[str] = mapped_column(DIGEST)
    base_digest: Mapped[str] = mapped_column(DIGEST)
    tasks: Mapped[Any] = mapped_column(CanonicalJson)
    created_at: Mapped[str] = mapped_column(TIME)
    updated_at: Mapped[str] = mapped_column(TIME, index=True)


class ArmRunRow(TableBase):
    """One arm of a stream under one seed."""

    __tablename__ = "arm_runs"
    __table_args__ = (UniqueConstraint("stream_id", "name", "seed"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    stream_id: Mapped[int] = mapped_column(ForeignKey("streams.id"))
    name: Mapped[str] = mapped_column(Text)
    strategy: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[Any] = mapped_column(CanonicalJson)
    sweep: Mapped[Any] = mapped_column(CanonicalJson)
    chosen: Mapped[Any] = mapped_column(CanonicalJson)
    finished: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[str] = mapped_column(TIME)


class StepRow(TableBase):
    """One addition to an arm."""

    __tablename__ = "steps"
    __table_args__ = (UniqueConstraint("arm_run_id", "position"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    arm_run_id: Mapped[int] = mapped_column(ForeignKey("arm_runs.id"))
    position: Mapped[int] = mapped_column(Integer)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    base_unchanged: Mapped[bool | None] = mapped_column(Boolean)
    created_at: Mapped[str] = mapped_column(TIME)


class StepCellRow(TableBase):
    """One cell of the score matrix: an evaluation of a task after a step."""

    __tablename__ = "step_cells"
    step_id: Mapped[int] = mapped_column(ForeignKey("steps.id"), primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))


class MirrorItemRow(TableBase):
    """What the MLflow mirror has of one thing of this home."""

    __tablename__ = "mirror_items"
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    mlflow_id: Mapped[str] = mapped_column(Text)
    content_digest: Mapped[str] = mapped_column(DIGEST)
    synced_at: Mapped[str] = mapped_column(TIME)
