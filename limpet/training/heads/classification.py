"""The head of classification: one logit for each label, the most probable wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limpet.training.batching.encoded import Field
from limpet.training.batching.examples import Example, flat_text
from limpet.training.heads.base import Head, lead
from limpet.training.heads.class_weights import weighted_cross_entropy

__all__ = ["ClassificationHead", "Prediction"]


@dataclass(frozen=True)
class Prediction:
    """The answer for one text: the label, its probability, and the logits in the order of the label map."""

    text: str
    label: str
    probability: float
    logits: tuple[float, ...]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of every label, in the order of the label map."""
        values: list[float] = torch.softmax(torch.tensor(self.logits), dim=-1).tolist()
        return tuple(values)

    @property
    def shown(self) -> dict[str, Any]:
        """The columns of a table."""
        return {"label": self.label, "probability": self.probability, "text": self.text}


class ClassificationHead(Head):
    """Hidden states (batch, length, hidden) to logits (batch, labels)."""

    def targets(self, targets: Sequence[int]) -> Field:
        """Label ids."""
        return Field([torch.tensor(label) for label in targets])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (batch, labels) against label ids (batch)."""
        return weighted_cross_entropy(outputs, targets, self.class_weights)

    def predict(self, rows: Sequence[Tensor]) -> list[int]:
        """The most probable label id of each row; the lowest id wins a tie."""
        return [int(row.argmax()) for row in rows]

    @property
    def decides(self) -> bool:
        """See `AnsweringHead.decides`."""
        return True

    def slack(self, row: Tensor, threshold: float | None) -> float:
        """See `AnsweringHead.slack`: two outputs come half as near to each other as each of them moves."""
        least = float(lead(row)) / 2
        if threshold is None:
            return least
        # the log-odds of the best label move by twice what the outputs do at the most
        best = int(row.argmax())
        others = torch.cat([row[:best], row[best + 1 :]])
        odds = float(row[best] - others.logsumexp(dim=0)) if len(others) else math.inf
        return min(least, abs(odds - math.log(threshold / (1 - threshold))) / 2)

    def explain(self, example: Example, prediction: int, row: Tensor, *, labels: tuple[str, ...]) -> Prediction:
        """See `AnsweringHead.explain`."""
        probability = float(torch.softmax(row, dim=-1)[prediction])
        return Prediction(
            flat_text(example.text), labels[prediction], probability, tuple(float(value) for value in row)
        )
