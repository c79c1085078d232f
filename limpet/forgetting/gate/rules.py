"""The gate: the rules that say whether an addition may be promoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from limpet.argument_types import check_fields

__all__ = ["GateRules", "TaskRules"]


@dataclass(frozen=True)
class TaskRules:
    """Limits of one task, which win over those of all tasks; a rule that is None does not apply.

    Args:
        max_forgetting: The most that the task may have lost: the task's own term of `forgetting_max`.
        max_negative_flips: The most that its `negative_flip_rate` may be.
        min_score: The least that its score may be now.
    """

    max_forgetting: float | None = None
    max_negative_flips: float | None = None
    min_score: float | None = None


@dataclass(frozen=True)
class GateRules:
    """What an addition may cost; a rule that is None or False does not apply.

    Args:
        max_forgetting: The most `forgetting_max` allowed, the mean over earlier tasks.
        max_worst: The most `worst_forgetting` allowed, the loss of a single earlier task.
        require_identical: Whether every earlier prediction must be exactly what it was.
        max_negative_flips: The most `negative_flip_rate` allowed for any earlier task.
        min_score: The least score allowed now for any task.
        max_bytes: The most bytes that any version may have.
        max_train_seconds: The longest that any task may have trained.
        max_share: The largest share of the base's parameters that may have been trained for a task.
        tasks: Limits of single tasks.
    """

    max_forgetting: float | None = None
    max_worst: float | None = None
    require_identical: bool = False
    max_negative_flips: float | None = None
    min_score: float | None = None
    max_bytes: float | None = None
    max_train_seconds: float | None = None
    max_share: float | None = None
    tasks: Mapping[str, TaskRules] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the types.

        Raises:
            UsageError: A limit is no number.
        """
        check_fields(self)

    def of(self, task: str) -> TaskRules:
        """Return the limits of one task; its own `max_forgetting` has no default, for that of all is a mean."""
        own = self.tasks.get(task, TaskRules())
        return TaskRules(
            own.max_forgetting,
            self.max_negative_flips if own.max_negative_flips is None else own.max_negative_flips,
            self.min_score if own.min_score is None else own.min_score,
        )
