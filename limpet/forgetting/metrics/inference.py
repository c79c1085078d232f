"""What may be concluded: tests with the luck of training in them, equality within a margin, several comparisons.

A report asks many questions: did an arm forget, did two arms end apart, did a task's answers flip, did general
ability change. Holm's correction of all of them together keeps the chance of any false finding at 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MARGIN", "SIGNIFICANT", "equality_p_value", "holm", "is_shown", "seeds_p_value"]

SIGNIFICANT = 0.05
MARGIN = 0.01
"""Arms are called as good as each other where their difference is shown to be smaller than one point."""

_ROUNDING = 1e-12


def is_shown(p_value: float | None) -> bool:
    """Tell whether a corrected p-value shows something."""
    return p_value is not None and p_value < SIGNIFICANT


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return p-values corrected for each other (Holm 1979); null where there was nothing to test.

    Args:
        p_values: All of a report; null does not count as a test.
    """
    ordered = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (value, place) in enumerate(ordered):
        # never below that of a smaller one
        highest = max(highest, min(1.0, value * (len(ordered) - rank)))
        corrected[place] = highest
    return tuple(corrected)


def seeds_p_value(values: Sequence[float], error: float) -> float | None:
    """Return the two-sided p-value of a mean over seeds being 0, with examples and the luck of training in it.

    The variance of the mean is the sum of both, and its degrees of freedom are those of the seeds alone, the fewest
    that they can be: Satterthwaite's (1946) find too much where two or three seeds happen to lie close together. Null
    for a single seed, which knows no luck.

    Args:
        values: The number under each seed.
        error: Standard error of their mean over evaluation examples.
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtr

    mean, spread, degrees = _moments(values, error)
    if spread <= _ROUNDING:
        return 1.0
    return min(1.0, 2 * float(stdtr(degrees, -abs(mean) / spread)))


def equality_p_value(values: Sequence[float], error: float, margin: float = MARGIN) -> float | None:
    """Return the p-value of a mean over seeds being as far from 0 as a margin (two one-sided tests, Schuirmann 1987).

    Below 0.05, the 90 % interval with examples and luck in it lies within the margin. Null for a single seed: nothing
    then says what another would have given.

    Args:
        values: The number under each seed.
        error: Standard error of their mean over evaluation examples.
        margin: How far from 0 still counts as equal.
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtr

    mean, spread, degrees = _moments(values, error)
    if spread <= _ROUNDING:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stdtr(degrees, (abs(mean) - margin) / spread))


def _moments(values: Sequence[float], error: float) -> tuple[float, float, int]:
    """Mean, its standard error, and the degrees of freedom of that."""
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    over_seeds = float(array.var(ddof=1)) / len(array)
    return float(array.mean()), (over_seeds + error * error) ** 0.5, len(array) - 1
