"""Arms against each other, and each against itself when its tasks were learned: differences, and if by chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from limpet.forgetting import strategies
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.inference import MARGIN, equality_p_value, seeds_p_value
from limpet.forgetting.report.arm_runs import METRICS, SEED, ArmRunEvidence, by_arm
from limpet.forgetting.report.comparison_values import Comparison, Drift
from limpet.training.metrics.units import SHARE
from limpet.training.task_types import metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["compare", "drifts"]

_COMPARED = ("average_accuracy", "bwt_gem")
_EQUALITY = "average_accuracy"
_RESOLUTION = 40  # exchanges for each test, so that the smallest p-value outlives the correction

Measure = Callable[[Any], Any]
"""A metric of a score matrix, measured or resampled."""


def compare(arm_runs: Sequence[ArmRunEvidence], other_tests: int = 0) -> tuple[Comparison, ...]:
    """Compare every pair of arms that are equally far, the isolated arm first; nothing is corrected yet.

    With several seeds, a metric is averaged over the seeds that both arms have, in the measured matrices
    and in each resampled one alike; for a mean of examples that is the mean over seeds of each example. Where the
    tasks' scores have no common unit, each task is compared by itself.

    Args:
        arm_runs: Every arm under every seed.
        other_tests: How many other tests the report has, for which these will be corrected too.
    """
    arms = by_arm(arm_runs)
    order = sorted(arms, key=lambda name: arms[name][0].arm.strategy != "isolated")
    pairs = [comparable for a, b in combinations(order, 2) if (comparable := _pair(arms[a], arms[b])) is not None]
    tests = other_tests + sum(len(pair.measures) for pair in pairs)
    exchanges = max(intervals.EXCHANGES, _RESOLUTION * tests)
    return tuple(comparison for pair in pairs for comparison in _compare(pair, exchanges))


def drifts(arm_runs: Sequence[ArmRunEvidence]) -> tuple[Drift, ...]:
    """Return for every arm whether its earlier tasks changed since they were learned; nothing is corrected yet.

    That is by `bwt_gem`. Where it is undefined, an arm is left out, and so is one that others are measured against.
    """
    runs = (
        [run for run in same_arm if run.steps == max(other.steps for other in same_arm)]
        for same_arm in by_arm(arm_runs).values()
    )
    arm_drifts = (_drift(farthest) for farthest in runs if strategies.get(farthest[0].arm.strategy).measures is None)
    return tuple(drift for drift in arm_drifts if drift is not None)


@dataclass(frozen=True)
class _Pair:
    """The runs of two arms, seed by seed, and what they are compared by."""

    runs: tuple[tuple[ArmRunEvidence, ArmRunEvidence], ...]
    measures: tuple[tuple[str, Measure], ...]


def _pair(a: Sequence[ArmRunEvidence], b: Sequence[ArmRunEvidence]) -> _Pair | None:
    """The runs of two arms under the same seed that evaluated the same examples at the same steps."""
    others = {run.arm.seed: run for run in b}
    pairs = [(run, others[run.arm.seed]) for run in a if run.arm.seed in others]
    farthest = max((run.steps for pair in pairs for run in pair), default=0)
    runs = tuple((x, y) for x, y in pairs if x.steps == farthest and x.columns and _layout(x) == _layout(y))
    if not runs:
        return None
    first = runs[0][0]
    candidates: list[tuple[str, Measure]] = [(key, METRICS[key]) for key in _COMPARED]
    if first.no_mean:
        candidates = [
            (f"score:{task}", _score_of(place)) for place, task in enumerate(first.tasks[: len(first.learned)])
        ]
    defined = [
        (key, measure) for key, measure in candidates if all(measure(run.rows) is not None for run in sum(runs, ()))
    ]
    return _Pair(runs, tuple(defined))


def _score_of(place: int) -> Measure:
    return lambda rows: rows[-1][place]


def _compare(pair: _Pair, exchanges: int) -> list[Comparison]:
    sides = [intervals.swapped_matrices(x.columns, y.columns, SEED, resamples=exchanges) for x, y in pair.runs]
    comparisons = []
    for key, measure in pair.measures:
        values = [measure(x.rows) - measure(y.rows) for x, y in pair.runs]
        difference = sum(values) / len(values)
        resampled = _mean([measure(x.resampled) - measure(y.resampled) for x, y in pair.runs])
        exchanged = _mean([measure(first) - measure(second) for first, second in sides])
        error = float(resampled.std())
        equal = equality_p_value(values, error) if key == _EQUALITY and _in_shares(pair.runs[0][0]) else None
        comparison = Comparison(
            a=pair.runs[0][0].arm.name,
            b=pair.runs[0][1].arm.name,
            metric=key,
            difference=difference,
            interval=intervals.percentile_interval(resampled),
            p_value=intervals.difference_p_value(difference, exchanged),
            over_seeds=intervals.t_interval(values),
            seeds_p_value=seeds_p_value(values, error),
            margin=None if equal is None else MARGIN,
            equal_p_value=equal,
        )
        comparisons.append(comparison)
    return comparisons


def _drift(runs: Sequence[ArmRunEvidence]) -> Drift | None:
    values = [value for run in runs if (value := run.metrics["bwt_gem"]) is not None]
    exchanged = [_exchanged(run) for run in runs]
    defined = [one for one in exchanged if one is not None]
    resampled = [one for run in runs if run.columns and (one := run.resampled_metrics["bwt_gem"]) is not None]
    if not values or not len(values) == len(defined) == len(resampled) == len(runs):
        return None
    mean, replicates = sum(values) / len(values), _mean(resampled)
    return Drift(
        arm=runs[0].arm.name,
        seeds=tuple(run.arm.seed for run in runs),
        bwt_gem=mean,
        interval=intervals.percentile_interval(replicates),
        p_value=intervals.difference_p_value(mean, _mean(defined)),
        seeds_p_value=seeds_p_value(values, float(replicates.std())),
    )


def _exchanged(run: ArmRunEvidence) -> Array | None:
    """`bwt_gem` after answers when learned and now were exchanged by coins: (exchanges,)."""
    changes = [run.exchanged(task) for task in run.earlier]
    defined = [change for change in changes if change is not None]
    return _mean(defined) if defined and len(defined) == len(changes) else None


def _mean(values: Sequence[Array]) -> Array:
    import numpy as np

    mean: Array = np.mean(values, axis=0)
    return mean


def _in_shares(evidence: ArmRunEvidence) -> bool:
    return all(metric(column.metric).unit == SHARE for column in evidence.columns)


def _layout(evidence: ArmRunEvidence) -> list[tuple[str, tuple[Any, ...], list[bool]]]:
    return [
        (column.task, column.targets, [row is not None for row in column.predictions]) for column in evidence.columns
    ]
