"""How near predicted numbers come to the true ones: correlations and errors, higher is better.

Sums are of numbers less the mean target, which no correlation depends on: a large offset would take their digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from limpet.training.metrics.metric import Metric
from limpet.training.metrics.units import CORRELATION, EXPLAINED, TARGETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["NEG_MAE", "NEG_RMSE", "PEARSON", "R2", "SPEARMAN"]

_ROUNDING = 1e-12


def _moments(predictions: Sequence[float], targets: Sequence[float]) -> Array:
    """Both numbers, their squares and their product: (5, examples)."""
    import numpy as np

    y = np.asarray(targets, dtype=np.float64)
    x = np.asarray(predictions, dtype=np.float64) - y.mean()
    y = y - y.mean()
    return np.stack([x, y, x * x, y * y, x * y])


def _correlation(sums: Array, examples: int) -> Array:
    """Pearson's r of sums (..., 5), and 0 where either side is constant."""
    import numpy as np

    x, y, xx, yy, xy = np.moveaxis(sums / examples, -1, 0)
    spread_x, spread_y = xx - x * x, yy - y * y
    known = (spread_x > _ROUNDING * xx) & (spread_y > _ROUNDING * yy)
    scale = np.sqrt(np.where(known, spread_x * spread_y, 1.0))
    values: Array = np.where(known, (xy - x * y) / scale, 0.0)
    return np.clip(values, -1.0, 1.0)


def _ranks(values: Sequence[float]) -> Array:
    """Ranks from 1; equal values share the mean of theirs: (examples,)."""
    import numpy as np
    from scipy.stats import rankdata

    ranks: Array = np.asarray(rankdata(values), dtype=np.float64)
    return ranks


def _of_ranks(predictions: Sequence[float], targets: Sequence[float]) -> float:
    ranked = _moments(_ranks(predictions).tolist(), _ranks(targets).tolist())
    return float(_correlation(ranked.sum(axis=1), len(targets)))


def _squares(predictions: Sequence[float], targets: Sequence[float]) -> Array:
    """Squared errors: (1, examples)."""
    import numpy as np

    return np.square(np.asarray([predictions], dtype=np.float64) - np.asarray(targets, dtype=np.float64))


def _root(sums: Array, examples: int) -> Array:
    import numpy as np

    root: Array = np.sqrt(sums[..., 0] / examples)
    return -root


def _distances(predictions: Sequence[float], targets: Sequence[float]) -> Array:
    """Absolute errors: (1, examples)."""
    import numpy as np

    return np.abs(np.asarray([predictions], dtype=np.float64) - np.asarray(targets, dtype=np.float64))


def _negated_mean(sums: Array, examples: int) -> Array:
    return -sums[..., 0] / examples


def _squares_and_targets(predictions: Sequence[float], targets: Sequence[float]) -> Array:
    """Squared errors, targets less their mean, and their squares: (3, examples)."""
    import numpy as np

    y = np.asarray(targets, dtype=np.float64)
    return np.concatenate([_squares(predictions, targets), [y - y.mean()], [np.square(y - y.mean())]])


def _explained(sums: Array, examples: int) -> Array:
    """1 - SSE / SST of sums (..., 3), and 0 where the targets are constant."""
    import numpy as np

    errors, y, yy = np.moveaxis(sums / examples, -1, 0)
    spread = yy - y * y
    known = spread > _ROUNDING * yy
    values: Array = np.where(known, 1.0 - errors / np.where(known, spread, 1.0), 0.0)
    return values


PEARSON = Metric(
    "pearson",
    "Pearson's correlation of predictions and targets, in -1 to 1; 0 where either is constant (Pearson 1895)",
    _moments,
    _correlation,
    unit=CORRELATION,
)
SPEARMAN = Metric(
    "spearman",
    "Pearson's correlation of the ranks, equal values sharing the mean of theirs, in -1 to 1; 0 where either is "
    "constant (Spearman 1904); ranks are no sums over examples, so it has no interval",
    None,
    None,
    whole=_of_ranks,
    unit=CORRELATION,
)
NEG_RMSE = Metric(
    "neg-rmse",
    "the root of the mean squared error, negated; in the unit of the targets, at most 0",
    _squares,
    _root,
    unit=TARGETS,
)
NEG_MAE = Metric(
    "neg-mae",
    "the mean absolute error, negated; in the unit of the targets, at most 0",
    _distances,
    _negated_mean,
    unit=TARGETS,
)
R2 = Metric(
    "r2",
    "share of the targets' variance that the predictions explain, 1 - SSE / SST, at most 1; 0 where the targets are "
    "constant",
    _squares_and_targets,
    _explained,
    unit=EXPLAINED,
)
