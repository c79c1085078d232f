"""Evaluations: which version was scored on what, when, in which environment, with which predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from limpet.errors import IntegrityError, UsageError
from limpet.registry.database.schema import EvaluationRow
from limpet.registry.records import log
from limpet.registry.records.rows import (
    environments_of,
    find_task,
    find_version,
    measured_fields,
    measurement_columns,
    references,
    task_names,
)
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.values import AbilityRecord, EvaluationDraft, EvaluationKind, EvaluationRecord

__all__ = ["add", "carried", "evaluation_records", "full", "get", "of_version", "on_data", "predictions"]


def add(store: Store, draft: EvaluationDraft) -> EvaluationRecord:
    """Keep one evaluation of a version's task.

    Raises:
        NotFoundError: A version is unknown.
        IntegrityError: The predictions are not in the blob store.
        ConflictError: A gc took the predictions away meanwhile.
        UsageError: The score is not a finite number.
    """
    if not math.isfinite(draft.score):
        raise UsageError(
            f"The score {draft.score} of {draft.version} is not a finite number.", "look at the model's outputs"
        )
    if not store.blobs.exists(draft.predictions_digest):
        raise IntegrityError(
            f"The predictions of {draft.version} are not stored.", f"limpet evaluate {draft.version}"
        )
    with recording(store, "evaluate", [draft.predictions_digest]) as session:
        # what is scored anew was evaluated before, maybe of a version that was deleted since
        deleted = draft.rescored_from is not None
        head, backbone = (find_version(session, name, deleted=deleted) for name in (draft.version, draft.state))
        row = EvaluationRow(
            **measurement_columns(session, draft),
            task_id=head.task_id,
            version_id=head.id,
            state_version_id=backbone.id,
            kind=draft.kind,
            split=draft.split,
            data_digest=draft.data_digest,
            rescored_from_id=draft.rescored_from,
        )
        session.add(row)
        session.flush()
        evaluation = evaluation_records(session, [row])[0]
        detail = {
            "evaluation": row.id,
            "kind": draft.kind,
            "state": evaluation.state,
            "metric": draft.metric,
            "score": float(draft.score),
        }
        log.record(session, "evaluate", evaluation.version, detail=detail)
        return evaluation


def get(store: Store, evaluation_id: int) -> EvaluationRecord | None:
    """Return an evaluation by its id, null if there is none."""
    with store.database.read() as session:
        row = session.get(EvaluationRow, evaluation_id)
        return None if row is None else evaluation_records(session, [row])[0]


def full(store: Store, version: str, state: str, *, split: str = "evaluation") -> tuple[EvaluationRecord, ...]:
    """Return every full evaluation of a version on a backbone state, the newest first."""
    with store.database.read() as session:
        # the evidence of a deleted version stays
        head, backbone = (find_version(session, ref, deleted=True) for ref in (version, state))
        of_both = (EvaluationRow.version_id == head.id, EvaluationRow.state_version_id == backbone.id)
        return _full(session, *of_both, EvaluationRow.split == split)[::-1]


def of_version(store: Store, version: str) -> tuple[EvaluationRecord, ...]:
    """Return every full evaluation of a version under its own weights, on any evaluation split, the oldest first."""
    with store.database.read() as session:
        row = find_version(session, version, deleted=True)
        of_both = (EvaluationRow.version_id == row.id, EvaluationRow.state_version_id == row.id)
        return _full(session, *of_both, EvaluationRow.split != "validation")


def on_data(store: Store, task: str, data_digest: str) -> tuple[EvaluationRecord, ...]:
    """Return every full evaluation of a task on a split, by the split's digest, the oldest first."""
    with store.database.read() as session:
        of_task = EvaluationRow.task_id == find_task(session, task).id
        return _full(session, of_task, EvaluationRow.data_digest == data_digest)


def carried(store: Store, version: str) -> tuple[EvaluationRecord, ...]:
    """Return every evaluation of a version under its own weights that an audit carried forward, the oldest first."""
    with store.database.read() as session:
        row = find_version(session, version, deleted=True)
        of_both = (EvaluationRow.version_id == row.id, EvaluationRow.state_version_id == row.id)
        query = select(EvaluationRow).where(EvaluationRow.kind == "carried", *of_both).order_by(EvaluationRow.id)
        return evaluation_records(session, session.scalars(query).all())


def _full(session: Session, *conditions: ColumnElement[bool]) -> tuple[EvaluationRecord, ...]:
    """Return the full evaluations that meet all conditions, the oldest first."""
    query = select(EvaluationRow).where(EvaluationRow.kind == "full", *conditions).order_by(EvaluationRow.id)
    return evaluation_records(session, session.scalars(query).all())


def predictions(store: Store, evaluation: EvaluationRecord | AbilityRecord) -> dict[str, Any]:
    """Return what was predicted in an evaluation or answered to a probe, as it was stored.

    Raises:
        IntegrityError: The blob is missing or was changed.
    """
    content: dict[str, Any] = json.loads(store.blobs.read(evaluation.predictions_digest))
    return content


def evaluation_records(session: Session, rows: Sequence[EvaluationRow]) -> tuple[EvaluationRecord, ...]:
    """Return the values of evaluation rows, in their order, without a query per row."""
    named = references(session, [id_ for row in rows for id_ in (row.version_id, row.state_version_id)])
    environments = environments_of(session, rows)
    tasks = task_names(session, (row.task_id for row in rows))
    return tuple(
        EvaluationRecord(
            **measured_fields(row, environments),
            task=tasks[row.task_id],
            version=named[row.version_id],
            state=named[row.state_version_id],
            kind=cast(EvaluationKind, row.kind),
            split=row.split,
            data_digest=row.data_digest,
            rescored_from=row.rescored_from_id,
        )
        for row in rows
    )
