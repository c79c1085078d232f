"""Texts as token ids with their batch plan, and all that a batch has beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from limpet.registry.formats.canonical import canonical_json, digest_json
from limpet.training.batching.batches import BatchPlan, Writing, collate, evaluation_plan
from limpet.training.batching.token_cache import token_ids
from limpet.training.batching.token_rows import TokenRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "EvaluationData", "Field", "encode_texts", "plan_tokens"]


@dataclass(frozen=True)
class Field:
    """What a batch has beside token ids: one tensor for each example, padded with `fill` where their lengths differ.

    `aligned` fields have one value for each token, and become as wide as the token ids. `pointing` fields are indices
    of tokens.
    """

    rows: Sequence[Tensor]
    fill: int = 0
    aligned: bool = False
    pointing: bool = False

    def batch(self, indices: Sequence[int], width: int) -> Tensor:
        """Return the tensors of some examples as one, padded on the right.

        Args:
            indices: The examples.
            width: How wide the token ids of this batch are.
        """
        rows = [self.rows[index] for index in indices]
        if rows[0].dim() == 0:
            return torch.stack(rows)
        stacked = pad_sequence(rows, batch_first=True, padding_value=self.fill)
        if not self.aligned:
            return stacked
        # `pad` counts dimensions from the last: of (batch, tokens, ...) it is the second that grows
        return pad(stacked, (*(0, 0) * (stacked.dim() - 2), 0, width - stacked.shape[1]), value=self.fill)

    def joined(self, rows: Sequence[Sequence[int]], starts: Sequence[Sequence[int]]) -> Field:
        """Return a field of rows in which several examples stand one after the other.

        Args:
            rows: The examples of each row.
            starts: At which token each of them begins.
        """
        moved = [
            torch.cat(
                [self.rows[index] + (start if self.pointing else 0) for index, start in zip(row, begun, strict=False)]
            )
            for row, begun in zip(rows, starts, strict=True)
        ]
        return replace(self, rows=moved)


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids with their batch plan; `pad_id` fills up their rows.

    `fields` are what else a batch has, by name. `counts` says what the texts lost on their way, for people. `shared`
    has token ids that are read with every text, such as demonstrations. `most` is how many texts a batch may have on
    any device, null where the device alone decides. `writing` says what answers take, where they are written.
    """

    ids: Sequence[list[int]]
    plan: BatchPlan
    pad_id: int
    fields: Mapping[str, Field] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    shared: tuple[tuple[int, ...], ...] = ()
    most: int | None = None
    writing: Writing | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over what is read of the texts, which is all but their targets: token ids, batches, fields."""
        total = hashlib.sha256(canonical_json([self.plan.digest, self.pad_id, self.lengths]))
        total.update(np.fromiter(chain.from_iterable(self.ids), np.int64).data)
        for name, one in sorted(self.fields.items()):
            if name != "targets":
                total.update(canonical_json([name, one.fill, one.aligned, [list(row.shape) for row in one.rows]]))
                for row in one.rows:
                    total.update(row.contiguous().numpy().data)
        return f"sha256:{total.hexdigest()}"

    def row_digests(self, targets: bool = False) -> list[str]:
        """Return a SHA-256 for each text, over its token ids and fields, however texts are batched.

        Args:
            targets: Whether what is to be answered counts too.
        """
        names = [name for name in sorted(self.fields) if targets or name != "targets"]
        digests = []
        for at, ids in enumerate(self.ids):
            row = hashlib.sha256(np.asarray(ids, np.int64).tobytes())
            for name in names:
                values = self.fields[name].rows[at].contiguous()
                row.update(canonical_json([name, str(values.dtype), list(values.shape)]))
                row.update(values.numpy().tobytes())
            digests.append(row.hexdigest())
        return digests

    def inputs_digest(self, targets: bool = False) -> str:
        """Return a SHA-256 over all that is read, in the order of the texts; see `row_digests`."""
        return digest_json([self.pad_id, self.shared, self.row_digests(targets)])

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens every text has."""
        return tuple(self.ids.lengths if isinstance(self.ids, TokenRows) else map(len, self.ids))

    def planned_for(self, device: str) -> Encoded:
        """Return the same texts in the batches that suit a type of device."""
        plan = evaluation_plan(self.lengths, self.most, device, writing=self.writing)
        return self if device == "cpu" else replace(self, plan=plan)

    def tightly_planned(self, batch_size: int | None, device: str) -> Encoded:
        """Return the same texts in batches of at most `batch_size`, padded no further than their longest text."""
        most = min(filter(None, (batch_size, self.most)), default=None)
        return replace(self, plan=evaluation_plan(self.lengths, most, device, tight=True, writing=self.writing))

    def of(self, places: Sequence[int]) -> Encoded:
        """Return some of the texts, in batches of their own."""
        fields = {name: replace(one, rows=[one.rows[at] for at in places]) for name, one in self.fields.items()}
        ids = tuple(self.ids[at] for at in places)
        plan = evaluation_plan([len(row) for row in ids], self.most, writing=self.writing)
        return replace(self, ids=ids, fields=fields, plan=plan)

    def written(self, writing: Writing) -> Encoded:
        """Return the same texts in the batches in which answers to them are written."""
        return replace(self, writing=writing, plan=evaluation_plan(self.lengths, self.most, writing=writing))

    def having(self, **fields: Field) -> Encoded:
        """Return the same texts with more fields."""
        return replace(self, fields={**self.fields, **fields})

    def batch(self, indices: Sequence[int], length: int | None = None) -> dict[str, Tensor]:
        """Return token ids, mask and fields of some texts, padded to `length` tokens or the longest of them."""
        inputs = collate([self.ids[index] for index in indices], self.pad_id, length)
        width = inputs["input_ids"].shape[1]
        return inputs | {name: one.batch(indices, width) for name, one in self.fields.items()}


class EvaluationData(Protocol):
    """Examples with a batch plan: token ids, or features that were extracted before."""

    @property
    def plan(self) -> BatchPlan:
        """The batches."""

    def batch(self, indices: Sequence[int], length: int | None = None) -> dict[str, Tensor]:
        """Return the model's inputs for some examples, padded to `length` tokens."""


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> Encoded:
    """Tokenise `texts` and plan their batches."""
    return plan_tokens(tokenizer, token_ids(tokenizer, texts, max_length))


def plan_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[list[int]]) -> Encoded:
    """Plan the batches of texts whose token ids are known."""
    if isinstance(ids, TokenRows):
        return Encoded(ids, evaluation_plan(ids.lengths), tokenizer.pad_token_id)
    return Encoded(tuple(ids), evaluation_plan([len(row) for row in ids]), tokenizer.pad_token_id)
