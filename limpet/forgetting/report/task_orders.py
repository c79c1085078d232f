"""The same arms on other orders of the tasks: reported apart, each as its own stream, and together."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.forgetting.metrics import intervals
from limpet.forgetting.report.arm_runs import OVER_SEEDS, Course
from limpet.forgetting.report.values import Order, OrderSummary

__all__ = ["over_orders"]


def over_orders(streams: Sequence[tuple[Order, Sequence[Course]]]) -> tuple[OrderSummary, ...]:
    """Return each arm's metrics over the orders in which it has learned every task, under the seed they share.

    Args:
        streams: Every order with its courses, the file's own first.
    """
    if len(streams) < 2:
        return ()
    names = list(dict.fromkeys(course.arm.name for _, courses in streams for course in courses))
    found = []
    for name in names:
        runs = _under_one_seed([(order, course) for order, courses in streams for course in courses], name)
        for key in OVER_SEEDS:
            known = [(order.stream, value) for order, run in runs if (value := run.metrics[key]) is not None]
            if len(known) > 1:
                values = tuple(value for _, value in known)
                mean, interval = sum(values) / len(values), intervals.t_interval(values)
                found.append(OrderSummary(name, key, tuple(stream for stream, _ in known), values, mean, interval))
    return tuple(found)


def _under_one_seed(runs: Sequence[tuple[Order, Course]], name: str) -> list[tuple[Order, Course]]:
    """The finished runs of an arm under the seed that has most of the orders, one for each order."""
    finished = [(order, course) for order, course in runs if course.arm.name == name and course.arm.finished]
    seeds = [course.arm.seed for _, course in finished]
    if not seeds:
        return []
    chosen = max(seeds, key=seeds.count)
    return [(order, course) for order, course in finished if course.arm.seed == chosen]
