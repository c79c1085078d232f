"""The head of plain text: how probable the base's own language-model head finds texts as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from limpet.training.batching.batches import evaluation_plan
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.examples import Example, flat_text
from limpet.training.heads.generation import GenerationConfig, GenerationHead

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PlainTextHead"]

_ROWS = 8
"""Texts that are read together: each of their tokens has a logit for every word."""


class PlainTextHead(GenerationHead):
    """Texts to their log-likelihoods and how many tokens those cover; there is no prompt and nothing is written.

    A decoder is asked for every token of a text after the first. An encoder-decoder reads the first half of a text's
    tokens and is asked for the second.
    """

    def __init__(self) -> None:
        super().__init__(GenerationConfig("generation", "none", 0, 0, 0.0, scores_targets=True))

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, *, learning: bool
    ) -> Encoded:
        """Turn texts into what is read and what is asked for; see `TrainableHead.encode`."""
        texts = [flat_text(example.text) for example in examples]
        limit = self._room(max_length, 0)
        pair = self._bound.start is not None
        rows = tokenizer(texts, add_special_tokens=not pair, truncation=True, max_length=limit, verbose=False)
        ids = [list(row) for row in rows["input_ids"]]
        parts = [len(row) // 2 if pair else 1 for row in ids]
        read = [row[:part] for row, part in zip(ids, parts, strict=True)]
        asked = [row[part:] for row, part in zip(ids, parts, strict=True)]
        encoded = self._with_answers(tokenizer, read, asked)
        return replace(encoded, plan=evaluation_plan(encoded.lengths, _ROWS), most=_ROWS)
