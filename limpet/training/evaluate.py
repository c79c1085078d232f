"""Predictions of a task's model under the fixed batch plan."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limpet.training.batches import BatchPlan, collate, encode, evaluation_plan
from limpet.training.progress import SILENT, Progress

__all__ = ["Encoded", "Outcome", "encode_texts", "run"]


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids with their batch plan; `pad_id` fills up their rows."""

    ids: tuple[list[int], ...]
    plan: BatchPlan
    pad_id: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens every text has."""
        return tuple(len(row) for row in self.ids)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return token ids and mask, both (batch, length), of some texts, padded to the longest of them."""
        return collate([self.ids[index] for index in indices], self.pad_id)


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave, in the order of the examples: label ids and logits (examples, labels)."""

    predictions: tuple[int, ...]
    logits: Tensor
    logits_digest: str
    seconds: float


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> Encoded:
    """Tokenise `texts` and plan their batches."""
    ids = encode(tokenizer, texts, max_length)
    return Encoded(tuple(ids), evaluation_plan([len(row) for row in ids]), tokenizer.pad_token_id)


def run(
    model: Any, head: Any, encoded: Encoded, device: Any, progress: Progress = SILENT, name: str = "evaluate"
) -> Outcome:
    """Compute logits batch by batch, in the plan's order.

    Args:
        model: Maps `input_ids` and `attention_mask` to logits.
        head: Turns logits into label ids.
        encoded: The texts with their plan.
        device: Where the model is.
        progress: Told of every batch.
        name: What is evaluated, for the progress bar.
    """
    started = time.perf_counter()
    model.eval()
    rows: list[Tensor | None] = [None] * len(encoded.ids)
    digest = hashlib.sha256()
    progress.start(name, len(encoded.ids))
    done = 0
    with torch.inference_mode():
        for batch, length in zip(encoded.plan.batches, encoded.plan.lengths, strict=True):
            inputs = collate([encoded.ids[index] for index in batch], encoded.pad_id, length)
            logits = model(**{key: tensor.to(device) for key, tensor in inputs.items()}).float().cpu()
            digest.update(logits.contiguous().numpy().data)
            for index, row in zip(batch, logits, strict=True):
                rows[index] = row
            done += len(batch)
            progress.advance(done)
    progress.finish()
    stacked = torch.stack([row for row in rows if row is not None])
    return Outcome(
        tuple(head.predict(stacked)),
        stacked,
        f"sha256:{digest.hexdigest()}",
        time.perf_counter() - started,
    )
