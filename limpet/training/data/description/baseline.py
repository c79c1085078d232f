"""How far one comes without looking at a text: the score of the same answer to every text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Example
from limpet.training.data.stored_splits import read_split
from limpet.training.metrics.units import PERPLEXITY
from limpet.training.task_types import metric, task_type

__all__ = ["constant_score", "majority_baseline"]


def constant_score(kind: str, scored_by: str, train: Sequence[Any], *, evaluation: Sequence[Example]) -> float | None:
    """Score the commonest training target as the answer to every evaluation text; for numbers, their mean.

    Args:
        kind: The type of task.
        scored_by: The name of its metric.
        train: The targets of the training examples.
        evaluation: The evaluation examples.

    Returns:
        The score; null where not answers are scored but the probability of targets.
    """
    measure = metric(scored_by)
    if measure.unit == PERPLEXITY:
        return None
    texts = [example.text for example in evaluation]
    answers = task_type(kind).constant(train, texts)
    return measure.score(answers, [example.target for example in evaluation])


def majority_baseline(store: Store, task: TaskRecord, *, first_rows: bool = False) -> float | None:
    """Return `constant_score` of a task, from its record, or of its splits where it was added before there was one.

    Args:
        store: The home.
        task: The task.
        first_rows: Of a task with revisions, score the rows alone that were evaluated from the beginning, not all.

    Raises:
        IntegrityError: A split's bytes are missing or changed.
    """
    parts = task.evaluation_parts[:1] if first_rows else task.evaluation_parts
    # a bundle may bring anything there
    value = task.checks.get("majority_baseline")
    if isinstance(value, float) and len(parts) == len(task.evaluation_parts):
        return value
    train = [example.target for example in read_split(store, task, "train")]
    evaluation = [example for part in parts for example in read_split(store, task, part.name)]
    return constant_score(task.definition.type, task.definition.metric, train, evaluation=evaluation)
