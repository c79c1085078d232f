"""Intervals and p-values: how far a number may be chance.

Everything resamples evaluation examples, task by task (stratified), and is decided by its seed. The same
seed draws the same examples of a task for every arm and every step, which is what makes differences paired.
A metric of the matrix is computed on each resampled matrix by the very function that computes it on the
measured one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limpet.errors import UsageError
from limpet.forgetting.metrics import Rows
from limpet.training.scoring import Metric
from limpet.training.scoring import metric as find_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Column",
    "MatrixMetric",
    "bootstrap_matrices",
    "difference_p_value",
    "mcnemar_exact",
    "percentile_interval",
    "replicates",
    "score_interval",
    "swapped_matrices",
    "t_interval",
]

RESAMPLES = 2000
LEVEL = 0.95

_CHUNK = 4_000_000  # resampled examples held at once: 32 MB
_ROUNDING = 1e-12

MatrixMetric = Callable[[Rows], float | None]


@dataclass(frozen=True)
class Column:
    """One column of a score matrix, example by example.

    Args:
        task: The task's name; it decides which examples a seed draws.
        metric: Its name.
        targets: What is right, one for each example.
        predictions: Predictions of the examples after each step; None where the task was not evaluated.
    """

    task: str
    metric: str
    targets: tuple[Any, ...]
    predictions: tuple[tuple[Any, ...] | None, ...]


def score_interval(
    metric: str,
    predictions: Sequence[Any],
    targets: Sequence[Any],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of one score over its examples (Efron & Tibshirani 1993).

    Args:
        metric: Its name.
        predictions: One for each example.
        targets: What is right, one for each example.
        seed: Decides which examples are drawn.
        resamples: How often the examples are drawn again.
        level: Coverage of the interval, in 0 to 1.

    Raises:
        UsageError: There is no such metric, or predictions and targets differ in length or are empty.
    """
    column = Column("", metric, tuple(targets), (tuple(predictions),))
    return percentile_interval(_bootstrap_column(column, seed, resamples)[:, 0], level)


def bootstrap_matrices(columns: Sequence[Column], seed: int = 0, resamples: int = RESAMPLES) -> Array:
    """Return score matrices of resampled examples, each task resampled on its own (Efron & Tibshirani 1993).

    One draw of a task's examples fills its whole column, so steps stay paired within a matrix; the same seed
    draws the same examples for another arm, so arms stay paired too.

    Args:
        columns: The tasks learned so far, as many as there are steps.
        seed: Decides which examples are drawn.
        resamples: How many matrices.

    Returns:
        Scores, (resamples, steps, tasks); nan where a task was not evaluated.

    Raises:
        UsageError: As for `score_interval`.
    """
    import numpy as np

    return np.stack([_bootstrap_column(column, seed, resamples) for column in columns], axis=2)


def swapped_matrices(
    a: Sequence[Column], b: Sequence[Column], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """Return pairs of matrices in which each example's predictions were exchanged between two arms by a coin.

    Were the arms alike, an exchange would change nothing but chance (Fisher 1935; Noreen 1989, approximate
    randomisation). For a mean of examples this is the sign-flip test.

    Args:
        a: Columns of one arm.
        b: Columns of the other, of the same tasks and examples.
        seed: Decides the coins.
        resamples: How many pairs.

    Returns:
        Scores of both arms, each (resamples, steps, tasks); nan where a task was not evaluated.

    Raises:
        UsageError: The arms do not have the same tasks, steps and examples.
    """
    import numpy as np

    pairs = [_swapped_column(left, right, seed, resamples) for left, right in zip(a, b, strict=True)]
    return np.stack([pair[0] for pair in pairs], axis=2), np.stack([pair[1] for pair in pairs], axis=2)


def replicates(metric: MatrixMetric, matrices: Array) -> Array | None:
    """Return a metric of every resampled matrix; None where the metric is undefined.

    Args:
        metric: A function of `limpet.forgetting.metrics`.
        matrices: Resampled score matrices, (resamples, steps, tasks), nan where not evaluated.

    Returns:
        One value for each matrix, (resamples,).
    """
    import numpy as np

    # which cells are missing is the same in every matrix, so a metric is defined for all of them or for none
    values = [
        metric([[None if cell != cell else cell for cell in row] for row in matrix.tolist()]) for matrix in matrices
    ]
    known = [value for value in values if value is not None]
    return np.array(known, dtype=np.float64) if known else None


def percentile_interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval that holds the middle `level` of bootstrap replicates (Efron & Tibshirani 1993).

    Of differences between replicates that drew the same examples it is the paired interval. It is degenerate
    where every example agrees: a score of 1.0 has the interval [1.0, 1.0].
    """
    import numpy as np

    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def difference_p_value(observed: float, exchanged: Array) -> float:
    """Return the two-sided p-value of a difference under random exchange.

    The measured labelling counts as one of the exchanges, so the value is never 0 (Phipson & Smyth 2010).

    Args:
        observed: The measured difference.
        exchanged: Differences after exchange, (resamples,).
    """
    import numpy as np

    as_far = int(np.count_nonzero(np.abs(exchanged) >= abs(observed) - _ROUNDING))
    return (1 + as_far) / (1 + len(exchanged))


def mcnemar_exact(lost: int, gained: int) -> float:
    """Return the exact two-sided McNemar p-value of the same task before and after (McNemar 1947).

    Args:
        lost: Examples that were right and are wrong now.
        gained: Examples that were wrong and are right now.
    """
    from scipy.special import bdtr

    # Binomial(n, 1/2) is symmetric: both tails are alike, and where they meet they are everything
    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5)))


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return Student's t-interval of a mean over seeds; None for fewer than two.

    Args:
        values: One value for each seed.
        level: Coverage of the interval, in 0 to 1.
    """
    if len(values) < 2:
        return None
    import numpy as np
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    half = float(stdtrit(len(array) - 1, (1 + level) / 2) * array.std(ddof=1) / np.sqrt(len(array)))
    return float(array.mean()) - half, float(array.mean()) + half


def _bootstrap_column(column: Column, seed: int, resamples: int) -> Array:
    """Scores of each step on resampled examples: (resamples, steps), nan where not evaluated."""
    import numpy as np

    metric, counted, evaluated = _counted(column)
    examples = counted.shape[1]
    generator = _generator(seed, column.task)
    sums = []
    for size in _chunks(resamples, examples):
        drawn = generator.integers(0, examples, (size, examples)) + np.arange(size)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=size * examples).reshape(size, examples)
        sums.append(counts.astype(np.float64) @ counted.T)
    return _spread(column, _scores(metric, np.concatenate(sums), len(evaluated), examples), evaluated)


def _swapped_column(a: Column, b: Column, seed: int, resamples: int) -> tuple[Array, Array]:
    """Scores of each step of both arms after the exchange: (resamples, steps) each."""
    import numpy as np

    metric, left, evaluated = _counted(a)
    _, right, evaluated_too = _counted(b)
    if (a.task, a.targets, evaluated) != (b.task, b.targets, evaluated_too):
        raise UsageError(
            f"Two arms can't be compared on task {a.task!r}: their evaluated steps or examples differ.",
            "compare arms of one stream that are equally far",
        )
    examples = left.shape[1]
    generator = _generator(seed, a.task)
    kept = []
    for size in _chunks(resamples, examples):
        keep = generator.integers(0, 2, (size, examples)).astype(np.float64)
        kept.append(keep @ (left - right).T)
    sums = np.concatenate(kept) + right.sum(axis=1)
    other = left.sum(axis=1) + right.sum(axis=1) - sums
    first, second = (_scores(metric, part, len(evaluated), examples) for part in (sums, other))
    return _spread(a, first, evaluated), _spread(a, second, evaluated)


def _counted(column: Column) -> tuple[Metric, Array, tuple[int, ...]]:
    """What a score sums up, for each evaluated step: the metric, (steps * channels, examples), and those steps."""
    import numpy as np

    metric = find_metric(column.metric)
    if metric.counts is None:
        raise UsageError(f"The metric {column.metric!r} can't be resampled.", "score the task by another metric")
    evaluated = tuple(step for step, row in enumerate(column.predictions) if row is not None)
    rows = [row for row in column.predictions if row is not None]
    if not column.targets or any(len(row) != len(column.targets) for row in rows):
        raise UsageError(
            f"Task {column.task!r} needs one prediction for each of its examples, and at least one example.",
            "evaluate the task again",
        )
    if not rows:
        return metric, np.empty((0, len(column.targets))), evaluated
    # unchanged predictions are counted once: most steps of an isolated arm share theirs
    counts = {row: metric.counts(row, column.targets) for row in dict.fromkeys(rows)}
    return metric, np.concatenate([counts[row] for row in rows]), evaluated


def _scores(metric: Metric, sums: Array, steps: int, examples: int) -> Array:
    """Scores from summed counts: (resamples, steps * channels) to (resamples, steps)."""
    if not steps or metric.combine is None:
        return sums
    return metric.combine(sums.reshape(len(sums), steps, -1), examples)


def _spread(column: Column, scores: Array, evaluated: tuple[int, ...]) -> Array:
    """Put the scores of evaluated steps among all steps, nan elsewhere."""
    import numpy as np

    spread = np.full((len(scores), len(column.predictions)), np.nan)
    spread[:, list(evaluated)] = scores
    return spread


def _chunks(resamples: int, examples: int) -> Iterator[int]:
    at_once = max(1, _CHUNK // examples)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def _generator(seed: int, task: str) -> np.random.Generator:
    """A generator of its own for each task: the same for every arm, independent between tasks."""
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32(task.encode())])
