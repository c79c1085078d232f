"""Scores of predictions against targets, each made of sums over examples; higher is better.

A metric counts something in every example, and combines the sums of these counts into a score. Resampling examples
is then nothing but another sum, so an interval is computed by the very two functions that computed the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from limpet.training.metrics.units import SHARE, Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "ACCURACY",
    "MACRO_F1",
    "Metric",
    "equal",
    "exact",
    "f1",
    "mean",
]


@dataclass(frozen=True)
class Metric:
    """One way to score predictions; higher is better.

    Args:
        name: What users call it.
        definition: What it is, with its range and its source; reports print it.
        counts: Predictions and targets to float64 (channels, examples). How many channels there are is decided by
            the targets alone.
        combine: Sums of the counts (..., channels) and the number of examples to scores (...).
        is_correct: Tells a right prediction from a wrong one; null where the metric knows no right and wrong.
        whole: The score of predictions and targets, where it is no sum over examples; `counts` and `combine` are
            null then, and the score has no interval.
        is_readable: Tells a text that can be scored from one that scores nothing whatever was wanted, such as one
        that
            is no JSON; null where every one can. Targets must be readable.
        unit: What the score is counted in, with its range; only scores of one unit have a mean over tasks.
    """

    name: str
    definition: str
    counts: Callable[[Sequence[Any], Sequence[Any]], Array] | None
    combine: Callable[[Array, int], Array] | None
    is_correct: Callable[[Any, Any], bool] | None = None
    whole: Callable[[Sequence[Any], Sequence[Any]], float] | None = None
    _: KW_ONLY
    is_readable: Callable[[Any], bool] | None = None
    unit: Unit

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
        """Return the score of `predictions`, one for each target."""
        if self.counts is not None and self.combine is not None:
            return float(self.combine(self.counts(predictions, targets).sum(axis=1), len(targets)))
        assert self.whole is not None
        return self.whole(predictions, targets)


def equal(prediction: object, target: object) -> bool:
    """Tell whether a prediction is the target."""
    return bool(prediction == target)


def mean(sums: Array, examples: int) -> Array:
    """Combine one channel into its mean: sums (..., 1) to (...)."""
    return sums[..., 0] / examples


def f1(true_positive: Array, wrong: Array) -> Array:
    """F1 = 2 TP / (2 TP + FP + FN), and 0 where all of them are 0 (van Rijsbergen 1979)."""
    import numpy as np

    whole = 2 * true_positive + wrong
    return np.divide(2 * true_positive, whole, out=np.zeros_like(whole), where=whole > 0)


def exact(predictions: Sequence[Any], targets: Sequence[Any]) -> Array:
    """Count the examples whose prediction is the target: (1, examples)."""
    import numpy as np

    pairs = zip(predictions, targets, strict=True)
    return np.array([[a == b for a, b in pairs]], dtype=np.float64)


def _count_labels(predictions: Sequence[Any], targets: Sequence[Any]) -> Array:
    """For each label of the targets: true positive, wrong (FP or FN), present; (3 * labels, examples).

    An example has one label id, or several.
    """
    import numpy as np

    wanted, given = ([one if isinstance(one, tuple) else (one,) for one in side] for side in (targets, predictions))
    labels = sorted({label for ids in wanted for label in ids})
    present = np.array([[label in ids for ids in wanted] for label in labels], dtype=bool).reshape(-1, len(wanted))
    predicted = np.array([[label in ids for ids in given] for label in labels], dtype=bool).reshape(-1, len(given))
    channels = np.concatenate([predicted & present, predicted != present, present])
    return channels.astype(np.float64)


def _over_labels(sums: Array, examples: int) -> Array:
    """Unweighted mean of the F1 of every label that occurs: sums (..., 3 * labels) to (...)."""
    import numpy as np

    true_positive, wrong, present = np.split(sums, 3, axis=-1)
    occurs = present > 0
    total: Array = np.where(occurs, f1(true_positive, wrong), 0.0).sum(axis=-1)
    labels: Array = occurs.sum(axis=-1)
    scores: Array = np.divide(total, labels, out=np.zeros_like(total), where=labels > 0)
    return scores


ACCURACY = Metric(
    "accuracy",
    "share of the examples whose prediction is the target, in 0 to 1",
    exact,
    mean,
    is_correct=equal,
    unit=SHARE,
)
MACRO_F1 = Metric(
    "macro-f1",
    "unweighted mean of the F1 of every label that occurs in the targets, in 0 to 1; "
    "F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979)",
    _count_labels,
    _over_labels,
    is_correct=equal,
    unit=SHARE,
)
