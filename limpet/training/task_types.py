"""What kinds of tasks there are: their metrics, their target column, and how a target is stored.

A task type is one entry of `TASK_TYPES`; the code that reads and splits data asks it and names no type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limpet.errors import DataError, UsageError

__all__ = ["TASK_TYPES", "TaskType", "task_type"]


@dataclass(frozen=True)
class TaskType:
    """One kind of task.

    `read` turns a cell of the target column into a plain target; null where the cell is empty. `encode` turns
    a plain target into the value that a split stores under `key`, given the task's labels. `labelled` types
    have a label map, and their splits are stratified by target.
    """

    name: str
    metrics: tuple[str, ...]
    default_metric: str
    target_columns: tuple[str, ...]
    key: str
    labelled: bool
    read: Callable[[Any], str | None]
    encode: Callable[[str, tuple[str, ...]], Any]

    def metric(self, name: str | None) -> str:
        """Return the metric called `name`, or the default one for null.

        Raises:
            UsageError: This type of task isn't scored by that metric.
        """
        if name is None:
            return self.default_metric
        if name not in self.metrics:
            raise UsageError(
                f"{name!r} is not a metric of {self.name} tasks: those are {', '.join(self.metrics)}.",
                f"--metric {self.default_metric}",
            )
        return name


def _read_label(value: Any) -> str | None:
    """Return a class label as text: `3`, `3.0` and `"3"` are the same label."""
    if value is None:
        return None
    if isinstance(value, float):
        if value != value:  # NaN is how a missing number arrives
            return None
        if not value.is_integer():
            raise DataError(
                f"The label {value!r} is a fraction, and classes are names or whole numbers.",
                "name another column with --label COL",
            )
        value = int(value)
    if not isinstance(value, (str, int)):
        raise DataError(
            f"A label is a {type(value).__name__} ({str(value)[:60]!r}), not one name or number.",
            "name another column with --label COL",
        )
    return str(value).strip() or None


def _encode_label(label: str, labels: tuple[str, ...]) -> int:
    return labels.index(label)


TASK_TYPES: dict[str, TaskType] = {
    "classification": TaskType(
        name="classification",
        metrics=("accuracy", "macro-f1"),
        default_metric="accuracy",
        target_columns=("label", "labels", "category", "class", "target"),
        key="label",
        labelled=True,
        read=_read_label,
        encode=_encode_label,
    ),
}
"""Every type of task that works, by name."""


def task_type(name: str) -> TaskType:
    """Return the task type called `name`.

    Raises:
        UsageError: No such type works.
    """
    if name not in TASK_TYPES:
        raise UsageError(
            f"Tasks of type {name!r} are not available; the types that work are: {', '.join(TASK_TYPES)}.",
            f"--type {next(iter(TASK_TYPES))}",
        )
    return TASK_TYPES[name]
