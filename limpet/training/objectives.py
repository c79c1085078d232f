"""What a step minimises: the loss of one task's examples, or of several tasks' in turn, and a penalty on weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from limpet.training.batches import training_batches
from limpet.training.companions import Penalty

__all__ = ["Mixture", "TaskLoss", "TrainingData"]


class TrainingData(Protocol):
    """Examples that can be drawn in batches: token ids, or features that were extracted before."""

    @property
    def lengths(self) -> Sequence[int]:
        """How many tokens every example has; batches are made of similar lengths."""

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the model's inputs for some examples."""


@dataclass(frozen=True)
class TaskLoss:
    """The loss of one task's examples.

    Args:
        data: The examples, as the model takes them.
        targets: Their targets.
        head: The head that they pass.
        device: Where the model is.
        options: What else the model is told, such as which of its heads to use.
    """

    data: TrainingData
    targets: Sequence[Any]
    head: Any
    device: Any
    options: Mapping[str, Any]

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """See `Objective.batches`."""
        return training_batches(list(self.data.lengths), batch_size, seed, epoch)

    def loss(self, model: Any, batch: Sequence[int]) -> Tensor:
        """See `Objective.loss`."""
        inputs = {key: tensor.to(self.device) for key, tensor in self.data.batch(batch).items()}
        outputs = model(**inputs, **self.options)
        targets = torch.tensor([self.targets[index] for index in batch], device=self.device)
        loss: Tensor = self.head.loss(outputs, targets)
        return loss


@dataclass(frozen=True)
class Mixture:
    """The losses of several tasks: each batch is of one task, and the seed decides in which order they come.

    Examples are numbered through, the first task's first. With one task it is that task's loss, batch for batch.

    Args:
        parts: The tasks' losses.
        penalty: Added in every step.
        parameters: The trained parameters by name, for the penalty.
    """

    parts: Sequence[TaskLoss]
    penalty: Penalty | None
    parameters: Mapping[str, Tensor]

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """See `Objective.batches`."""
        first, every = 0, []
        for part in self.parts:
            every += [[first + index for index in batch] for batch in part.batches(batch_size, seed, epoch)]
            first += len(part.targets)
        if len(self.parts) == 1:
            return every
        order = np.random.default_rng([seed, epoch, len(self.parts)]).permutation(len(every))
        return [every[place] for place in order]

    def loss(self, model: Any, batch: Sequence[int]) -> Tensor:
        """See `Objective.loss`."""
        first = 0
        for part in self.parts:
            if batch[0] < first + len(part.targets):
                break
            first += len(part.targets)
        loss = part.loss(model, [index - first for index in batch])
        return loss if self.penalty is None else loss + self.penalty(self.parameters)
