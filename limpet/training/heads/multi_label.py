"""The head of multi-label classification: one logit for each label, each decided on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from limpet.training.batching.encoded import Field
from limpet.training.batching.examples import Example, flat_text
from limpet.training.heads.base import Head

__all__ = ["LabelsPrediction", "MultiLabelHead"]


@dataclass(frozen=True)
class LabelsPrediction:
    """The answer for one text: its labels, and the probability of every label in the order of the label map."""

    text: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def shown(self) -> dict[str, Any]:
        """The columns of a table."""
        return {"labels": ", ".join(self.labels) or None, "text": self.text}


class MultiLabelHead(Head):
    """Hidden states (batch, length, hidden) to logits (batch, labels)."""

    def targets(self, targets: Sequence[Sequence[int]]) -> Field:
        """One 0 or 1 for each label."""
        rows = []
        for ids in targets:
            row = torch.zeros(self.config.labels)
            row[list(ids)] = 1.0
            rows.append(row)
        return Field(rows)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean sigmoid cross-entropy of logits against 0 and 1, both (batch, labels)."""
        weights = None if self.class_weights is None else self.class_weights.to(outputs.device)
        return binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights)

    def predict(self, rows: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """The ids of labels with a probability above one half, sorted."""
        return [tuple(torch.nonzero(row > 0).flatten().tolist()) for row in rows]

    @property
    def decides(self) -> bool:
        """See `AnsweringHead.decides`."""
        return True

    def slack(self, row: Tensor, threshold: float | None) -> float:
        """See `AnsweringHead.slack`: the smallest distance of an output from where its label is decided."""
        bar = 0.0 if threshold is None else math.log(threshold / (1 - threshold))
        return float((row - bar).abs().min())

    def explain(
        self, example: Example, prediction: tuple[int, ...], row: Tensor, *, labels: tuple[str, ...]
    ) -> LabelsPrediction:
        """See `AnsweringHead.explain`."""
        probabilities = tuple(float(value) for value in torch.sigmoid(row))
        return LabelsPrediction(flat_text(example.text), tuple(labels[label] for label in prediction), probabilities)
