"""Frozen features: what a head reads, computed once for every text, and kept.

Where nothing but the head is trained, the features of a text are the same in every epoch. They are computed under
the fixed batch plan, in float32, and kept in the home's cache folder under everything that decides them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limpet.training.batches import collate
from limpet.training.checkpoint import Checkpoint
from limpet.training.evaluate import Encoded
from limpet.training.heads import ClassificationHead
from limpet.training.loop import Fitted, LoopSettings, fit
from limpet.training.model import TaskModel
from limpet.training.objectives import TaskLoss
from limpet.training.progress import Progress

__all__ = ["Features", "HeadModel", "extract", "fit_head"]


@dataclass(frozen=True)
class Features:
    """Pooled hidden states (examples, hidden) in the order of the examples, and their lengths in tokens."""

    values: Tensor
    lengths: tuple[int, ...]

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the inputs of `HeadModel` for some examples."""
        return {"features": self.values[list(indices)]}


class HeadModel(nn.Module):
    """A head alone: features to logits."""

    def __init__(self, head: ClassificationHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, labels) in float32 for pooled hidden states (batch, hidden)."""
        return self.head.classify(features)


def fit_head(
    model: TaskModel,
    texts: Encoded,
    labels: Sequence[int],
    held_back: Encoded,
    measure: Callable[[tuple[int, ...]], float],
    kept: Sequence[Path | None],
    loop: LoopSettings,
    checkpoint: Checkpoint,
    progress: Progress,
) -> Fitted:
    """Fit the head of `model` on features of `texts`, in the batches that the texts would have had.

    Args:
        model: The backbone, with or without an adapter, and the head; nothing but the head is trained.
        texts: The training examples.
        labels: Their label ids.
        held_back: The validation examples.
        measure: Scores predicted label ids of those; higher is better.
        kept: The files of both features; null where they are not worth keeping.
        loop: Settings of the loop.
        checkpoint: Where to write the state, and to resume from.
        progress: Told of every batch and step.

    Raises:
        InterruptedRunError: A signal came; a checkpoint was kept.
        TrainingError: The loss is not finite.
    """
    device, started = next(model.parameters()).device, time.perf_counter()
    features, unseen = (
        extract(model, encoded, device, path, progress)
        for encoded, path in zip((texts, held_back), kept, strict=True)
    )
    seconds = time.perf_counter() - started

    def validate(prepared: Any) -> float:
        prepared.eval()
        with torch.inference_mode():
            logits = prepared(features=unseen.values.to(device)).float().cpu()
        return measure(tuple(model.head.predict(logits)))

    objective = TaskLoss(features, labels, model.head, device, {})
    fitted = fit(HeadModel(model.head), objective, loop, validate, checkpoint, progress)
    # what the features took is a part of what the training took
    total = fitted.seconds + seconds
    rate = fitted.examples_per_second * fitted.seconds / total
    return replace(fitted, seconds=total, examples_per_second=rate)


def extract(model: TaskModel, encoded: Encoded, device: Any, kept: Path | None, progress: Progress) -> Features:
    """Return the features of `encoded`, from the file `kept` if it is there; else they are computed and kept.

    Args:
        model: The backbone, with or without an adapter, and the head that says how to pool.
        encoded: The texts with their plan.
        device: Where the model is.
        kept: The file of these very features; null where they are not worth keeping.
        progress: Told of every batch.
    """
    values = _read(kept, len(encoded.ids)) if kept else None
    if values is None:
        values = _compute(model, encoded, device, progress)
        if kept:
            _write(kept, values)
    return Features(values, encoded.lengths)


def _compute(model: TaskModel, encoded: Encoded, device: Any, progress: Progress) -> Tensor:
    model.eval()
    rows: list[Tensor] = [torch.empty(0)] * len(encoded.ids)
    progress.start("features", len(rows))
    done = 0
    with torch.no_grad():
        for batch, length in zip(encoded.plan.batches, encoded.plan.lengths, strict=True):
            inputs = collate([encoded.ids[index] for index in batch], encoded.pad_id, length)
            values = model.features(**{key: tensor.to(device) for key, tensor in inputs.items()}).float().cpu()
            for index, row in zip(batch, values, strict=True):
                rows[index] = row
            done += len(batch)
            progress.advance(done)
    progress.finish()
    return torch.stack(rows)


def _read(path: Path, count: int) -> Tensor | None:
    """Return what is kept; null where there is nothing, or not the whole of it."""
    try:
        values = load_file(path)["features"]
    except (OSError, KeyError, SafetensorError):
        return None
    return values if values.dim() == 2 and len(values) == count else None


def _write(path: Path, values: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # renamed when whole: another process may read, or write the same
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"features": values.contiguous()}, temporary)
    temporary.replace(path)
