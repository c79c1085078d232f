"""Evaluations: which version was scored on what, when, in which environment, with which predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import IntegrityError, UsageError
from limpet.registry.database.schema import EvaluationRow
from limpet.registry.records import log
from limpet.registry.records.rows import environment_id, environments_of, find_version, references, task_names
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.system.clock import utc_now
from limpet.registry.values import AbilityRecord, Environment, EvaluationRecord

__all__ = ["add", "evaluation_records", "full", "get", "predictions"]

Split = Literal["validation", "evaluation"]


def add(
    store: Store,
    *,
    version: str,
    state: str,
    kind: Literal["full", "audit"],
    split: Split,
    metric: str,
    score: float,
    examples: int,
    predictions_digest: str,
    logits_digest: str,
    plan_digest: str,
    data_digest: str,
    base_digest: str,
    environment: Environment,
    seconds: float,
) -> EvaluationRecord:
    """Keep one evaluation of a version's task.

    Args:
        store: The open home.
        version: The version whose head and label map were used, as `task@n`.
        state: The version whose tensors were on the backbone, as `task@n`; often the same.
        kind: `full` for every example of the split, `audit` for a sample of them.
        split: The split that was evaluated.
        metric: The metric's name.
        score: The mean over the examples.
        examples: How many examples were evaluated.
        predictions_digest: The blob of canonical JSON with the predictions, stored already.
        logits_digest: The digest of all logits' bytes in plan order.
        plan_digest: The digest of the batch plan.
        data_digest: The digest of the split's data.
        base_digest: The fingerprint of the base.
        environment: Where it ran.
        seconds: How long it took.

    Raises:
        NotFoundError: A version is unknown.
        IntegrityError: The predictions are not in the blob store.
        ConflictError: A gc took the predictions away meanwhile.
        UsageError: The score is not a finite number.
    """
    if not abs(score) < float("inf"):
        raise UsageError(f"The score {score} of {version} is not a finite number.", "look at the model's outputs")
    if not store.blobs.exists(predictions_digest):
        raise IntegrityError(f"The predictions of {version} are not stored.", f"limpet evaluate {version}")
    with recording(store, "evaluate", [predictions_digest]) as session:
        head, backbone = find_version(session, version), find_version(session, state)
        row = EvaluationRow(
            task_id=head.task_id,
            version_id=head.id,
            state_version_id=backbone.id,
            kind=kind,
            split=split,
            metric=metric,
            score=score,
            examples=examples,
            predictions_digest=predictions_digest,
            logits_digest=logits_digest,
            plan_digest=plan_digest,
            data_digest=data_digest,
            base_digest=base_digest,
            environment_id=environment_id(session, environment),
            seconds=seconds,
            created_at=utc_now(),
        )
        session.add(row)
        session.flush()
        evaluation = evaluation_records(session, [row])[0]
        detail = {
            "evaluation": row.id,
            "kind": kind,
            "state": evaluation.state,
            "metric": metric,
            "score": float(score),
        }
        log.record(session, "evaluate", evaluation.version, detail=detail)
        return evaluation


def get(store: Store, evaluation_id: int) -> EvaluationRecord | None:
    """Return an evaluation by its id, null if there is none."""
    with store.database.read() as session:
        row = session.get(EvaluationRow, evaluation_id)
        return None if row is None else evaluation_records(session, [row])[0]


def full(store: Store, version: str, state: str, *, split: Split = "evaluation") -> tuple[EvaluationRecord, ...]:
    """Return every full evaluation of a version on a backbone state, the newest first."""
    with store.database.read() as session:
        # the evidence of a deleted version stays
        head, backbone = (find_version(session, ref, deleted=True) for ref in (version, state))
        rows = session.scalars(
            select(EvaluationRow)
            .where(
                EvaluationRow.version_id == head.id,
                EvaluationRow.state_version_id == backbone.id,
                EvaluationRow.kind == "full",
                EvaluationRow.split == split,
            )
            .order_by(EvaluationRow.id.desc())
        )
        return evaluation_records(session, rows.all())


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
            id=row.id,
            task=tasks[row.task_id],
            version=named[row.version_id],
            state=named[row.state_version_id],
            kind="full" if row.kind == "full" else "audit",
            split="evaluation" if row.split == "evaluation" else "validation",
            metric=row.metric,
            score=row.score,
            examples=row.examples,
            predictions_digest=row.predictions_digest,
            logits_digest=row.logits_digest,
            plan_digest=row.plan_digest,
            data_digest=row.data_digest,
            base_digest=row.base_digest,
            environment=environments[row.environment_id],
            seconds=row.seconds,
            created_at=row.created_at,
        )
        for row in rows
    )
