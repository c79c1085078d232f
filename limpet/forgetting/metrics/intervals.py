"""Intervals and p-values: how far a number may be chance.

Everything resamples evaluation examples, task by task (stratified), and is decided by its seed. The same
seed draws the same examples of a task for every arm and every step, which is what makes differences paired.
A metric of the matrix is computed on resampled matrices by the very function that computes it on the
measured one, on all of them at once: their cells are arrays. Steps that predict the same share one array, so that
an arm that forgets nothing takes no more than its tasks do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from limpet.errors import UsageError
from limpet.forgetting.metrics.forgetting import Rows
from limpet.training.metrics.metric import Metric
from limpet.training.task_types import metric as find_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "EXCHANGES",
    "LEVEL",
    "RESAMPLES",
    "Column",
    "Interval",
    "MatrixMetric",
    "Resampled",
    "bootstrap_matrices",
    "difference_p_value",
    "exchanged_changes",
    "mcnemar_exact",
    "percentile_interval",
    "replicates",
    "score_interval",
    "swapped_matrices",
    "t_interval",
]

RESAMPLES = 2000
EXCHANGES = 10_000
"""More than resamples: the smallest p-value that they can give has to outlive the correction for many others."""
LEVEL = 0.95

_CHUNK = 4_000_000  # resampled examples held at once: 32 MB
_ROUNDING = 1e-12

Interval = tuple[float, float]
"""The lower and the upper end."""
MatrixMetric = Callable[[Rows], float | None]
Resampled: TypeAlias = "tuple[tuple[Array | None, ...], ...]"
"""Resampled score matrices, row by row: the scores of each cell, (resamples,), None where it was not evaluated."""


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
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
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
    (drawn,) = _bootstrap_column(column, seed, resamples)
    assert drawn is not None
    return percentile_interval(drawn, level)


def bootstrap_matrices(columns: Sequence[Column], seed: int = 0, resamples: int = RESAMPLES) -> Resampled:
    """Return score matrices of resampled examples, each task resampled on its own (Efron & Tibshirani 1993).

    One draw of a task's examples fills its whole column, so steps stay paired within a matrix; the same seed
    draws the same examples for another arm, so arms stay paired too.

    Args:
        columns: The tasks learned so far, as many as there are steps.
        seed: Decides which examples are drawn.
        resamples: How many matrices.

    Raises:
        UsageError: As for `score_interval`.
    """
    return _rows([_bootstrap_column(column, seed, resamples) for column in columns])


def swapped_matrices(
    a: Sequence[Column], b: Sequence[Column], seed: int = 0, *, resamples: int = RESAMPLES
) -> tuple[Resampled, Resampled]:
    """Return pairs of matrices in which each example's predictions were exchanged between two arms by a coin.

    Were the arms alike, an exchange would change nothing but chance (Fisher 1935; Noreen 1989, approximate
    randomisation). For a mean of examples this is the sign-flip test.

    Args:
        a: Columns of one arm.
        b: Columns of the other, of the same tasks and examples.
        seed: Decides the coins.
        resamples: How many pairs.

    Raises:
        UsageError: The arms do not have the same tasks, steps and examples.
    """
    pairs = [_swapped_column(left, right, seed, resamples=resamples) for left, right in zip(a, b, strict=True)]
    return _rows([pair[0] for pair in pairs]), _rows([pair[1] for pair in pairs])


def exchanged_changes(column: Column, before: int, now: int, *, seed: int = 0, exchanges: int = EXCHANGES) -> Array:
    """Return changes of a score after each example's answers of two steps were exchanged by a coin.

    Had nothing happened between the steps, an exchange would change nothing but chance (Fisher 1935; Noreen 1989).

    Args:
        column: The task, evaluated at both steps.
        before: The earlier step.
        now: The later one.
        seed: Decides the coins: the same for every arm and seed that answers these examples.
        exchanges: How many.

    Returns:
        The score of the later step less that of the earlier one, (exchanges,).

    Raises:
        UsageError: A step was not evaluated, or as for `score_interval`.
    """
    two = [replace(column, predictions=(column.predictions[step],)) for step in (before, now)]
    (earlier,), (later,) = _swapped_column(two[0], two[1], seed, resamples=exchanges)
    if earlier is None or later is None:
        raise UsageError(f"Task {column.task!r} was not evaluated at both steps.", "evaluate the task again")
    return later - earlier


def replicates(metric: MatrixMetric, matrices: Resampled) -> Array | None:
    """Return a metric of every resampled matrix; None where the metric is undefined.

    Args:
        metric: A function of `limpet.forgetting.metrics.forgetting` that takes arrays.
        matrices: Resampled score matrices.

    Returns:
        One value for each matrix, (resamples,).
    """
    return cast("Array | None", metric(cast(Rows, matrices)))


def percentile_interval(values: Array, level: float = LEVEL) -> Interval:
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


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
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


def _rows(columns: Sequence[Sequence[Array | None]]) -> Resampled:
    return tuple(zip(*columns, strict=True))


def _bootstrap_column(column: Column, seed: int, resamples: int) -> list[Array | None]:
    """Scores on resampled examples after each step, (resamples,) each; None where not evaluated."""
    import numpy as np

    metric, evaluated = _evaluated(column)
    examples, places = len(column.targets), _places(evaluated)
    if not places:
        return [None] * len(column.predictions)
    counted = _counted(metric, places, column.targets)
    generator = _generator(seed, column.task)
    sums = []
    for size in _chunks(resamples, examples):
        drawn = generator.integers(0, examples, (size, examples)) + np.arange(size)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=size * examples).reshape(size, examples)
        sums.append(counts.astype(np.float64) @ counted.T)
    scores = _scores(metric, np.concatenate(sums), len(places), examples=examples)
    return [None if row is None else scores[places[row]] for row in column.predictions]


def _swapped_column(
    a: Column, b: Column, seed: int, *, resamples: int
) -> tuple[list[Array | None], list[Array | None]]:
    """Scores of each step of both arms after the exchange, (resamples,) each; None where not evaluated."""
    import numpy as np

    metric, left = _evaluated(a)
    _, right = _evaluated(b)
    layouts = [[row is not None for row in column.predictions] for column in (a, b)]
    if (a.task, a.targets, layouts[0]) != (b.task, b.targets, layouts[1]):
        raise UsageError(
            f"Two arms can't be compared on task {a.task!r}: their evaluated steps or examples differ.",
            "compare arms of one stream that are equally far",
        )
    examples, places = len(a.targets), _places(list(zip(left, right, strict=True)))
    if not places:
        return [None] * len(layouts[0]), [None] * len(layouts[0])
    ours, theirs = (_counted(metric, [pair[side] for pair in places], a.targets) for side in (0, 1))
    # where both say the same, an exchange changes nothing
    moving = np.flatnonzero((ours != theirs).any(axis=0))
    generator, differences = _generator(seed, a.task), (ours - theirs)[:, moving].T
    sizes = _chunks(resamples, examples)
    kept = [_coins(generator, size, examples)[:, moving].astype(np.float64) @ differences for size in sizes]
    sums = np.concatenate(kept) + theirs.sum(axis=1)
    other = ours.sum(axis=1) + theirs.sum(axis=1) - sums
    first, second = (_scores(metric, part, len(places), examples=examples) for part in (sums, other))
    pairs = zip(a.predictions, b.predictions, strict=True)
    found = [None if row is None or its is None else places[row, its] for row, its in pairs]
    swapped = [[None if place is None else scores[place] for place in found] for scores in (first, second)]
    return swapped[0], swapped[1]


def _coins(generator: np.random.Generator, size: int, examples: int) -> NDArray[np.uint8]:
    """Coins for all examples, whichever differ between two arms: (size, examples) of 0 and 1."""
    import numpy as np

    packed = np.frombuffer(generator.bytes(size * -(-examples // 8)), dtype=np.uint8).reshape(size, -1)
    return np.unpackbits(packed, axis=1)[:, :examples]


def _evaluated(column: Column) -> tuple[Metric, list[tuple[Any, ...]]]:
    """The metric, and the predictions of the evaluated steps, where a score of them can be resampled."""
    metric = find_metric(column.metric)
    if metric.counts is None:
        raise UsageError(f"The metric {column.metric!r} can't be resampled.", "score the task by another metric")
    rows = [row for row in column.predictions if row is not None]
    if not column.targets or any(len(row) != len(column.targets) for row in rows):
        raise UsageError(
            f"Task {column.task!r} needs one prediction for each of its examples, and at least one example.",
            "evaluate the task again",
        )
    return metric, rows


def _places(rows: Sequence[Any]) -> dict[Any, int]:
    """Number what is there, each once: most steps of an isolated arm share their predictions."""
    return {row: place for place, row in enumerate(dict.fromkeys(rows))}


def _counted(metric: Metric, rows: Iterable[tuple[Any, ...]], targets: tuple[Any, ...]) -> Array:
    """What a score sums up, for each of `rows`: (rows * channels, examples)."""
    import numpy as np

    assert metric.counts is not None
    return np.concatenate([metric.counts(row, targets) for row in rows])


def _scores(metric: Metric, sums: Array, steps: int, *, examples: int) -> Array:
    """Scores from summed counts: (resamples, steps * channels) to (steps, resamples)."""
    import numpy as np

    scores = sums if metric.combine is None else metric.combine(sums.reshape(len(sums), steps, -1), examples)
    return np.ascontiguousarray(scores.T)


def _chunks(resamples: int, examples: int) -> Iterator[int]:
    at_once = max(1, _CHUNK // examples)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def _generator(seed: int, task: str) -> np.random.Generator:
    """A generator of its own for each task: the same for every arm, independent between tasks."""
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32(task.encode())])
