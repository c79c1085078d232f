"""Scores of predictions against targets: means over examples, higher is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from limpet.errors import UsageError

__all__ = ["accuracy", "macro_f1", "score"]


def accuracy(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Share of predictions that equal their target, in 0 to 1."""
    return sum(a == b for a, b in zip(predictions, targets, strict=True)) / len(targets)


def macro_f1(predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Unweighted mean of the F1 of every label that occurs in the targets, in 0 to 1.

    F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall (van Rijsbergen 1979).
    """
    scores = []
    for label in sorted(set(targets)):
        pairs = [(a == label, b == label) for a, b in zip(predictions, targets, strict=True)]
        true_positive = sum(a and b for a, b in pairs)
        wrong = sum(a != b for a, b in pairs)
        scores.append(2 * true_positive / (2 * true_positive + wrong))
    return sum(scores) / len(scores)


_METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], float]] = {
    "accuracy": accuracy,
    "macro-f1": macro_f1,
}


def score(metric: str, predictions: Sequence[int], targets: Sequence[int]) -> float:
    """Score `predictions` by the metric of that name.

    Raises:
        UsageError: There is no such metric.
    """
    if metric not in _METRICS:
        raise UsageError(f"There is no metric {metric!r}.", f"choose one of {', '.join(_METRICS)}")
    return _METRICS[metric](predictions, targets)
