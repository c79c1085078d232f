"""Every metric of forgetting, as a pure function of the score matrix; each key names its definition.

`rows[i][j]` is the score on task j after learning task i, higher is better, None where it was not
evaluated. T is the number of rows, the tasks learned so far; columns beyond them belong to tasks still to
come and are not read. Averages over tasks are unweighted. Nothing is clamped: negative forgetting is
backward gain. A metric is None where it is undefined (one task, a missing cell, no baseline), never 0.

A home that grows has a row for each addition, and a task may be learned again: `learned[j]` is then the row that
learned task j first, in ascending order, so that R[i][i] reads R[learned[i]][i], and the earlier tasks are those with
a row before the last. Without it, every row learned a task of its own.

A cell may also be an array of scores, one for each resample of the examples: then so is a metric that is a mean of
sums, differences and maxima.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = [
    "DEFINITIONS",
    "IsCorrect",
    "Learned",
    "Rows",
    "Scores",
    "all_metrics",
    "average_accuracy",
    "average_anytime_accuracy",
    "bwt_diaz",
    "bwt_gem",
    "flipped_examples",
    "forgetting_max",
    "forgetting_terms",
    "fwt_gem",
    "identical_predictions",
    "intransigence",
    "learning_accuracy",
    "negative_flip_rate",
    "positive_flip_rate",
    "retention",
    "worst_forgetting",
]

Rows = Sequence[Sequence[float | None]]
Scores = Sequence[float | None]
Learned = Sequence[int]
IsCorrect = Callable[[Any, Any], bool]
"""Tells whether a prediction is right, given what is right."""

DEFINITIONS: dict[str, str] = {
    "average_accuracy": "mean over j of R[T][j] (Lopez-Paz & Ranzato 2017, ACC)",
    "learning_accuracy": "mean of R[i][i]; plasticity (Riemer et al. 2019)",
    "bwt_gem": "1/(T-1) sum over i<T of (R[T][i] - R[i][i]); negative = forgetting (Lopez-Paz & Ranzato 2017, BWT)",
    "bwt_diaz": "sum over i>=2, j<i of (R[i][j] - R[j][j]), divided by T(T-1)/2 (Diaz-Rodriguez et al. 2018)",
    "fwt_gem": "1/(T-1) sum over i=2..T of (R[i-1][i] - b[i]), b = score before any training "
    "(Lopez-Paz & Ranzato 2017, FWT)",
    "forgetting_max": "1/(T-1) sum over j<T of (max over l in j..T-1 of R[l][j] - R[T][j]); "
    "the last row is not in the max (Chaudhry et al. 2018, F)",
    "forgetting_max_null": "what forgetting_max would be without any drift: its mean after each example's right and "
    "wrong answers were permuted over the steps since its task was learned",
    "worst_forgetting": "the largest term of forgetting_max",
    "retention": "mean over i<T of R[T][i] / R[i][i]",
    "average_anytime_accuracy": "mean over i of mean over j<=i of R[i][j] (Koh et al. 2022, discrete)",
    "intransigence": "mean over k of (a*[k] - R[k][k]), a*[k] = task k trained jointly with 1..k "
    "(Chaudhry et al. 2018, I)",
    "negative_flip_rate": "share of a task's evaluation examples that were right after learning it and are "
    "wrong now (Yan et al. 2021, NFR)",
    "positive_flip_rate": "share of a task's evaluation examples that were wrong after learning it and are right now",
    "replaced_negative_flip_rate": "share of a task's evaluation examples that a replaced version answered right and "
    "the new one answers wrong (Yan et al. 2021, NFR)",
    "replaced_positive_flip_rate": "share of a task's evaluation examples that a replaced version answered wrong and "
    "the new one answers right",
    "identical_predictions": "every earlier task's predictions equal, example by example, those recorded "
    "when it was learned",
}


def average_accuracy(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean over j of R[T][j] (ACC of Lopez-Paz & Ranzato 2017)."""
    return _mean(_cell(rows, len(rows) - 1, j) for j in range(len(_learned(rows, learned))))


def learning_accuracy(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean of R[i][i]: plasticity, how well each task was learned (Riemer et al. 2019)."""
    return _mean(_cell(rows, i, j) for j, i in enumerate(_learned(rows, learned)))


def average_anytime_accuracy(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean over i of the mean over j<=i of R[i][j] (discrete form of Koh et al. 2022)."""
    first = _learned(rows, learned)
    return _mean(_mean(_cell(rows, i, j) for j, row in enumerate(first) if row <= i) for i in range(len(rows)))


def bwt_gem(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean over i<T of R[T][i] - R[i][i]; negative = forgetting (Lopez-Paz & Ranzato 2017)."""
    last = len(rows) - 1
    return _mean(_difference(_cell(rows, last, j), _cell(rows, i, j)) for j, i in _earlier(rows, learned))


def bwt_diaz(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean of R[i][j] - R[j][j] over all T(T-1)/2 pairs j<i (Diaz-Rodriguez et al. 2018)."""
    first = list(enumerate(_learned(rows, learned)))
    pairs = ((i, j, row) for i in range(len(rows)) for j, row in first if row < i)
    return _mean(_difference(_cell(rows, i, j), _cell(rows, row, j)) for i, j, row in pairs)


def fwt_gem(rows: Rows, baseline: Scores | None) -> float | None:
    """Return 1/(T-1) sum over i=2..T of (R[i-1][i] - b[i]) (Lopez-Paz & Ranzato 2017, FWT).

    Args:
        rows: The score matrix, with the cells just above the diagonal.
        baseline: Score of each task before any training; the first is not read. None when it was not
        measured.
    """
    if baseline is None:
        return None
    return _mean(_difference(_cell(rows, i - 1, i), _at(baseline, i)) for i in range(1, len(rows)))


def forgetting_terms(rows: Rows, learned: Learned | None = None) -> list[float | None]:
    """Return, for each task j<T, the best R[l][j] with l in j..T-1, less R[T][j].

    The last row is not in the max, so that a term may be negative (Chaudhry et al. 2018, f).
    """
    return [_forgetting(rows, j, first) for j, first in _earlier(rows, learned)]


def forgetting_max(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean of `forgetting_terms` (Chaudhry et al. 2018, F)."""
    return _mean(forgetting_terms(rows, learned))


def worst_forgetting(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the largest of `forgetting_terms`: the task that lost most."""
    terms = _known(forgetting_terms(rows, learned))
    return max(terms) if terms else None


def retention(rows: Rows, learned: Learned | None = None) -> float | None:
    """Return the mean over i<T of R[T][i] / R[i][i].

    None too where a task was learned with a score of 0 or less: a ratio of negated losses would grow with
    the loss.
    """
    last = len(rows) - 1
    return _mean(_ratio(_cell(rows, last, j), _cell(rows, i, j)) for j, i in _earlier(rows, learned))


def intransigence(rows: Rows, joint: Scores | None) -> float | None:
    """Return the mean over k of (a*[k] - R[k][k]) (Chaudhry et al. 2018, I).

    Args:
        rows: The score matrix.
        joint: a*[k], the score of task k trained jointly with tasks 1..k. None when it was not measured.
    """
    if joint is None:
        return None
    return _mean(_difference(_at(joint, k), _cell(rows, k, k)) for k in range(len(rows)))


def all_metrics(
    rows: Rows,
    baseline: Scores | None = None,
    joint: Scores | None = None,
    *,
    learned: Learned | None = None,
    common_unit: bool,
) -> dict[str, float | None]:
    """Return every metric of the matrix by its key, in the order they are printed.

    `learning_accuracy` comes second, because stability without plasticity is easy and says nothing.

    Args:
        rows: The score matrix.
        baseline: Score of each task before any training, for `fwt_gem`.
        joint: Score of each task trained jointly with those before it, for `intransigence`.
        learned: The row that learned each task first, where a task may have been learned again.
        common_unit: Whether the tasks' scores have one unit and range: pounds and shares have no mean and no largest.
    """
    if not common_unit:
        return dict.fromkeys((*_OF_THE_MATRIX, "fwt_gem", "intransigence"))
    return {
        **{key: metric(rows, learned) for key, metric in _OF_THE_MATRIX.items()},
        "fwt_gem": fwt_gem(rows, baseline),
        "intransigence": intransigence(rows, joint),
    }


def flipped_examples(
    learned: Sequence[Any], now: Sequence[Any], targets: Sequence[Any], *, is_correct: IsCorrect = operator.eq
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the examples that were right and are wrong now, and those that were wrong and are right, by position.

    Args:
        learned: Predictions recorded after the task was learned, one for each example.
        now: Predictions of the same examples, in the same order, today.
        targets: What is right.
        is_correct: Tells whether a prediction is right.
    """
    triples = zip(learned, now, targets, strict=True)
    correct = [(is_correct(before, target), is_correct(after, target)) for before, after, target in triples]
    lost = tuple(example for example, pair in enumerate(correct) if pair == (True, False))
    gained = tuple(example for example, pair in enumerate(correct) if pair == (False, True))
    return lost, gained


def negative_flip_rate(
    learned: Sequence[Any], now: Sequence[Any], targets: Sequence[Any], *, is_correct: IsCorrect = operator.eq
) -> float | None:
    """Return the share of examples that were right when the task was learned and are wrong now.

    The share is of all examples (Yan et al. 2021, NFR); None when there are none.

    Args:
        learned: Predictions recorded after the task was learned, one for each example.
        now: Predictions of the same examples, in the same order, today.
        targets: What is right.
        is_correct: Tells whether a prediction is right.
    """
    lost, _ = flipped_examples(learned, now, targets, is_correct=is_correct)
    return len(lost) / len(targets) if targets else None


def positive_flip_rate(
    learned: Sequence[Any], now: Sequence[Any], targets: Sequence[Any], *, is_correct: IsCorrect = operator.eq
) -> float | None:
    """Return the share of examples that were wrong when the task was learned and are right now.

    Args:
        learned: Predictions recorded after the task was learned, one for each example.
        now: Predictions of the same examples, in the same order, today.
        targets: What is right.
        is_correct: Tells whether a prediction is right.
    """
    _, gained = flipped_examples(learned, now, targets, is_correct=is_correct)
    return len(gained) / len(targets) if targets else None


def identical_predictions(learned: Sequence[Any], now: Sequence[Any]) -> bool:
    """Tell whether the predictions are, example by example, those recorded when the task was learned."""
    return len(learned) == len(now) and all(a == b for a, b in zip(learned, now, strict=True))


_OF_THE_MATRIX: dict[str, Callable[[Rows, Learned | None], float | None]] = {
    "average_accuracy": average_accuracy,
    "learning_accuracy": learning_accuracy,
    "average_anytime_accuracy": average_anytime_accuracy,
    "bwt_gem": bwt_gem,
    "bwt_diaz": bwt_diaz,
    "forgetting_max": forgetting_max,
    "worst_forgetting": worst_forgetting,
    "retention": retention,
}


def _learned(rows: Rows, learned: Learned | None) -> Learned:
    return range(len(rows)) if learned is None else learned


def _earlier(rows: Rows, learned: Learned | None) -> list[tuple[int, int]]:
    """Return every task that was learned before the last row, with the row that learned it first."""
    return [(j, row) for j, row in enumerate(_learned(rows, learned)) if row < len(rows) - 1]


def _forgetting(rows: Rows, j: int, first: int) -> float | None:
    last = len(rows) - 1
    seen = _known(_cell(rows, i, j) for i in range(first, last))
    return None if seen is None else _difference(_best(seen), _cell(rows, last, j))


def _cell(rows: Rows, i: int, j: int) -> float | None:
    return _at(rows[i], j)


def _at(scores: Scores, index: int) -> float | None:
    # a short row ends where the evaluation did: what follows was not evaluated
    return scores[index] if index < len(scores) else None


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or b <= 0 else a / b


def _known(values: Iterable[float | None]) -> list[float] | None:
    """Return the values as a list; None as soon as one of them is missing."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return known


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    if not known:
        return None
    # fsum rounds once, so the order of tasks never changes a mean
    total = math.fsum(known) if _are_numbers(known) else sum(known[1:], start=known[0])
    return total / len(known)


def _best(known: list[float]) -> float:
    if _are_numbers(known):
        return max(known)
    import numpy as np

    # a task that nothing changes has one array after every step
    best: float = functools.reduce(np.maximum, {id(one): one for one in known}.values())
    return best


def _are_numbers(known: list[float]) -> bool:
    return isinstance(known[0], int | float)
