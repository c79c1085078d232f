"""Scores by the name of a metric, whichever type of task has it; and whether several have a common unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limpet.errors import UsageError
from limpet.training.metrics.ability import MEAN_VALUE, NEG_BITS
from limpet.training.metrics.metric import Metric
from limpet.training.task_types._discovery import every

__all__ = ["metric", "no_common_unit", "score", "unit_key"]

_OF_ABILITY = {one.name: one for one in (MEAN_VALUE, NEG_BITS)}


def metric(name: str) -> Metric:
    """Return the metric of that name, whichever type of task has it or had it, or general ability is scored by.

    Raises:
        UsageError: There is no such metric.
    """
    metrics = {one.name: one for kind in every() for one in (*kind.metrics, *kind.former_metrics)}
    if name in _OF_ABILITY:
        return _OF_ABILITY[name]
    if name not in metrics:
        raise UsageError(f"There is no metric {name!r}.", f"choose one of {', '.join(sorted(metrics))}")
    return metrics[name]


def score(name: str, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """Score `predictions` by the metric of that name.

    Raises:
        UsageError: There is no such metric.
    """
    return metric(name).score(predictions, targets)


def unit_key(task: str, name: str) -> str:
    """Return what the scores of two tasks must agree in to have a mean.

    Args:
        task: The task's name.
        name: That of its metric.

    Raises:
        UsageError: There is no such metric.
    """
    unit = metric(name).unit
    return f"{name} of {task}" if unit.of_task else unit.name


def no_common_unit(metrics: Mapping[str, str]) -> str | None:
    """Return why the scores of some tasks have no mean; null where they have a common unit.

    Args:
        metrics: The metric of each task by the task's name.

    Raises:
        UsageError: There is no such metric.
    """
    of_each_unit: dict[str, str] = {}
    for task, name in metrics.items():
        of_each_unit.setdefault(unit_key(task, name), task)
    if len(of_each_unit) < 2:
        return None
    scored = ", ".join(f"{task} is scored by {metrics[task]}" for task in list(of_each_unit.values())[:3])
    return f"no common unit: {scored}"
