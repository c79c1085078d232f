"""Regression: one number for each text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsFloat

from limpet.errors import DataError
from limpet.registry.formats.json_values import JsonValue
from limpet.training.batching.examples import Text
from limpet.training.metrics.regression import NEG_MAE, NEG_RMSE, PEARSON, R2, SPEARMAN
from limpet.training.task_types._answers import ANSWER, AnswerColumn, AnswerForm
from limpet.training.task_types._base import TaskType

if TYPE_CHECKING:
    from limpet.training.heads.base import Head
    from limpet.training.heads.regression import NumberPrediction

__all__ = ["TASK_TYPE", "Regression"]


class Regression(TaskType[float]):
    """A target is a number, in whatever unit the data has; predictions are in the same."""

    name = "regression"
    summary = "one number for each text"
    metrics = (PEARSON, SPEARMAN, NEG_RMSE, NEG_MAE, R2)
    target_columns = ("target", "score", "value", "rating", "label")
    key = "target"

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.regression import RegressionHead

        return RegressionHead

    def read(self, cell: object) -> float | None:
        """See `TaskType.read`; a text is read as a decimal number."""
        if cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell:
            return None
        try:
            if isinstance(cell, bool) or not isinstance(cell, str | bytes | SupportsFloat):
                raise ValueError
            number = float(cell)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"The target {str(cell)[:60]!r} is not a number.", "name another column with --target COL"
            ) from None
        if not math.isfinite(number):
            raise DataError(f"The target {number!r} is not finite.", "take the row out")
        # 0.0 and -0.0 are one number, and have one form
        return number + 0.0

    def constant(self, targets: Sequence[float], texts: Sequence[Text]) -> list[float]:
        """See `TaskType.constant`: the mean of the targets."""
        return [math.fsum(targets) / len(targets)] * len(texts)

    def check_training(self, targets: Sequence[float]) -> None:
        """See `TaskType.check_training`."""
        if len(set(targets)) < 2:
            raise DataError(
                f"Every training example has the target {targets[0]!r}: there is nothing to learn.",
                "name another column with --target COL",
            )

    def answer_columns(self, labels: tuple[str, ...], form: AnswerForm) -> tuple[AnswerColumn, ...]:
        """See `TaskType.answer_columns`."""
        super().answer_columns(labels, form)
        return (AnswerColumn(ANSWER, "number"),)

    def answer_cells(
        self, answer: NumberPrediction, labels: tuple[str, ...], form: AnswerForm
    ) -> tuple[JsonValue, ...]:
        """See `TaskType.answer_cells`: as many digits as do not depend on the texts beside it."""
        return (float(f"{answer.value:.6g}"),)


TASK_TYPE = Regression()
