"""How well each label is told from the others: precision, recall and F1, and which is taken for which.

Precision is TP / (TP + FP), recall TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from limpet.training.metrics.entities import entities

__all__ = ["LabelScore", "confusions", "entity_scores", "label_scores"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class LabelScore:
    """One label: how often it is right (`examples`), how often it was predicted, and how well that agrees.

    `precision` is null where it was never predicted, `recall` where it is never right, `f1` where neither.
    """

    label: str
    examples: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


def label_scores(
    labels: Sequence[str], predictions: Sequence[Iterable[str]], targets: Sequence[Iterable[str]]
) -> tuple[LabelScore, ...]:
    """Score each label by itself.

    Args:
        labels: The labels in their order.
        predictions: The labels that were predicted of each example.
        targets: Those that are right, in the same order.
    """
    return _scored(labels, [set(some) for some in predictions], [set(some) for some in targets], label_of=str)


def entity_scores(predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> tuple[LabelScore, ...]:
    """Score each type of entity among the tags of words; see `limpet.training.metrics.entities`."""
    given, wanted = ([entities(tags) for tags in side] for side in (predictions, targets))
    types = sorted({kind for some in (*given, *wanted) for kind, _, _ in some})
    return _scored(types, given, wanted, label_of=lambda entity: entity[0])


def _scored(
    labels: Sequence[str],
    given: Sequence[set[Item]],
    wanted: Sequence[set[Item]],
    *,
    label_of: Callable[[Item], str],
) -> tuple[LabelScore, ...]:
    found, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for some, others in zip(given, wanted, strict=True):
        found.update(map(label_of, some & others))
        predicted.update(map(label_of, some))
        right.update(map(label_of, others))
    return tuple(_score(label, found[label], predicted[label], right=right[label]) for label in labels)


def _score(label: str, found: int, predicted: int, *, right: int) -> LabelScore:
    return LabelScore(
        label=label,
        examples=right,
        predicted=predicted,
        precision=found / predicted if predicted else None,
        recall=found / right if right else None,
        f1=2 * found / (predicted + right) if predicted + right else None,
    )


def confusions(
    labels: Sequence[str], predictions: Sequence[str], targets: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Return how often each label, a row, was taken for each, a column.

    Args:
        labels: The labels in their order.
        predictions: The label that was predicted of each example, or of each word.
        targets: The right one, in the same order.
    """
    counts: Counter[tuple[str, str]] = Counter(zip(targets, predictions, strict=True))
    return tuple(tuple(counts[right, predicted] for predicted in labels) for right in labels)
