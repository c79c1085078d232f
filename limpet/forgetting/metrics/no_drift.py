"""What `forgetting_max` is where nothing drifts: a maximum over noisy scores is above the last of them on average."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from limpet.forgetting.metrics.intervals import Column
from limpet.training.metrics.metric import Metric
from limpet.training.task_types import metric as find_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["PERMUTATIONS", "forgetting_max_null"]

PERMUTATIONS = 200

_CHUNK = 4_000_000  # numbers permuted at once: 32 MB


def forgetting_max_null(
    columns: Sequence[Column], learned: Sequence[int], seed: int = 0, *, permutations: int = PERMUTATIONS
) -> float | None:
    """Return the mean of `forgetting_max` after each example's answers were permuted over the steps.

    Were there no drift, the order of an example's answers would say nothing, and the permuted matrices would be as
    likely as the measured one (Fisher 1935). So this is what to hold `forgetting_max` against, and not 0.

    Args:
        columns: The tasks learned so far, example by example.
        learned: The step that learned each task first.
        seed: Decides the permutations.
        permutations: How many.

    Returns:
        Null where `forgetting_max` is undefined.
    """
    import numpy as np

    last = max((len(column.predictions) for column in columns), default=0) - 1
    terms = []
    for column, first in zip(columns, learned, strict=True):
        answers = column.predictions[first:]
        if first >= last:
            continue
        known = [row for row in answers if row is not None]
        if len(known) < len(answers):
            return None
        scores = _permuted_scores(
            column, known, np.random.default_rng([seed, zlib.crc32(column.task.encode())]), permutations=permutations
        )
        terms.append(scores[:, :-1].max(axis=1) - scores[:, -1])
    return float(np.mean(terms)) if terms else None


def _permuted_scores(
    column: Column, rows: Sequence[tuple[object, ...]], generator: np.random.Generator, *, permutations: int
) -> Array:
    """Scores of each step after the permutation, (permutations, steps); 0 where no answer ever changes."""
    import numpy as np

    metric = find_metric(column.metric)
    assert metric.counts is not None
    # a task that nothing changes has the same answers after every step, read once
    counted = {id(row): metric.counts(row, column.targets) for row in {id(row): row for row in rows}.values()}
    if len(counted) == 1:
        return np.zeros((permutations, len(rows)))
    counts = np.stack([counted[id(row)] for row in rows])
    changing = (counts != counts[0]).any(axis=(0, 1))
    moved, steps = counts[:, :, changing], len(rows)
    # what an example counts in every step is the same in any order
    kept = counts[0][:, ~changing].sum(axis=1)
    sums = np.empty((permutations, steps, counts.shape[1]))
    at_once = max(1, _CHUNK // max(1, moved.size))
    for start in range(0, permutations, at_once):
        size = min(at_once, permutations - start)
        order = generator.random((size, steps, 1, moved.shape[2])).argsort(axis=1)
        sums[start : start + size] = np.take_along_axis(moved[None], order, axis=1).sum(axis=3) + kept
    return _combined(metric, sums, len(column.targets))


def _combined(metric: Metric, sums: Array, examples: int) -> Array:
    assert metric.combine is not None
    return metric.combine(sums, examples)
