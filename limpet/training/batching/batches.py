"""Which examples share a batch, and how it is padded: shuffled for training, fixed for evaluation.

How much is computed at once is counted in tokens, padding included: so memory and speed are the same for short texts
and for long ones. A training step has as many examples as its settings say; what is too much is computed in
microbatches.

Another batch size, order or padding may change the last bits of a score. So an evaluation has a plan, decided by
the token lengths alone, and the plan's digest is kept with the predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limpet.registry.formats.canonical import digest_json

__all__ = [
    "MAX_TOKENS_PER_MICROBATCH",
    "PAD_TO",
    "BatchPlan",
    "Writing",
    "max_tokens_per_microbatch",
    "max_tokens_to_learn",
    "collate",
    "draw_evenly",
    "evaluation_plan",
    "on_device",
    "microbatches",
    "texts_in_batch",
    "training_batches",
]

MAX_TOKENS_PER_MICROBATCH = 2048
"""So many tokens, padding included, a processor computes at once at the most, unless a single text has more.

More of them leave its caches, and take longer (benchmarks/tokens.py).
"""
_ON_ACCELERATORS = 1 << 16
_SMALL, _MIDDLING = 12 * 768, 30 * 1024  # layers times width
_TEXTS, _TEXTS_ELSEWHERE = 64, 512

PAD_TO = 8
"""Batches are padded to a multiple of this many tokens."""
_WRITING = 1  # counts up where answers are written in another way that may change their last bits
_BUCKET = 16  # batches that are sorted by length together: less padding, still shuffled


@dataclass(frozen=True)
class BatchPlan:
    """The order of an evaluation: indices of each batch, and the length (tokens) each is padded to.

    With `writing`, answers are written: what the texts of a batch begin with is read once, and rows that ended are
    left out. Earlier plans, without it, computed each row of a batch from its first token to the longest answer.
    """

    batches: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    writing: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over batches and padded lengths, and over how answers are written where they are."""
        how = {"writing": _WRITING} if self.writing else {}
        return digest_json({"batches": self.batches, "lengths": self.lengths, **how})


@dataclass(frozen=True)
class Writing:
    """How long answers are at the most, and of how many tokens keys and values are kept at once; null for as many as
    are read at once.
    """

    new_tokens: int
    at_once: int | None = None


def evaluation_plan(
    lengths: Sequence[int],
    batch_size: int | None = None,
    device: str = "cpu",
    *,
    tight: bool = False,
    writing: Writing | None = None,
) -> BatchPlan:
    """Sort by length, then by index, and cut into batches: the same lengths always give the same plan on a device.

    Args:
        lengths: How many tokens every text has.
        batch_size: How many texts a batch has at the most; by default 64 on a processor, 512 on an accelerator.
        device: The type of device, as torch calls it. It has as many tokens in a batch at the most as in training.
        tight: Pad to the longest text of a batch, and not on to a multiple of 8.
        writing: What answers take, where they are written: then a batch is what is written together.
    """
    batch_size = batch_size or texts_in_batch(device)
    most = max_tokens_per_microbatch(device)
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    if writing is not None and writing.at_once is not None:
        batches = tuple(_written_together(lengths, order, writing, batch_size=batch_size))
    else:
        wide = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        batches = tuple(tuple(part) for batch in wide for part in microbatches(lengths, batch, most))
    longest = [max(lengths[index] for index in batch) for batch in batches]
    padded = tuple(longest if tight else map(_round_up, longest))
    return BatchPlan(batches, padded, writing is not None)


def _written_together(
    lengths: Sequence[int], order: Sequence[int], writing: Writing, *, batch_size: int
) -> Iterator[tuple[int, ...]]:
    """Give the texts that are written together: in their order, as many as there may be and there is room for."""
    batch: list[int] = []
    for index in order:
        room = _round_up(lengths[index]) + writing.new_tokens
        if batch and (len(batch) == batch_size or (len(batch) + 1) * room > (writing.at_once or 0)):
            yield tuple(batch)
            batch = []
        batch.append(index)
    if batch:
        yield tuple(batch)


def texts_in_batch(device: str) -> int:
    """Return how many texts a batch has at the most on a type of device, where nothing else is said."""
    return _TEXTS if device == "cpu" else _TEXTS_ELSEWHERE


def training_batches(lengths: Sequence[int], batch_size: int, seed: int, *, epoch: int) -> list[list[int]]:
    """Shuffle into batches of similar length; (seed, epoch) alone decide the order."""
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = sorted(order[start : start + batch_size * _BUCKET], key=lambda index: lengths[index])
        batches += [[int(i) for i in bucket[j : j + batch_size]] for j in range(0, len(bucket), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def draw_evenly(count: int, draws: int, seed: int, *, epoch: int) -> list[int]:
    """Draw `draws` of `count` examples for an epoch; none comes a second time before all have come once."""
    generator = np.random.default_rng([seed, epoch, count])
    indices: list[int] = []
    while len(indices) < draws:
        indices += map(int, generator.permutation(count)[: draws - len(indices)])
    return indices


def microbatches(
    lengths: Sequence[int],
    batch: Sequence[int],
    max_tokens: int = MAX_TOKENS_PER_MICROBATCH,
    *,
    max_texts: int | None = None,
) -> list[list[int]]:
    """Cut a batch into parts of at most `max_tokens` tokens, padding included, texts of similar length together.

    A batch that is not too long is one part, in its own order. So is a text that is longer by itself. A part has
    `max_texts` texts at the most.
    """
    most = max_texts or len(batch)
    if len(batch) <= most and len(batch) * _round_up(max(lengths[index] for index in batch)) <= max_tokens:
        return [list(batch)]
    parts: list[list[int]] = [[]]
    for index in sorted(batch, key=lambda index: lengths[index]):
        count = len(parts[-1])
        if count and (count == most or (count + 1) * _round_up(lengths[index]) > max_tokens):
            parts.append([])
        parts[-1].append(index)
    return parts


def max_tokens_per_microbatch(device: str) -> int:
    """Return how many tokens of a training step a type of device computes at once at the most.

    An accelerator works side by side at what a processor does in turn, and has memory of its own for it.
    """
    return MAX_TOKENS_PER_MICROBATCH if device == "cpu" else _ON_ACCELERATORS


def max_tokens_to_learn(device: str, layers: int, hidden_size: int) -> int:
    """Return how many tokens of a training step are computed at once at the most, for a base of a size.

    What is kept of every token for the backward pass grows with layers and width. A processor computes a deep base as
    fast with fewer tokens at once, and in less memory (benchmarks/smollm2.py); those up to BERT-base have as many as
    in evaluations.
    """
    most = max_tokens_per_microbatch(device)
    if device != "cpu" or layers * hidden_size <= _SMALL:
        return most
    return most // 2 if layers * hidden_size <= _MIDDLING else most // 4


def collate(ids: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> dict[str, Tensor]:
    """Pad token ids on the right to `length`, by default the longest rounded up to 8.

    On the right for decoders too: a causal model's tokens never see what follows them, and keep their positions,
    so padding can't change an answer. On the left, absolute positions would be those of the padding.

    Returns:
        `input_ids` and `attention_mask`, both (batch, length), int64.
    """
    width = length or _round_up(max(len(row) for row in ids))
    input_ids = torch.full((len(ids), width), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(ids), width), dtype=torch.int64)
    for index, row in enumerate(ids):
        input_ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        attention_mask[index, : len(row)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def on_device(batch: Mapping[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """Return a batch on a device; to CUDA it goes from pinned memory, beside what is computed there."""
    if torch.device(device).type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}


def _round_up(length: int) -> int:
    return -(-length // PAD_TO) * PAD_TO
