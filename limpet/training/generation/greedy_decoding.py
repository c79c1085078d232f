"""Greedy decoding: the most probable word, again and again, with the keys and values of what stands already.

Prompts are padded on the right. A causal model's tokens don't see what follows them, and what is written gets
explicit positions and a mask over the padding; so a row's answer depends on that row alone, up to rounding.

Prompts are read in parts of as many tokens as a device computes at once, and written all together: a word's time is
that of reading the weights, nearly however many rows get one. What many rows begin with, such as an instruction, is
read once. Rows that ended are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from limpet.training.base.lm_head import LanguageHead, inner_model
from limpet.training.batching.batches import PAD_TO, max_tokens_per_microbatch, microbatches
from limpet.training.generation.written_rows import WrittenRows, expanded, fused, is_numbered, is_plain

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPast

__all__ = ["greedy"]

_MANY = 8
"""Rows from which on more is done to be fast. Fewer are computed as ever: reference outputs are bits of fewer."""
_SHARED_FROM = 8
"""Tokens; less of a common beginning gains nothing."""
_LEFT = 0.75
"""When no more than this share of the rows is still being written, the others are left out, which is a copy."""


class _Rows(Protocol):
    """Rows that are being written."""

    def step(self, tokens: Tensor) -> Tensor:
        """Write a token into each row (rows,), and return the hidden states (rows, hidden) that follow from it."""

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all rows but these, by their indices."""


def greedy(
    module: PreTrainedModel,
    head: LanguageHead,
    input_ids: Tensor,
    *,
    attention_mask: Tensor,
    stops: frozenset[int],
    max_new_tokens: int,
) -> tuple[list[list[int]], Tensor]:
    """Write after every prompt until a token of `stops` comes, or `max_new_tokens` are written.

    Args:
        module: The base, or a method's module around it, in evaluation mode.
        head: The base's language-model head.
        input_ids: Prompts (batch, length), padded on the right.
        attention_mask: Where they are not padding (batch, length).
        stops: Tokens that end an answer; they are not part of it.
        max_new_tokens: The longest answer.

    Returns:
        The token ids of every answer, and the logits (batch, words) of the first word of each.
    """
    with torch.inference_mode():
        if inner_model(module).config.is_encoder_decoder:
            begun = _begin_pair(module, input_ids, attention_mask)
        else:
            decoder = _begin_decoder(module, input_ids, attention_mask, room=max_new_tokens)
            if decoder is None:
                alone = [
                    greedy(module, head, ids, attention_mask=mask, stops=stops, max_new_tokens=max_new_tokens)
                    for ids, mask in _one_by_one(input_ids, attention_mask)
                ]
                return [answer for (answer,), _ in alone], torch.cat([first for _, first in alone])
            begun = decoder
        return _write(*begun, head, words=_words(module), stops=stops, limit=max_new_tokens)


def _words(module: PreTrainedModel) -> Tensor:
    words: Tensor = inner_model(module).get_input_embeddings().weight
    return words


def _write(
    hidden: Tensor, rows: _Rows, head: LanguageHead, *, words: Tensor, stops: frozenset[int], limit: int
) -> tuple[list[list[int]], Tensor]:
    """Take hidden states (batch, hidden) of the last tokens; `rows` gives those of the next ones."""
    written: list[list[int]] = [[] for _ in range(hidden.shape[0])]
    # which answers the rows write, and which of them have not ended
    there = list(range(len(written)))
    writing = set(there)
    logits = first = head(hidden, words)
    for count in range(1, limit + 1):
        chosen = logits.argmax(dim=-1)
        for row, token in zip(there, chosen.tolist(), strict=True):
            if token in stops:
                writing.discard(row)
            elif row in writing:
                written[row].append(token)
        if count == limit or not writing:
            break
        if len(there) >= _MANY and len(writing) <= _LEFT * len(there):
            kept = [at for at, row in enumerate(there) if row in writing]
            rows.keep(kept)
            there, chosen = [there[at] for at in kept], chosen[kept]
        logits = head(rows.step(chosen), words)
    return written, first


def _begin_decoder(
    module: PreTrainedModel, input_ids: Tensor, mask: Tensor, *, room: int
) -> tuple[Tensor, _Rows] | None:
    """Read the prompts; null where the cache forgets or mixes tokens, and can't hold padded rows."""
    reader = _Reader(module, input_ids, mask)
    lengths = mask.sum(dim=1)
    hidden: Tensor | None = None
    rows: WrittenRows | None = None
    for part in reader.parts(lengths):
        last, cache = reader.read(part)
        if not is_plain(cache):
            return (last, _AsItIs(inner_model(module), cache)) if len(input_ids) == 1 else None
        if rows is None or hidden is None:
            whole = torch.cat([mask.new_ones(len(mask), reader.virtual), mask], dim=1)
            many = len(input_ids) >= _MANY
            rows = WrittenRows(inner_model(module), whole, room=room - 1, fused=many)
            hidden = last.new_empty(len(input_ids), last.shape[1])
        rows.put(part, cache)
        hidden[part] = last
    assert hidden is not None and rows is not None
    return hidden, rows


class _Reader:
    """Reads prompts: what they begin with once, and the rest in parts.

    Attributes:
        virtual: How many positions the method takes in front of a text, known once something is read.
    """

    def __init__(self, module: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> None:
        self._module, self._model = module, inner_model(module)
        self._ids, self._mask = input_ids, mask
        self.virtual = 0
        self._shared: Cache | None = None
        self._front = self._common() if len(input_ids) >= _MANY and is_numbered(self._model) else 0
        if self._front >= _SHARED_FROM:
            ids = input_ids[:1, : self._front]
            cache = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True).past_key_values
            self._shared = cache if is_plain(cache) else None
            self.virtual = cache.get_seq_length() - self._front
        if self._shared is None:
            self._front = 0

    def _common(self) -> int:
        """Return with how many tokens all prompts begin, less than the shortest has."""
        differs = (self._ids != self._ids[:1]).any(dim=0)
        shortest = int(self._mask.sum(dim=1).min())
        return min(shortest - 1, int(differs.int().argmax()) if bool(differs.any()) else len(differs))

    def parts(self, lengths: Tensor) -> Iterator[Tensor]:
        """Give the rows that are read together, by their indices."""
        left = (lengths - self._front).tolist()
        most = max_tokens_per_microbatch(self._ids.device.type)
        for part in microbatches(left, range(len(left)), most):
            yield torch.tensor(part, device=self._ids.device)

    def read(self, part: Tensor) -> tuple[Tensor, Cache]:
        """Return the hidden states (rows, hidden) of some prompts' last tokens, and keys and values of all."""
        lengths = self._mask[part].sum(dim=1) - self._front
        width = min(-(-int(lengths.max()) // PAD_TO) * PAD_TO, self._ids.shape[1] - self._front)
        read = slice(self._front, self._front + width)
        ids, mask = self._ids[part, read], self._mask[part, read]
        if self._shared is None:
            output = self._module(input_ids=ids, attention_mask=mask, use_cache=True)
            self.virtual = output.past_key_values.get_seq_length() - width
        else:
            output = self._after_shared(ids, mask)
        hidden = output.last_hidden_state[:, -width:]
        last: Tensor = hidden[torch.arange(len(part), device=part.device), lengths - 1]
        return last, output.past_key_values

    def _after_shared(self, ids: Tensor, mask: Tensor) -> BaseModelOutputWithPast:
        rows, width = ids.shape
        front = self.virtual + self._front
        assert self._shared is not None
        with fused(self._model, True):
            output: BaseModelOutputWithPast = self._model(
                input_ids=ids,
                attention_mask=torch.cat([mask.new_ones(rows, front), mask], dim=1),
                position_ids=front + torch.arange(width, device=ids.device).expand(rows, width),
                past_key_values=expanded(self._shared, rows),
                use_cache=True,
            )
        return output


class _AsItIs:
    """A single row with the cache that its model makes, whatever that keeps."""

    def __init__(self, model: PreTrainedModel, cache: Cache) -> None:
        self._model, self._cache = model, cache

    def step(self, tokens: Tensor) -> Tensor:
        """See `_Rows.step`."""
        output = self._model(input_ids=tokens.unsqueeze(1), past_key_values=self._cache, use_cache=True)
        last: Tensor = output.last_hidden_state[:, -1]
        return last

    def keep(self, rows: Sequence[int]) -> None:
        """A single row is never left out."""


class _PairRows:
    """Rows that a decoder writes after what an encoder has read."""

    def __init__(self, model: PreTrainedModel, encoded: Tensor, *, mask: Tensor, cache: Cache) -> None:
        self._model, self._encoded, self._mask, self._cache = model, encoded, mask, cache

    def step(self, tokens: Tensor) -> Tensor:
        """See `_Rows.step`."""
        output = self._model(
            encoder_outputs=(self._encoded,),
            attention_mask=self._mask,
            decoder_input_ids=tokens.unsqueeze(1),
            past_key_values=self._cache,
            use_cache=True,
        )
        last: Tensor = output.last_hidden_state[:, -1]
        return last

    def keep(self, rows: Sequence[int]) -> None:
        """See `_Rows.keep`."""
        kept = torch.tensor(rows, device=self._mask.device)
        self._encoded, self._mask = self._encoded[kept], self._mask[kept]
        self._cache.batch_select_indices(kept)


def _begin_pair(module: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, _Rows]:
    """Read the prompts with the encoder, and begin to write with the decoder."""
    inner = inner_model(module)
    start = torch.full_like(input_ids[:, :1], inner.config.decoder_start_token_id)
    output = module(input_ids=input_ids, attention_mask=mask, decoder_input_ids=start, use_cache=True)
    encoded = output.encoder_last_hidden_state
    virtual = mask.new_ones(mask.shape[0], encoded.shape[1] - mask.shape[1])
    whole = torch.cat([virtual, mask], dim=1)
    return output.last_hidden_state[:, -1], _PairRows(inner, encoded, mask=whole, cache=output.past_key_values)


def _one_by_one(input_ids: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for row, kept in zip(input_ids, mask.bool(), strict=True):
        alone = row[kept].unsqueeze(0)
        yield alone, torch.ones_like(alone)
