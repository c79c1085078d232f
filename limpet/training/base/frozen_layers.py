"""Frozen layers below the lowest that is trained: every text passes them once, and what they gave is kept.

They answer alike in every epoch and every evaluation, since no dropout acts in what stays as it is. So what the
lowest trained layer reads is computed under the fixed batch plan and kept in memory, token by token; from then on the
layers below let pass what they are given, and that layer reads what was kept. Embeddings, masks and positions are
computed by the model itself, each time, so that no architecture has to be known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limpet.registry.formats.canonical import digest_json
from limpet.training.base.precision import autocast
from limpet.training.batching.inference import Encoded, Field, in_batches
from limpet.training.progress import Progress

__all__ = ["KEPT", "MOST_BYTES", "LowerLayers", "LowerStates", "keep"]

KEPT = "below"
"""The name of the field of a batch that has what the lowest trained layer reads: (batch, length, hidden)."""
MOST_BYTES = 1 << 30
"""What is kept of one run at the most, and of one base; beyond that all layers compute in every epoch."""


class _ReachedError(Exception):
    """The lowest trained layer was reached, and nothing above it is asked."""


class Reader(Protocol):
    """What `keep` needs of a task model."""

    lower: LowerLayers | None

    def eval(self) -> Any:
        """Switch dropout off."""

    def hidden(self, **batch: Tensor) -> Any:
        """Run the backbone on a batch."""


@dataclass(frozen=True)
class LowerLayers:
    """The layers of a stack that stay as they are, in order, and the lowest that is trained."""

    frozen: Sequence[nn.Module]
    trained: nn.Module

    @contextmanager
    def skipped(self, kept: Tensor) -> Iterator[None]:
        """Let the lowest trained layer read `kept`, (batch, length, hidden), for the length of a `with` block."""

        def give(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            return (kept, *arguments[1:])

        with ExitStack() as stack:
            for layer in self.frozen:
                stack.enter_context(_passing(layer))
            stack.enter_context(self.trained.register_forward_pre_hook(give))
            yield

    def reach(self, model: Reader, batch: dict[str, Tensor]) -> Tensor | None:
        """Return what the lowest trained layer reads of a batch, (batch, length, hidden); nothing above it is asked.

        Null where that is not what the layer below returns: there is no way to pass it by.
        """
        returned: list[Any] = []
        read: list[Any] = []

        def listen(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            returned.append(output)

        def stop(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            read.extend(arguments[:1])
            raise _ReachedError

        with self.frozen[-1].register_forward_hook(listen), self.trained.register_forward_pre_hook(stop):
            try:
                model.hidden(**batch)
            except _ReachedError:
                return read[0] if read and read[0] is returned[0] else None
        return None


@contextmanager
def _passing(layer: nn.Module) -> Iterator[None]:
    layer.forward = lambda hidden, *rest, **named: hidden
    try:
        yield
    finally:
        del layer.forward


class LowerStates:
    """What the lower layers of one base gave for texts: those that were used last, up to `MOST_BYTES` of them."""

    def __init__(self) -> None:
        self._kept: dict[str, Sequence[Tensor]] = {}

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()

    def find(self, key: str) -> Sequence[Tensor] | None:
        """Return the rows that are known by `key`, or null."""
        rows = self._kept.pop(key, None)
        if rows is not None:
            self._kept[key] = rows
        return rows

    def put(self, key: str, rows: Sequence[Tensor]) -> None:
        """Keep rows, and let go of what was not used for the longest time where they are too many together."""
        self._kept[key] = rows
        total = sum(map(_bytes, self._kept.values()))
        while total > MOST_BYTES:
            total -= _bytes(self._kept.pop(next(iter(self._kept))))


def keep(
    model: Reader,
    texts: Sequence[Encoded],
    device: Any,
    *,
    progress: Progress,
    dtype: str = "float32",
    states: LowerStates | None = None,
) -> list[Encoded]:
    """Return `texts` with what the model's lowest trained layer reads of each, in the field `KEPT`.

    They are returned as they are where that layer reads anything but what the layer below returns, as DeBERTa's do,
    or where it is more than `MOST_BYTES`.

    Args:
        model: The backbone with a method attached, and its lower layers.
        texts: The texts with their plans.
        device: Where the model is.
        progress: Told of every batch.
        dtype: What products are computed in, `float32` or `bfloat16`.
        states: What is known of the base, and will be; by default nothing.
    """
    assert model.lower is not None
    model.eval()
    states = LowerStates() if states is None else states
    progress.start("lower layers", sum(len(encoded.ids) for encoded in texts))
    done, left = 0, MOST_BYTES
    kept: list[Encoded] = []
    for encoded in texts:
        key = digest_json([encoded.digest, len(model.lower.frozen), dtype])
        rows = states.find(key) or _compute(
            model, model.lower, encoded, device=device, dtype=dtype, most=left, progress=progress, done=done
        )
        if rows is None or _bytes(rows) > left:
            progress.finish()
            return list(texts)
        states.put(key, rows)
        left -= _bytes(rows)
        done += len(rows)
        progress.advance(done)
        kept.append(encoded.having(**{KEPT: Field(rows, aligned=True)}))
    progress.finish()
    return kept


def _compute(
    model: Reader,
    lower: LowerLayers,
    encoded: Encoded,
    *,
    device: Any,
    dtype: str,
    most: int,
    progress: Progress,
    done: int,
) -> list[Tensor] | None:
    """Return what the lowest trained layer reads of each text, (tokens, hidden); null where that can't be kept."""
    rows: list[Tensor] = [torch.empty(0)] * len(encoded.ids)
    with torch.no_grad(), autocast(device, dtype):
        for batch, inputs in in_batches(encoded, device, progress, done=done):
            hidden = lower.reach(model, inputs)
            if hidden is None:
                return None
            for index, row in zip(batch, hidden, strict=True):
                # a copy: a view would keep the padding too
                rows[index] = row[: len(encoded.ids[index])].cpu().clone()
            most -= _bytes([rows[index] for index in batch])
            if most < 0:
                return None
    return rows


def _bytes(rows: Sequence[Tensor]) -> int:
    return sum(row.nbytes for row in rows)
