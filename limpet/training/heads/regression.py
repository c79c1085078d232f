"""The head of regression: one output, in standard deviations of the training targets from their mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from limpet.errors import IntegrityError
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.batching.encoded import Field
from limpet.training.batching.examples import Example, flat_text
from limpet.training.heads.base import Head, HeadConfig, pooling_for

__all__ = ["NumberPrediction", "RegressionConfig", "RegressionHead"]

_SAME = 0.01


@dataclass(frozen=True)
class NumberPrediction:
    """The answer for one text: a number in the unit of the task's targets."""

    text: str
    value: float

    @property
    def shown(self) -> dict[str, Any]:
        """The columns of a table."""
        return {"value": self.value, "text": self.text}


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(HeadConfig):
    """A head of one output; `mean` and `deviation` are those of the training targets."""

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        """Check that targets can be brought to this scale and back.

        Raises:
            ValueError: They can't.
        """
        if not (math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation > 0):
            raise ValueError(f"its mean {self.mean!r} and deviation {self.deviation!r} are no scale")

    @property
    def outputs(self) -> int:
        """One."""
        return 1


class RegressionHead(Head):
    """Hidden states (batch, length, hidden) to one standardised number for each text: (batch, 1)."""

    config_class: ClassVar[type[HeadConfig]] = RegressionConfig
    config: RegressionConfig

    @classmethod
    def configure(cls, task: TaskRecord, base: BaseRecord, train: Sequence[Example]) -> HeadConfig:
        """See `StoredHead.configure`."""
        targets = [example.target for example in train]
        return RegressionConfig(
            task.definition.type,
            pooling_for(base),
            base.hidden_size,
            0,
            mean=fmean(targets),
            deviation=pstdev(targets),
        )

    def targets(self, targets: Sequence[float]) -> Field:
        """Standardised numbers."""
        config = self.config
        return Field([torch.tensor((value - config.mean) / config.deviation) for value in targets])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of outputs (batch, 1) against standardised targets (batch)."""
        return mse_loss(outputs[:, 0], targets)

    def predict(self, rows: Sequence[Tensor]) -> list[float]:
        """Numbers in the unit of the targets.

        Raises:
            IntegrityError: One is not finite.
        """
        numbers = [float(row[0]) * self.config.deviation + self.config.mean for row in rows]
        if not all(map(math.isfinite, numbers)):
            raise IntegrityError(
                "The adapter's answers are not finite numbers.",
                "look at its tensors; train it with a smaller learning rate",
            )
        return numbers

    def same_answer(self, measured: float, served: float) -> bool:
        """See `AnsweringHead.same_answer`: numbers within a hundredth of the targets' standard deviation."""
        return abs(measured - served) <= _SAME * self.config.deviation

    def explain(
        self, example: Example, prediction: float, row: Tensor, *, labels: tuple[str, ...]
    ) -> NumberPrediction:
        """See `AnsweringHead.explain`."""
        return NumberPrediction(flat_text(example.text), prediction)
