"""Where a version comes from: its parent, its data, the steps of streams that made it, and its run in MLflow."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.names import Reference
from limpet.registry.database.schema import (
    ArmRunRow,
    MirrorItemRow,
    StepRow,
    StreamRow,
    TaskRevisionRow,
    TaskRow,
    VersionRow,
)
from limpet.registry.records.rows import find_version, names_of, references
from limpet.registry.store import Store

__all__ = ["Lineage", "Step", "get"]


@dataclass(frozen=True)
class Step:
    """One step of a stream: its arm, the arm's seed and its place in the arm, counted from 1."""

    stream: str
    arm: str
    seed: int
    step: int


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from.

    `revision` is that of its task whose data it was learned on, null where this home has no such revision.
    `parent` is the version that training started from, `steps` are those that name the version, and `mlflow_run` and
    `mlflow_model` its ids in the mirror; null where there is none, or none yet.
    """

    version: str
    parent: str | None
    data_digest: str
    revision: int | None
    base_digest: str
    steps: tuple[Step, ...]
    mlflow_run: str | None
    mlflow_model: str | None


def get(store: Store, ref: str | Reference) -> Lineage:
    """Return where a version comes from; for one that was deleted too.

    Raises:
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        row = find_version(session, ref, deleted=True)
        named = references(session, [id_ for id_ in (row.id, row.parent_id) if id_ is not None])
        steps = session.execute(
            select(StreamRow.name, ArmRunRow, StepRow.position)
            .join(ArmRunRow, ArmRunRow.stream_id == StreamRow.id)
            .join(StepRow, StepRow.arm_run_id == ArmRunRow.id)
            .where(StepRow.version_id == row.id)
            .order_by(StepRow.id)
        ).all()
        # the mirror knows a task by the first name that it had
        task = session.get_one(TaskRow, row.task_id)
        mirrored = f"{names_of(task.name, task.former_names)[0]}@{row.number}"
        keys = [f"step:{stream}:{arm.id}:{position + 1}" for stream, arm, position in steps]
        return Lineage(
            version=named[row.id],
            parent=None if row.parent_id is None else named[row.parent_id],
            data_digest=row.data_digest,
            revision=_revision(session, row),
            base_digest=row.base_digest,
            steps=tuple(Step(stream, arm.name, arm.seed, position + 1) for stream, arm, position in steps),
            mlflow_run=_mirrored(session, *keys, f"version:{mirrored}"),
            mlflow_model=_mirrored(session, f"model:{mirrored}"),
        )


def _revision(session: Session, version: VersionRow) -> int | None:
    task = session.get_one(TaskRow, version.task_id)
    if task.data_digest == version.data_digest:
        return task.revision or 1
    revision = select(TaskRevisionRow.revision).where(
        TaskRevisionRow.task_id == task.id, TaskRevisionRow.data_digest == version.data_digest
    )
    return session.scalar(revision.limit(1))


def _mirrored(session: Session, *keys: str) -> str | None:
    """Return the MLflow id of the first of these things that the mirror has."""
    rows = (session.get(MirrorItemRow, key) for key in keys)
    return next((row.mlflow_id for row in rows if row is not None), None)
