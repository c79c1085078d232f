"""Evaluations scored anew after labels were corrected: what was answered stays, what is right is what it is now.

No model is asked: the kept predictions of every evaluation on the rows of before are held against the corrected
targets, and kept as evaluations of their own, which name those that they come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from limpet.errors import LimpetError
from limpet.forgetting.json_form import as_tuples
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import EvaluationDraft, EvaluationRecord, SplitRecord, TaskRecord
from limpet.training.data.stored_splits import read_split
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import score, task_type

__all__ = ["rescore", "rescored"]


def rescore(store: Store, task: TaskRecord, progress: Progress = SILENT) -> tuple[EvaluationRecord, ...]:
    """Score what was evaluated on the revision before anew, where this one has corrected rows.

    What was scored anew already is not again, so that it can be done once more after it was interrupted.

    Args:
        store: The open home.
        task: The revision.
        progress: Receives a note for each evaluation whose kept predictions can't be read.

    Returns:
        The evaluations that were made.

    Raises:
        IntegrityError: The bytes of a split are missing or changed.
    """
    before = next((known for known in tasks.revisions(store, task.name) if known.data_digest == task.previous), None)
    if before is None:
        return ()
    return tuple(
        evaluation
        for part in before.evaluation_parts
        if part.digest != task.split(part.name).digest
        for evaluation in _rescore_part(store, before, task, part=part, progress=progress)
    )


def _rescore_part(
    store: Store, before: TaskRecord, task: TaskRecord, *, part: SplitRecord, progress: Progress
) -> list[EvaluationRecord]:
    targets = tuple(example.target for example in read_split(store, task, part.name))
    corrected = _Corrected(before.labels, task, task.split(part.name), targets)
    known = evaluations.on_data(store, task.name, corrected.split.digest)
    made = {evaluation.rescored_from for evaluation in known}
    found = []
    for evaluation in evaluations.on_data(store, task.name, part.digest):
        if evaluation.id in made:
            continue
        try:
            found.append(_rescore(store, evaluation, corrected))
        except LimpetError as error:
            # what is missing or damaged is for `verify` to name; the others are scored all the same
            progress.note(f"evaluation {evaluation.id} of {evaluation.version} is not scored anew: {error.message}")
    return found


@dataclass(frozen=True)
class _Corrected:
    """A split whose targets were corrected, the targets now, and the label map of the answers that were kept."""

    labels_before: tuple[str, ...]
    task: TaskRecord
    split: SplitRecord
    targets: tuple[object, ...]


def _rescore(store: Store, evaluation: EvaluationRecord, corrected: _Corrected) -> EvaluationRecord:
    content = evaluations.predictions(store, evaluation)
    task, targets = corrected.task, corrected.targets
    kind = task_type(task.definition.type)
    answers = as_tuples(content["predictions"])
    predictions = [kind.relabelled(answer, corrected.labels_before, task.labels) for answer in answers]
    kept = {**content, "predictions": predictions, "targets": targets, "rescored_from": evaluation.id}
    return evaluations.add(
        store,
        EvaluationDraft(
            version=evaluation.version,
            state=evaluation.state,
            kind="full",
            split=evaluation.split,
            metric=evaluation.metric,
            score=score(evaluation.metric, predictions, targets),
            examples=len(targets),
            predictions_digest=store.blobs.put_bytes(canonical_json(kept)),
            logits_digest=evaluation.logits_digest,
            plan_digest=evaluation.plan_digest,
            data_digest=corrected.split.digest,
            base_digest=evaluation.base_digest,
            environment=evaluation.environment,
            seconds=evaluation.seconds,
            rescored_from=evaluation.id,
        ),
    )


def rescored(store: Store, task: TaskRecord) -> dict[int, EvaluationRecord]:
    """Return, by the id of an older evaluation, the one on the rows of a revision that was scored anew from it."""
    if task.revision == 1:
        # nothing was corrected, and a home that has grown has thousands of evaluations
        return {}
    newest = [
        evaluation
        for part in task.evaluation_parts
        for evaluation in evaluations.on_data(store, task.name, part.digest)
        if evaluation.rescored_from is not None
    ]
    by_origin: dict[int, EvaluationRecord] = {}
    for evaluation in newest:
        origin = evaluation.rescored_from
        while origin is not None:
            by_origin[origin] = evaluation
            older = evaluations.get(store, origin)
            origin = older.rescored_from if older is not None else None
    return by_origin
