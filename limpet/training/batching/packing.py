"""Texts of a batch in fewer rows: several stand in one, one after the other, with positions that begin anew.

transformers tells texts in a row by such positions, and lets no token see those of another text. So a text's loss is
what it has in a row of its own, up to rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor

from limpet.training.batching.batches import collate, microbatches
from limpet.training.batching.encoded import Encoded

__all__ = ["PackedTexts", "packed_rows"]


def packed_rows(lengths: Sequence[int], batch: Sequence[int], room: int) -> list[list[int]]:
    """Put texts into rows of at most `room` tokens: the longest first, each into the first row that has room for it.

    A text that is longer than that has a row of its own (first fit decreasing: at most 11/9 of the least number of
    rows, and 2/3; Dosa 2007).
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(batch, key=lambda index: (-lengths[index], index)):
        place = next((place for place, tokens in enumerate(left) if tokens >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            left.append(room)
        rows[place].append(index)
        left[place] -= lengths[index]
    return rows


@dataclass(frozen=True)
class PackedTexts:
    """Training examples whose batches are packed into rows of at most `room` tokens."""

    texts: Encoded
    room: int

    @property
    def lengths(self) -> Sequence[int]:
        """How many tokens every example has."""
        return self.texts.lengths

    def rows(self, indices: Sequence[int]) -> list[list[int]]:
        """Return which examples share a row, in their order."""
        return packed_rows(self.lengths, indices, self.room)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return some examples in as few rows as they need; `position_ids` begin anew with each."""
        return self._batch(self.rows(indices))

    def parts(self, batch: Sequence[int], max_tokens: int | None, max_texts: int | None) -> list[dict[str, Tensor]]:
        """Return the examples of a step in parts that are computed one after the other.

        Args:
            batch: The examples.
            max_tokens: How many tokens a part has at the most, padding included; null for any number. No row has
                more, unless a single text has.
            max_texts: How many examples a part has at the most; null for any number.
        """
        most = max_texts or len(batch)
        packed = self if max_tokens is None else replace(self, room=min(self.room, max_tokens))
        parts = []
        for first in range(0, len(batch), most):
            rows = packed.rows(batch[first : first + most])
            widths = [sum(self.lengths[index] for index in row) for row in rows]
            together = microbatches(widths, range(len(rows)), max_tokens or sys.maxsize)
            parts += [self._batch([rows[at] for at in part]) for part in together]
        return parts

    def _batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        texts = self.texts
        inputs = collate([list(chain.from_iterable(texts.ids[index] for index in row)) for row in rows], texts.pad_id)
        width = inputs["input_ids"].shape[1]
        starts = [[0, *accumulate(len(texts.ids[index]) for index in row)] for row in rows]
        # what fills a row up is one more text, of which nothing is learned
        positions = [
            torch.cat([torch.arange(end - start) for start, end in pairwise([*begun, width])]) for begun in starts
        ]
        fields = {name: one.joined(rows, starts).batch(range(len(rows)), width) for name, one in texts.fields.items()}
        return inputs | {"position_ids": torch.stack(positions)} | fields
