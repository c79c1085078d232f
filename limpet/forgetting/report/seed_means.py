"""Each arm over its seeds: means of its metrics, with t-intervals where there are several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from limpet.forgetting.metrics import intervals
from limpet.forgetting.report.arm_runs import ArmRunEvidence, by_arm
from limpet.forgetting.report.comparison_values import SeedSummary

__all__ = ["OVER_SEEDS", "over_seeds"]

OVER_SEEDS = (
    *("average_accuracy", "learning_accuracy", "bwt_gem", "forgetting_max", "forgetting_max_null"),
    *("fwt_gem", "intransigence"),
)
"""The metrics that are told over seeds and over orders."""


def over_seeds(arm_runs: Sequence[ArmRunEvidence]) -> tuple[SeedSummary, ...]:
    """Return each arm's mean over its seeds, with a t-interval where there are several."""
    summaries = []
    for name, runs in by_arm(arm_runs).items():
        farthest = max(run.steps for run in runs)
        equal = [run for run in runs if run.steps == farthest]
        for key in OVER_SEEDS:
            values = _all_known(run.metrics[key] for run in equal)
            if values:
                seeds = tuple(run.arm.seed for run in equal)
                mean = sum(values) / len(values)
                summaries.append(SeedSummary(name, key, seeds, mean, intervals.t_interval(values)))
    return tuple(summaries)


def _all_known(values: Iterable[float | None]) -> list[float]:
    """Return the values; none of them where one is missing."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return known if len(known) == len(listed) else []
