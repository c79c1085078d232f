"""What a version gets wrong: its labels one by one, which is taken for which, and the examples themselves.

All of it is read from the predictions that were kept of its evaluation; nothing is computed by the base again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from limpet.errors import NotFoundError, UsageError
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, ReadPredictions, with_label_names
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.records import evaluations, tasks
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, TaskRecord, VersionRecord
from limpet.training.batching.examples import Text, text_of
from limpet.training.metrics.label_scores import LabelScore, confusions, entity_scores, label_scores
from limpet.training.metrics.units import PERPLEXITY
from limpet.training.task_types import metric, score

__all__ = ["Confusion", "VersionErrors", "WrongAnswer", "find_errors", "version_errors"]


@dataclass(frozen=True)
class WrongAnswer:
    """An example that is answered wrongly: its split and its row there, from 1, its text, and what was predicted.

    `text` is null where the split's bytes are no longer kept.
    """

    split: str
    row: int
    text: Text | None
    target: JsonValue
    predicted: JsonValue


@dataclass(frozen=True)
class Confusion:
    """How often a label was taken for another."""

    target: str
    predicted: str
    examples: int


@dataclass(frozen=True)
class VersionErrors:
    """What a version gets wrong on the evaluation examples of its task, in the revision `task`.

    `labels` has a score for each label, or for each type of entity; it is empty where a task has no labels. `matrix`
    has a row for each label in the order of `matrix_labels`, and in it how often it was taken for each, word by word
    where words have tags; it is empty where a text has several labels, or none. `wrong` has every example that is not
    answered by its target, numbers farthest from it first.
    """

    version: str
    task: str
    metric: str
    score: float
    examples: int
    labels: tuple[LabelScore, ...]
    matrix_labels: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    wrong: tuple[WrongAnswer, ...]

    @property
    def confusions(self) -> tuple[Confusion, ...]:
        """Which labels are taken for which others, the most frequent first."""
        found = [
            Confusion(target, predicted, count)
            for target, row in zip(self.matrix_labels, self.matrix, strict=True)
            for predicted, count in zip(self.matrix_labels, row, strict=True)
            if count and target != predicted
        ]
        return tuple(sorted(found, key=lambda confusion: -confusion.examples))


def version_errors(store: Store, version: VersionRecord, *, read: ReadPredictions) -> VersionErrors:
    """Return what a version gets wrong, on the newest revision of its task that it was evaluated on.

    Args:
        store: The home.
        version: The version.
        read: Reads kept predictions.

    Raises:
        NotFoundError: The version was never evaluated.
        UsageError: Its task is scored by the probability of targets, and no answer is written for that.
        IntegrityError: Kept predictions are missing, corrupt or not those of the score.
    """
    scored_by = tasks.of_version(store, version).definition.metric
    if not _has_answers(scored_by):
        raise UsageError(
            f"{version.reference} is scored by {scored_by}, the probability of the targets: it has no answers that "
            "could be wrong.",
            f"limpet adapter show {version.reference}",
        )
    errors = find_errors(store, version, read=read)
    if errors is None:
        raise NotFoundError(
            f"{version.reference} was never evaluated on the data that it was learned on.",
            f"limpet evaluate {version.reference}",
        )
    return errors


def find_errors(store: Store, version: VersionRecord, *, read: ReadPredictions) -> VersionErrors | None:
    """Return what a version gets wrong as `version_errors` does; null where no answers of it are kept."""
    evaluated = _evaluated(store, version)
    if evaluated is None or not _has_answers(evaluated[0].definition.metric):
        return None
    task, parts = evaluated
    answers = [
        (split, at, predicted, target)
        for split, evaluation in parts.items()
        for at, (predicted, target) in enumerate(_pairs(read(evaluation)))
    ]
    texts = {split: _texts(store, evaluation) for split, evaluation in parts.items()}
    predictions, targets = ([answer[side] for answer in answers] for side in (2, 3))
    named = [[with_label_names(value, task.labels) for value in side] for side in (predictions, targets)]
    wrong = [
        WrongAnswer(split, at + 1, texts[split].get(at), target=right, predicted=said)
        for (split, at, predicted, wanted), said, right in zip(answers, *named, strict=True)
        if predicted != wanted
    ]
    if task.definition.type == "regression":
        wrong.sort(key=_distance, reverse=True)
    matrix_labels, matrix = _matrix(task, *named)
    return VersionErrors(
        version=version.reference,
        task=task.reference,
        metric=task.definition.metric,
        score=score(task.definition.metric, predictions, targets),
        examples=len(answers),
        labels=_label_scores(task, *named),
        matrix_labels=matrix_labels,
        matrix=matrix,
        wrong=tuple(wrong),
    )


def _has_answers(scored_by: str) -> bool:
    return metric(scored_by).unit != PERPLEXITY


def _evaluated(store: Store, version: VersionRecord) -> tuple[TaskRecord, dict[str, EvaluationRecord]] | None:
    """Return the newest revision that was evaluated whole, else the version's own, with its evaluations by split."""
    newest: dict[str, EvaluationRecord] = {}
    for evaluation in evaluations.of_version(store, version.reference):
        newest[evaluation.data_digest] = evaluation
    own = tasks.of_version(store, version)
    later = [task for task in tasks.revisions(store, version.task, past=True) if task.revision > own.revision]
    for task in (*reversed(later), own):
        digests = {split.name: split.digest for split in task.evaluation_parts}
        if all(digest in newest for digest in digests.values()):
            return task, {split: newest[digest] for split, digest in digests.items()}
    return None


def _pairs(kept: KeptPredictions) -> Iterator[tuple[JsonValue, JsonValue]]:
    return zip(kept.predictions, kept.targets, strict=True)


def _texts(store: Store, evaluation: EvaluationRecord) -> Mapping[int, Text]:
    """Return the texts of an evaluated split by their place; none where its bytes are gone."""
    if not store.blobs.exists(evaluation.data_digest):
        return {}
    texts = (json.loads(line)["text"] for line in store.blobs.read(evaluation.data_digest).splitlines())
    return {at: text_of(text) for at, text in enumerate(texts)}


def _distance(answer: WrongAnswer) -> float:
    predicted, target = answer.predicted, answer.target
    # canonical JSON has whole numbers without a fraction
    if isinstance(predicted, int | float) and isinstance(target, int | float):
        return abs(predicted - target)
    return 0.0


def _names(values: Sequence[JsonValue]) -> list[list[str]]:
    """Return the labels, or the tags, of each example."""
    return [[str(name) for name in value] if isinstance(value, list) else [str(value)] for value in values]


def _label_scores(
    task: TaskRecord, predictions: Sequence[JsonValue], targets: Sequence[JsonValue]
) -> tuple[LabelScore, ...]:
    if not task.labels:
        return ()
    said, right = _names(predictions), _names(targets)
    if task.definition.type == "token-classification":
        return entity_scores(said, right)
    return label_scores(_with_former(task.labels, said), said, right)


def _matrix(
    task: TaskRecord, predictions: Sequence[JsonValue], targets: Sequence[JsonValue]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Return the labels of a confusion matrix and its rows; nothing where a text has several labels, or none."""
    if task.definition.type not in ("classification", "token-classification"):
        return (), ()
    labels = _with_former(task.labels, _names(predictions))
    # of words that have tags, each word counts
    said, right = ([name for names in _names(side) for name in names] for side in (predictions, targets))
    return labels, confusions(labels, said, right)


def _with_former(labels: Sequence[str], predictions: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the labels of a task, and behind them those that only an older revision had and that are predicted."""
    return tuple(dict.fromkeys((*labels, *sorted({name for names in predictions for name in names} - set(labels)))))
