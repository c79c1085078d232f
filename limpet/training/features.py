"""Frozen features: what a head reads, computed once for every text, and kept.

Where nothing but the head is trained, the features of a text are the same in every epoch. They are computed under
the fixed batch plan, in float32, and kept in the home's cache folder under everything that decides them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limpet.training.batches import collate
from limpet.training.evaluate import Encoded
from limpet.training.heads import ClassificationHead
from limpet.training.model import TaskModel
from limpet.training.progress import Progress

__all__ = ["Features", "HeadModel", "extract"]


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
