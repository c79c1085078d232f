"""Types of task, one module each, found by their presence in this folder.

A type knows its data, its metrics and its head; nothing outside its module names it. A module whose name does not
begin with `_` offers `TASK_TYPE`. None of them imports torch: a type's head is imported when it is asked for.
"""

from limpet.training.task_types._answers import ANSWER, AnswerColumn, AnswerForm
from limpet.training.task_types._base import TaskType, metric_family
from limpet.training.task_types._discovery import every, names, task_type
from limpet.training.task_types._scoring import metric, no_common_unit, score, unit_key

__all__ = [
    "ANSWER",
    "AnswerColumn",
    "AnswerForm",
    "TaskType",
    "every",
    "metric",
    "metric_family",
    "names",
    "no_common_unit",
    "score",
    "task_type",
    "unit_key",
]
