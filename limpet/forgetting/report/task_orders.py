"""The same arms on other orders of the tasks: reported apart, each as its own stream, and together."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.forgetting.metrics import intervals
from limpet.forgetting.report.arm_runs import ArmRunEvidence
from limpet.forgetting.report.comparison_values import Order, OrderSummary
from limpet.forgetting.report.seed_means import OVER_SEEDS

__all__ = ["over_orders"]


def over_orders(streams: Sequence[tuple[Order, Sequence[ArmRunEvidence]]]) -> tuple[OrderSummary, ...]:
    """Return each arm's metrics over the orders in which it has learned every task, under the seed they share.

    Args:
        streams: Every order with its arm runs, the file's own first.
    """
    if len(streams) < 2:
        return ()
    names = list(dict.fromkeys(evidence.arm.name for _, arm_runs in streams for evidence in arm_runs))
    found = []
    for name in names:
        runs = _under_one_seed([(order, evidence) for order, arm_runs in streams for evidence in arm_runs], name)
        for key in OVER_SEEDS:
            known = [(order.stream, value) for order, run in runs if (value := run.metrics[key]) is not None]
            if len(known) > 1:
                values = tuple(value for _, value in known)
                mean, interval = sum(values) / len(values), intervals.t_interval(values)
                found.append(OrderSummary(name, key, tuple(stream for stream, _ in known), values, mean, interval))
    return tuple(found)


def _under_one_seed(runs: Sequence[tuple[Order, ArmRunEvidence]], name: str) -> list[tuple[Order, ArmRunEvidence]]:
    """The finished runs of an arm under the seed that has most of the orders, one for each order."""
    finished = [(order, evidence) for order, evidence in runs if evidence.arm.name == name and evidence.arm.finished]
    seeds = [evidence.arm.seed for _, evidence in finished]
    if not seeds:
        return []
    chosen = max(seeds, key=seeds.count)
    return [(order, evidence) for order, evidence in finished if evidence.arm.seed == chosen]
