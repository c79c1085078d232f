"""How general ability is scored: metrics under the names that others give them, in the direction that is usual.

Perplexities are positive here, and lower is better; a task's own metrics are negated where that is so. Each is a sum
over examples, so that a change of it has a paired interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from limpet.training.metrics.metric import Metric, mean
from limpet.training.metrics.text import NEG_PERPLEXITY
from limpet.training.metrics.units import PERPLEXITY as UNIT_OF_PERPLEXITY
from limpet.training.metrics.units import SHARE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["AGGREGATIONS", "MEAN_VALUE", "NEG_BITS", "PERPLEXITY", "less_is_better", "scored_by"]

PERPLEXITY = "perplexity"
"""The one metric of limpet's own ability tasks of which less is better."""
AGGREGATIONS = {
    "acc": "mean",
    "acc_norm": "mean",
    "acc_bytes": "mean",
    "acc_mutual_info": "mean",
    "exact_match": "mean",
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
}
"""The metrics of lm-eval that are sums over examples, with what makes a score of them there."""


def _values(predictions: Sequence[float], targets: Sequence[Any]) -> Array:
    import numpy as np

    return np.array([list(predictions)], dtype=np.float64)


def _likelihoods(predictions: Sequence[Sequence[float]], targets: Sequence[Any]) -> Array:
    import numpy as np

    return np.array([list(pair) for pair in predictions], dtype=np.float64).T


def _neg_bits(sums: Array, examples: int) -> Array:
    bits: Array = sums[..., 0] / sums[..., 1] / math.log(2)
    return bits


MEAN_VALUE = Metric("mean-value", "mean of what each example was scored", _values, mean, unit=SHARE)
NEG_BITS = Metric(
    "neg-bits",
    "negated bits for each unit that the likelihoods are of, such as bytes",
    _likelihoods,
    _neg_bits,
    unit=UNIT_OF_PERPLEXITY,
)


_SCORED = {
    "mean": (MEAN_VALUE.name, 1.0),
    "perplexity": (NEG_PERPLEXITY.name, -1.0),
    "weighted_perplexity": (NEG_PERPLEXITY.name, -1.0),
    "bits_per_byte": (NEG_BITS.name, -1.0),
}


def scored_by(name: str) -> tuple[str, float]:
    """Return the name of the metric of which higher is better, and what its score is multiplied with.

    A task's own metrics are what they are called.
    """
    return _SCORED[AGGREGATIONS[name]] if name in AGGREGATIONS else (name, 1.0)


def less_is_better(name: str) -> bool:
    """Tell whether a smaller value is a better one."""
    return scored_by(name)[1] < 0
