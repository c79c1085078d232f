"""What a step minimises: the loss of one task's examples, or of several tasks' in turn, and a penalty on weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from limpet.training.batching.batches import (
    MAX_TOKENS_PER_MICROBATCH,
    draw_evenly,
    microbatches,
    on_device,
    training_batches,
)
from limpet.training.batching.packing import PackedTexts
from limpet.training.heads import TrainableHead
from limpet.training.learning.joint_training import Penalty
from limpet.training.learning.ranks.share import Share

__all__ = ["Mixture", "Replay", "TaskLoss", "TrainingData"]


class TrainingData(Protocol):
    """Examples that can be drawn in batches: token ids, or features that were extracted before."""

    @property
    def lengths(self) -> Sequence[int]:
        """How many tokens every example has; batches are made of similar lengths."""

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the model's inputs for some examples, and their `targets` as its head's loss takes them."""


@dataclass(frozen=True)
class Replay:
    """Examples of which an epoch has only some: the next `number` in `order`, from its beginning again after its end.

    Another epoch has others, so that more of them are seen in the same time.
    """

    order: tuple[int, ...]
    number: int

    def drawn(self, epoch: int) -> list[int]:
        """Return those that an epoch has."""
        first = epoch * self.number
        return [self.order[place % len(self.order)] for place in range(first, first + self.number)]


@dataclass(frozen=True)
class TaskLoss:
    """The loss of one task's examples.

    Args:
        data: The examples, as the model takes them.
        head: The head that they pass.
        device: Where the model is.
        head_index: The index of the head among the model's other heads; null for its own.
        max_tokens_per_microbatch: How many tokens of a batch are computed at once at the most; null for all.
        draws: How many examples an epoch has; null for each of them once.
        replay: Which of them an epoch has only some of; null for none.
        max_texts_per_microbatch: How many examples of a batch are computed at once at the most; null for all.
        share: Which rows of a microbatch this process computes; null for all.
    """

    data: TrainingData
    head: TrainableHead
    device: torch.device | str
    head_index: int | None = None
    max_tokens_per_microbatch: int | None = MAX_TOKENS_PER_MICROBATCH
    draws: int | None = None
    replay: Replay | None = None
    max_texts_per_microbatch: int | None = None
    share: Share | None = None

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """See `Objective.batches`."""
        indices = self._drawn(seed, epoch)
        if indices is None:
            return training_batches(list(self.data.lengths), batch_size, seed, epoch=epoch)
        batches = training_batches([self.data.lengths[index] for index in indices], batch_size, seed, epoch=epoch)
        return [[indices[number] for number in batch] for batch in batches]

    def _drawn(self, seed: int, epoch: int) -> list[int] | None:
        """Return the examples that an epoch has; null for all of them."""
        number = len(self.data.lengths)
        if self.draws is not None:
            return draw_evenly(number, self.draws, seed, epoch=epoch)
        if self.replay is None:
            return None
        return sorted(set(range(number)).difference(self.replay.order).union(self.replay.drawn(epoch)))

    def losses(self, model: nn.Module, batch: Sequence[int]) -> Iterator[Tensor]:
        """See `Objective.losses`: the batch's loss is a mean, and a microbatch has its share of what that is over."""
        inputs = self._parts(batch)
        terms = [self.head.terms(microbatch["targets"]) for microbatch in inputs]
        for microbatch, count in zip(inputs, terms, strict=True):
            if self.share is not None:
                microbatch, count = self._shared(microbatch, self.share)
            loss = self._loss(model, microbatch)
            if self.share is not None and not count:
                # a mean over nothing is no number
                loss = loss.nan_to_num()
            # a batch that is whole is not scaled: dividing and multiplying by the same need not give the same
            yield loss if count == sum(terms) else loss * (count / max(1, sum(terms)))

    def tokens(self, batch: Sequence[int]) -> int:
        """Return how many tokens a step on these examples computes, padding included."""
        return sum(part["input_ids"].numel() for part in self._parts(batch))

    def _shared(self, microbatch: Mapping[str, Tensor], share: Share) -> tuple[dict[str, Tensor], int]:
        """Return this process's rows of a microbatch, and of how many terms they are: 0 where they do not count."""
        rows, counts = share.of(microbatch)
        return rows, self.head.terms(rows["targets"]) if counts else 0

    def _parts(self, batch: Sequence[int]) -> list[dict[str, Tensor]]:
        limit, most = self.max_tokens_per_microbatch, self.max_texts_per_microbatch
        if isinstance(self.data, PackedTexts):
            return self.data.parts(batch, limit, most)
        if limit is None:
            return [self.data.batch(batch)]
        return [self.data.batch(part) for part in microbatches(self.data.lengths, batch, limit, max_texts=most)]

    def _loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        inputs: dict[str, Any] = {**on_device(batch, self.device)}
        targets = inputs.pop("targets")
        if self.head_index is not None:
            inputs["head_index"] = self.head_index
        loss: Tensor = self.head.loss(model(**inputs), targets)
        return loss


@dataclass(frozen=True)
class Mixture:
    """The losses of several tasks: each batch is of one task, and the seed decides in which order they come.

    Examples are numbered through, the first task's first. With one task it is that task's loss, batch for batch.

    Args:
        parts: The tasks' losses.
        penalty: Added in every step.
        parameters: The trained parameters by name, for the penalty.
        processes: How many processes add up their losses.
    """

    parts: Sequence[TaskLoss]
    penalty: Penalty | None
    parameters: Mapping[str, Tensor]
    processes: int = 1

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """See `Objective.batches`."""
        first, every = 0, []
        for part in self.parts:
            every += [[first + index for index in batch] for batch in part.batches(batch_size, seed, epoch)]
            first += len(part.data.lengths)
        if len(self.parts) == 1:
            return every
        order = np.random.default_rng([seed, epoch, len(self.parts)]).permutation(len(every))
        return [every[place] for place in order]

    def losses(self, model: nn.Module, batch: Sequence[int]) -> Iterator[Tensor]:
        """See `Objective.losses`."""
        first = 0
        for part in self.parts:
            if batch[0] < first + len(part.data.lengths):
                break
            first += len(part.data.lengths)
        yield from part.losses(model, [index - first for index in batch])
        if self.penalty is not None:
            yield self.penalty(self.parameters) / self.processes
