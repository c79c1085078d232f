"""Predictions of a task's model under the fixed batch plan."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from limpet.training.base.precision import autocast
from limpet.training.batching.batches import on_device
from limpet.training.batching.encoded import EvaluationData
from limpet.training.progress import SILENT, Progress

__all__ = ["AnswersBatches", "Outcome", "in_batches", "run_batches"]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave, in the order of the examples: predictions, and the outputs of each example."""

    predictions: tuple[Any, ...]
    rows: tuple[Tensor, ...]
    logits_digest: str
    seconds: float


class AnswersBatches(Protocol):
    """A model that answers the examples of a batch."""

    def eval(self) -> object:
        """Switch dropout off."""

    def answer(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the outputs of each example of a batch."""

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """Return what `answer` gave as predictions."""


def in_batches(
    data: EvaluationData, device: torch.device | str, progress: Progress = SILENT, *, done: int = 0
) -> Iterator[tuple[tuple[int, ...], dict[str, Tensor]]]:
    """Yield the examples of each batch of the plan and the model's inputs; progress is told when they were used.

    Args:
        data: The examples with their plan.
        device: Where the model is.
        progress: Receives every batch.
        done: How many examples it was told of before.
    """
    for batch, length in zip(data.plan.batches, data.plan.lengths, strict=True):
        yield batch, on_device(data.batch(batch, length), device)
        done += len(batch)
        progress.advance(done)


def run_batches(
    model: AnswersBatches,
    data: EvaluationData,
    device: torch.device | str,
    *,
    progress: Progress = SILENT,
    name: str = "evaluate",
    dtype: str = "float32",
) -> Outcome:
    """Compute outputs batch by batch, in the plan's order.

    Args:
        model: Its `answer` gives the outputs of each example of a batch, its `predict` what they mean.
        data: The examples with their plan.
        device: Where the model is.
        progress: Receives every batch.
        name: What is evaluated, for the progress bar.
        dtype: What products are computed in, `float32` or `bfloat16`.
    """
    started = time.perf_counter()
    model.eval()
    rows: list[Tensor] = [torch.empty(0)] * sum(map(len, data.plan.batches))
    digest = hashlib.sha256()
    progress.start(name, len(rows))
    with torch.inference_mode(), autocast(device, dtype):
        for batch, inputs in in_batches(data, device, progress):
            for index, answer in zip(batch, model.answer(inputs), strict=True):
                row = answer.cpu().contiguous()
                digest.update(row.numpy().data)
                rows[index] = row
    progress.finish()
    seconds = time.perf_counter() - started
    return Outcome(tuple(model.predict(rows)), tuple(rows), f"sha256:{digest.hexdigest()}", seconds)
