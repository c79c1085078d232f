"""Each arm over its seeds, and over the orders of the tasks: means of its metrics, with t-intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from limpet.forgetting.metrics import intervals
from limpet.forgetting.report.arm_runs import ArmRunEvidence, by_arm
from limpet.forgetting.report.comparison_values import Order, OrderSummary, SeedSummary

__all__ = ["over_orders", "over_seeds"]

_TOLD = (
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
        for key in _TOLD:
            values = _all_known(run.metrics[key] for run in equal)
            if values:
                seeds = tuple(run.arm.seed for run in equal)
                mean = sum(values) / len(values)
                summaries.append(SeedSummary(name, key, seeds, mean, intervals.t_interval(values)))
    return tuple(summaries)


def over_orders(streams: Sequence[tuple[Order, Sequence[ArmRunEvidence]]]) -> tuple[OrderSummary, ...]:
    """Return each arm's metrics over the orders in which it has learned every task, under the seed they share.

    Args:
        streams: Every order with its arm runs, the file's own first.
    """
    if len(streams) < 2:
        return ()
    names = list(dict.fromkeys(evidence.arm.name for _, arm_runs in streams for evidence in arm_runs))
    summaries = []
    for name in names:
        runs = _under_one_seed([(order, evidence) for order, arm_runs in streams for evidence in arm_runs], name)
        for key in _TOLD:
            measured = [(order.stream, value) for order, run in runs if (value := run.metrics[key]) is not None]
            if len(measured) > 1:
                values = tuple(value for _, value in measured)
                mean, interval = sum(values) / len(values), intervals.t_interval(values)
                summaries.append(
                    OrderSummary(name, key, tuple(stream for stream, _ in measured), values, mean, interval)
                )
    return tuple(summaries)


def _under_one_seed(runs: Sequence[tuple[Order, ArmRunEvidence]], name: str) -> list[tuple[Order, ArmRunEvidence]]:
    """The finished runs of an arm under the seed that has most of the orders, one for each order."""
    finished = [(order, evidence) for order, evidence in runs if evidence.arm.name == name and evidence.arm.finished]
    seeds = [evidence.arm.seed for _, evidence in finished]
    if not seeds:
        return []
    chosen = max(seeds, key=seeds.count)
    return [(order, evidence) for order, evidence in finished if evidence.arm.seed == chosen]


def _all_known(values: Iterable[float | None]) -> list[float]:
    """Return the values; none of them where one is missing."""
    listed = list(values)
    defined = [value for value in listed if value is not None]
    return defined if len(defined) == len(listed) else []
