"""Whether a version still answers as it did: each full evaluation is held against the version's reference.

The reference is the evaluation made when the version was registered, never one that a check wrote; only a person
replaces it, by accepting an alarm with a reason.
"""

from __future__ import annotations

from limpet.forgetting.json_form import as_tuples
from limpet.forgetting.metrics.forgetting import flipped_examples
from limpet.forgetting.metrics.intervals import mcnemar_exact
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, ReadContent
from limpet.forgetting.monitor.prediction_diff import find_difference, same_conditions
from limpet.forgetting.monitor.replacement import change_interval, reference_evaluation
from limpet.registry.records import alarms, tasks
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord
from limpet.training.task_types import metric, task_type

__all__ = ["hold_against_reference"]

_ALPHA = 0.05


def hold_against_reference(store: Store, now: EvaluationRecord, read: ReadContent) -> str:
    """Raise an alarm where a full evaluation does not give the answers of the version's reference.

    In the conditions of the reference, one answer that differs is an alarm. In other conditions, such as another
    library, answers between two labels that are as good as equal may change: they are counted, and it is an alarm
    where the version lost more than chance explains.

    Args:
        store: The open home.
        now: The evaluation.
        read: Reads kept predictions.

    Returns:
        What differs without being an alarm, as a sentence; else nothing.

    Raises:
        IntegrityError: Kept predictions are missing or corrupt.
    """
    reference = reference_evaluation(store, now.version, now.data_digest)
    if reference is None or reference.id == now.id or now.state != now.version:
        return ""
    if _same_answers(store, reference, now, read=read):
        return ""
    difference = find_difference(store, reference, now, read=read)
    assert difference is not None
    detail = f"{now.version} no longer answers as on {reference.created_at[:10]}. {difference.sentence()}."
    if not same_conditions(reference, now, read) and not _lost(reference, now, read):
        return f"{detail} The conditions are other ones and the loss is within chance: no alarm"
    alarms.sound(store, now.version, evaluation=now.id, reference=reference.id, detail=detail)
    return ""


def _same_answers(store: Store, reference: EvaluationRecord, now: EvaluationRecord, *, read: ReadContent) -> bool:
    before, after = read(reference), read(now)
    if before["targets"] != after["targets"]:
        return False
    if before["predictions"] == after["predictions"]:
        return True
    # a label that no row has any more has gone from the task's label map, and ids behind it are others now
    task, then = tasks.get(store, now.task), tasks.as_of(store, now.task, reference.created_at)
    if task.labels == then.labels:
        return False
    kind = task_type(task.definition.type)
    answers = [kind.relabelled(answer, then.labels, task.labels) for answer in as_tuples(before["predictions"])]
    return answers == list(as_tuples(after["predictions"]))


def _lost(reference: EvaluationRecord, now: EvaluationRecord, read: ReadContent) -> bool:
    """Tell whether more was lost than gained, beyond chance; of graded answers, whether the score fell beyond it."""
    is_correct = metric(now.metric).is_correct
    before, after = read(reference), read(now)
    if before["targets"] != after["targets"]:
        return True
    if is_correct is None:
        was, answered = map(KeptPredictions.of, (before, after))
        interval = change_interval(now.task, now.metric, was, now=answered)
        return now.score < reference.score and (interval is None or interval[1] < 0)
    flipped = flipped_examples(before["predictions"], after["predictions"], after["targets"], is_correct=is_correct)
    lost, gained = map(len, flipped)
    return lost > gained and mcnemar_exact(lost, gained) < _ALPHA
