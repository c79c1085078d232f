"""Validation examples of a task: the score and the loss by which training chooses an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from limpet.errors import UsageError
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.base.precision import autocast
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome, in_batches, run_batches
from limpet.training.data.stored_splits import read_split
from limpet.training.learning.loop import Validation
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.task_model import OtherHead, TaskModel
from limpet.training.task_types import score

__all__ = ["ValidationSplit"]


@dataclass(frozen=True)
class ValidationSplit:
    """A task's validation examples, and what answers them.

    `to_read` has them with their targets, as in training, where an answer is written and has no loss of its own; null
    elsewhere, and where a target is longer than what can be read.
    """

    task: TaskRecord
    model: TaskModel | OtherHead
    encoded: Encoded
    to_read: Encoded | None
    targets: Sequence[Any]
    device: torch.device
    dtype: str

    @classmethod
    def of(cls, run: TrainingRun, task: TaskRecord, model: TaskModel | OtherHead) -> ValidationSplit:
        """Encode a task's validation split for a model."""
        examples, head, tokenizer = read_split(run.store, task, "validation"), model.head, run.backbone.tokenizer
        reads_features = task.definition.type in methods.NON_GENERATIVE
        encoded, to_read = head.encode(tokenizer, examples, run.max_length, learning=reads_features), None
        if not reads_features:
            with suppress(UsageError):
                to_read = head.encode(tokenizer, examples, run.max_length, learning=True).planned_for(
                    run.backbone.device.type
                )
        targets = [example.target for example in examples]
        return cls(
            task,
            model,
            encoded.planned_for(run.backbone.device.type),
            to_read,
            targets,
            run.backbone.device,
            run.loop.dtype,
        )

    def measure(self, outcome: Outcome) -> Validation:
        """Tell how good answers to the examples are."""
        return Validation(*self._measured(outcome))

    def validate(self) -> tuple[float, float]:
        """Return the score and the loss of the model as it is."""
        return self._measured(run_batches(self.model, self.encoded, self.device, dtype=self.dtype))

    def _measured(self, outcome: Outcome) -> tuple[float, float]:
        value = score(self.task.definition.metric, outcome.predictions, self.targets)
        if self.to_read is not None:
            return value, self._loss_of_reading(self.to_read)
        targets = self.encoded.fields.get("targets")
        return value, self.model.head.loss_of(outcome.rows, targets.rows) if targets else math.inf

    def _loss_of_reading(self, texts: Encoded) -> float:
        head, total, terms = self.model.head, 0.0, 0
        with torch.no_grad(), autocast(self.device, self.dtype):
            for _, batch in in_batches(texts, self.device):
                targets = batch.pop("targets")
                count = head.terms(targets)
                total += float(head.loss(self.model(**batch), targets)) * count
                terms += count
        return total / max(1, terms)
