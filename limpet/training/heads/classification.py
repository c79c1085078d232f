"""The head of classification: one logit for each label, the most probable wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from limpet.training.batching.encoded import Field
from limpet.training.batching.examples import Example, flat_text
from limpet.training.heads.base import Head

__all__ = ["ClassificationHead", "Prediction"]


@dataclass(frozen=True)
class Prediction:
    """The answer for one text: the label, its probability, and the logits in the order of the label map."""

    text: str
    label: str
    probability: float
    logits: tuple[float, ...]

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
        return cross_entropy(outputs, targets)

    def predict(self, rows: Sequence[Tensor]) -> list[int]:
        """The most probable label id of each row; the lowest id wins a tie."""
        return [int(row.argmax()) for row in rows]

    def explain(self, example: Example, prediction: int, row: Tensor, *, labels: tuple[str, ...]) -> Prediction:
        """See `AnsweringHead.explain`."""
        probability = float(torch.softmax(row, dim=-1)[prediction])
        return Prediction(
            flat_text(example.text), labels[prediction], probability, tuple(float(value) for value in row)
        )
