"""Frozen features: what a head reads, computed once for every text, and kept.

Where nothing but the head is trained, the features of a text are the same in every epoch, and in every evaluation.
They are computed under the fixed batch plan, in the dtype that products are computed in, and kept in the cache folder
under everything that decides them: so heads of several tasks and versions read what the base gave once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from limpet.registry.cache import cache_folder, keep, recall
from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.training.base.backbone import Backbone
from limpet.training.base.precision import autocast
from limpet.training.batching.batches import BatchPlan
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome, in_batches, run_batches
from limpet.training.heads import Batch, Head
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import Progress

__all__ = ["Features", "HeadModel", "answer", "cache_path", "extract"]


@dataclass(frozen=True)
class Features:
    """What the head reads of each example, (hidden) or (places, hidden), and the plan and fields of `encoded`.

    `seconds` is how long they took when they were computed.
    """

    rows: tuple[Tensor, ...]
    encoded: Encoded
    seconds: float

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens every example has."""
        return self.encoded.lengths

    @property
    def plan(self) -> BatchPlan:
        """The batches of the texts."""
        return self.encoded.plan

    def batch(self, indices: Sequence[int], length: int | None = None) -> dict[str, Tensor]:
        """Return the inputs of `HeadModel` for some examples."""
        fields = {name: one.batch(indices, length or 0) for name, one in self.encoded.fields.items()}
        return {"features": pad_sequence([self.rows[index] for index in indices], batch_first=True), **fields}


class HeadModel(nn.Module):
    """A head alone: features to outputs."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, **fields: Tensor) -> Tensor:
        """Return outputs in float32 for features (batch, ..., hidden)."""
        return self.head.score(features)

    def answer(self, batch: Batch) -> list[Tensor]:
        """Return the outputs of each example of a batch."""
        return self.head.answer(self, batch)

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """Return what `answer` gave as predictions."""
        return self.head.predict(rows)


def cache_path(backbone: Backbone, model: TaskModel, texts: Encoded, *, dtype: str) -> Path | None:
    """Return where features of `texts` are kept: a file known by all that decides them, this environment included.

    Null where a method is attached: they are not those of the base alone.
    """
    if model.module is not backbone.model:
        return None
    decided_by = {
        "base": backbone.record.digest,
        "texts": texts.digest,
        "pooling": model.head.config.pooling,
        "environment": backbone.environment(dtype).content(),
    }
    return cache_folder() / "features" / digest_json(decided_by).removeprefix("sha256:")


def answer(
    model: TaskModel, texts: Encoded, device: torch.device | str, *, path: Path, progress: Progress, dtype: str
) -> Outcome:
    """Return what `run_batches` does for a head behind the base alone, from features that are kept from then on.

    Args:
        model: The base and the head.
        texts: The texts with their plan.
        device: Where the model is.
        path: The file of these very features.
        progress: Receives every batch that the base is asked.
        dtype: What products are computed in, `float32` or `bfloat16`.
    """
    started = time.perf_counter()
    outcome = run_batches(
        HeadModel(model.head),
        extract(model, texts, device, path=path, progress=progress, dtype=dtype),
        device,
        dtype=dtype,
    )
    return replace(outcome, seconds=time.perf_counter() - started)


def extract(
    model: TaskModel,
    encoded: Encoded,
    device: torch.device | str,
    *,
    path: Path | None,
    progress: Progress,
    dtype: str = "float32",
) -> Features:
    """Return the features of `encoded`, from the file `path` if it is there; else they are computed and kept.

    Args:
        model: The backbone, with or without an adapter, and the head that says how to pool.
        encoded: The texts with their plan.
        device: Where the model is.
        path: The file of these very features; null where they are not worth keeping.
        progress: Receives every batch.
        dtype: What products are computed in, `float32` or `bfloat16`.
    """
    features = _read(path, len(encoded.ids)) if path else None
    if features is None:
        started = time.perf_counter()
        rows = _compute(model, encoded, device, progress=progress, dtype=dtype)
        features = rows, time.perf_counter() - started
        if path:
            _write(path, *features)
    return Features(tuple(features[0]), encoded, features[1])


def _compute(
    model: TaskModel, encoded: Encoded, device: torch.device | str, *, progress: Progress, dtype: str
) -> list[Tensor]:
    model.eval()
    rows: list[Tensor] = [torch.empty(0)] * len(encoded.ids)
    progress.start("features", len(rows))
    with torch.no_grad(), autocast(device, dtype):
        for batch, inputs in in_batches(encoded, device, progress):
            values = model.head.trim(model.features(**inputs).float(), inputs)
            for index, row in zip(batch, values, strict=True):
                rows[index] = row.cpu().contiguous()
    progress.finish()
    return rows


def _read(path: Path, count: int) -> tuple[list[Tensor], float] | None:
    """Return what is kept, and the seconds that it took; null where there is nothing, or not what was kept."""
    content = recall(path)
    if content is None:
        return None
    begin = content.index(b"\n") + 1
    about = json.loads(content[:begin])
    values = torch.frombuffer(content, dtype=torch.float32, offset=begin).view(*about["shape"])
    rows = list(torch.split(values, about["places"])) if about["places"] else list(values)
    return (rows, float(about["seconds"])) if len(rows) == count else None


def _write(path: Path, rows: Sequence[Tensor], seconds: float) -> None:
    """Keep rows behind a line of JSON: their shape together, and how many places each has where it has several."""
    many = rows[0].dim() > 1
    values = torch.cat(list(rows)) if many else torch.stack(list(rows))
    about = {"places": [len(row) for row in rows] if many else [], "shape": list(values.shape), "seconds": seconds}
    line = canonical_json(about)
    # numbers begin where a cache line does, as those that torch allocates
    line = line.ljust(-(-(len(line) + 1) // 64) * 64 - 1) + b"\n"
    keep(path, line, values.view(-1).view(torch.uint8).numpy().data)
