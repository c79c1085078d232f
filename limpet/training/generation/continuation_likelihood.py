"""Likelihoods of continuations: how probable the base finds some words after a text, with a beginning that is shared.

What all texts have in front of them is read once; its keys and values serve every text. The sums are those of a run
over each whole sequence, up to the order of additions in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from limpet.training.base.lm_head import LanguageHead, inner_model
from limpet.training.batching.batches import collate, on_device

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["Continuations"]


class Continuations:
    """Scores the same continuations after every text: log p(continuation | beginning, text), summed over its tokens.

    Args:
        module: A decoder, or a method's module around it, in evaluation mode.
        head: Its language-model head.
        beginning: Token ids in front of every text; may be empty.
        continuations: Token ids of every continuation, at least one each.
        reuse: Read the beginning once; without it, every sequence is read as a whole.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        head: LanguageHead,
        beginning: Sequence[int],
        *,
        continuations: Sequence[Sequence[int]],
        reuse: bool = True,
    ) -> None:
        self._module = module
        self._model = inner_model(module)
        self._head = head
        self._beginning = list(beginning)
        self._continuations = [list(ids) for ids in continuations]
        self._cache: Cache | None = None
        self._virtual = 0  # positions that the method takes in front of everything
        self._reuse = reuse and "position_ids" in inspect.signature(type(self._model).forward).parameters

    def scores(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return log-likelihoods (batch, continuations) in float32.

        Args:
            input_ids: Texts (batch, length), padded on the right, at least one token each.
            attention_mask: Where they are not padding (batch, length).
        """
        with torch.inference_mode():
            if self._reuse and self._read_beginning():
                return self._after_beginning(input_ids, attention_mask)
            return self._whole(input_ids, attention_mask)

    @property
    def _words(self) -> Tensor:
        words: Tensor = self._model.get_input_embeddings().weight
        return words

    def _read_beginning(self) -> bool:
        """Read what is in front of all texts; false where this base's cache can't be shared."""
        if self._cache is None:
            # an empty beginning is read as one token, to see what kind of cache the base makes
            ids = torch.tensor([self._beginning or [0]], device=self._model.device)
            mask = torch.ones_like(ids)
            self._cache = self._module(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
            from limpet.training.generation.written_rows import is_plain

            self._reuse = is_plain(self._cache)
            if self._reuse:
                self._virtual = self._cache.get_seq_length() - ids.shape[1]
        return self._reuse

    def _after_beginning(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        batch, width = input_ids.shape
        front, lengths = self._virtual + len(self._beginning), mask.sum(dim=1)
        whole = torch.cat([mask.new_ones(batch, front), mask], dim=1)
        if self._beginning:
            output = self._model(
                input_ids=input_ids,
                attention_mask=whole,
                position_ids=front + torch.arange(width, device=mask.device).expand(batch, width),
                past_key_values=_repeated(self._cache, batch),
                use_cache=True,
            )
        else:
            output = self._module(input_ids=input_ids, attention_mask=mask, use_cache=True)
        hidden = output.last_hidden_state[:, -width:]
        rows = torch.arange(batch, device=mask.device)
        first = log_softmax(self._head(hidden[rows, lengths - 1], self._words), dim=-1)
        columns = [first[:, ids[0]] for ids in self._continuations]
        for at, ids in enumerate(self._continuations):
            if len(ids) > 1:
                columns[at] = columns[at] + self._rest(output.past_key_values, whole, front + lengths, ids=ids)
        return torch.stack(columns, dim=1)

    def _rest(self, cache: Cache, mask: Tensor, lengths: Tensor, *, ids: list[int]) -> Tensor:
        """Return log p of all tokens but the first (batch,), given the cache of everything before them."""
        batch, count = mask.shape[0], len(ids) - 1
        tokens = torch.tensor(ids[:-1], device=mask.device).expand(batch, count)
        places = lengths.unsqueeze(1) + torch.arange(count, device=mask.device)
        hidden = self._model(
            input_ids=tokens,
            attention_mask=torch.cat([mask, mask.new_ones(batch, count)], dim=1),
            position_ids=places,
            past_key_values=_repeated(cache, 1),
            use_cache=True,
        ).last_hidden_state
        following = torch.tensor(ids[1:], device=mask.device).expand(batch, count)
        log_probabilities = log_softmax(self._head(hidden, self._words), dim=-1).gather(2, following.unsqueeze(2))
        return log_probabilities.sum(dim=(1, 2))

    def _whole(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Read every text with every continuation from its first token on."""
        texts = [row[kept].tolist() for row, kept in zip(input_ids, mask.bool(), strict=True)]
        columns = []
        for ids in self._continuations:
            sequences = [[*self._beginning, *text, *ids] for text in texts]
            inputs = on_device(collate(sequences, 0), input_ids.device)
            hidden = self._module(**inputs).last_hidden_state[:, -inputs["input_ids"].shape[1] :]
            ends = torch.tensor([len(row) for row in sequences], device=input_ids.device)
            # the token before gives the probability of the next
            places = (ends - len(ids) - 1).unsqueeze(1) + torch.arange(len(ids), device=input_ids.device)
            before = hidden.gather(1, places.unsqueeze(2).expand(-1, -1, hidden.shape[2]))
            following = torch.tensor(ids, device=input_ids.device).expand(len(texts), len(ids)).unsqueeze(2)
            columns.append(log_softmax(self._head(before, self._words), dim=-1).gather(2, following).sum(dim=(1, 2)))
        return torch.stack(columns, dim=1)


def _empty() -> Cache:
    from transformers import DynamicCache

    return DynamicCache()


def _repeated(cache: Cache, times: int) -> Cache:
    """Return a cache of its own with every row `times` times: what is read after it leaves the first as it is."""
    copy = _empty()
    for at, layer in enumerate(cache.layers):
        copy.update(layer.keys.repeat_interleave(times, 0), layer.values.repeat_interleave(times, 0), at)
    return copy
