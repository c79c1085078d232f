"""What the lowest trained layer reads of texts: computed once, and kept in memory; see `frozen_layers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limpet.registry.formats.canonical import digest_json
from limpet.training.base.frozen_layers import KEPT, LowerLayers, LowerStates, Reader, total_bytes
from limpet.training.base.precision import autocast
from limpet.training.batching.encoded import Encoded, Field
from limpet.training.batching.inference import in_batches
from limpet.training.progress import Progress

__all__ = ["add_frozen_states"]


@dataclass(frozen=True)
class _FrozenPass:
    """The way of texts through the frozen layers of a model, up to the lowest that is trained."""

    model: Reader
    lower: LowerLayers
    device: torch.device
    dtype: str
    progress: Progress

    def rows(self, encoded: Encoded, *, done: int, limit: int) -> list[Tensor] | None:
        """Return what the lowest trained layer reads of each text, (tokens, hidden); null where that can't be kept.

        Args:
            encoded: The texts with their plan.
            done: How many texts were passed before.
            limit: How many bytes may be kept at the most.
        """
        rows: list[Tensor] = [torch.empty(0)] * len(encoded.ids)
        with torch.no_grad(), autocast(self.device, self.dtype):
            for batch, inputs in in_batches(encoded, self.device, self.progress, done=done):
                hidden = self.lower.reach(self.model, inputs)
                if hidden is None:
                    return None
                for index, row in zip(batch, hidden, strict=True):
                    # a copy: a view would keep the padding too
                    rows[index] = row[: len(encoded.ids[index])].cpu().clone()
                limit -= total_bytes([rows[index] for index in batch])
                if limit < 0:
                    return None
        return rows


def add_frozen_states(
    model: Reader,
    texts: Sequence[Encoded],
    device: torch.device,
    *,
    progress: Progress,
    dtype: str = "float32",
    states: LowerStates | None = None,
) -> list[Encoded]:
    """Return `texts` with what the model's lowest trained layer reads of each, in the field `KEPT`.

    They are returned as they are where that layer reads anything but what the layer below returns, as DeBERTa's do,
    or where it is more than `LowerStates.most_bytes`.

    Args:
        model: The backbone with a method attached, and its lower layers.
        texts: The texts with their plans.
        device: Where the model is.
        progress: Receives every batch.
        dtype: What products are computed in, `float32` or `bfloat16`.
        states: What is known of the base, and will be; by default nothing.
    """
    assert model.lower is not None
    model.eval()
    states = LowerStates() if states is None else states
    progress.start("lower layers", sum(len(encoded.ids) for encoded in texts))
    frozen_pass = _FrozenPass(model, model.lower, device, dtype, progress)
    done, left = 0, states.most_bytes
    passed: list[Encoded] = []
    for encoded in texts:
        key = digest_json([encoded.digest, len(model.lower.frozen), dtype])
        rows = states.find(key) or frozen_pass.rows(encoded, done=done, limit=left)
        if rows is None or total_bytes(rows) > left:
            progress.finish()
            return list(texts)
        states.put(key, rows)
        left -= total_bytes(rows)
        done += len(rows)
        progress.advance(done)
        passed.append(encoded.having(**{KEPT: Field(rows, aligned=True)}))
    progress.finish()
    return passed
