"""Greedy decoding: the most probable word, again and again, with the keys and values of what stands already.

Prompts are padded on the right. A causal model's tokens don't see what follows them, and what is written gets
explicit positions and a mask over the padding; so a row's answer depends on that row alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from limpet.training.base.lm_head import LanguageHead, inner_model

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["greedy", "is_plain"]

_Step = Callable[[Tensor], Tensor]


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
            hidden, step = _begin_pair(module, input_ids, attention_mask)
        else:
            begun = _begin_decoder(module, input_ids, attention_mask)
            if begun is None:
                alone = [
                    greedy(module, head, ids, attention_mask=mask, stops=stops, max_new_tokens=max_new_tokens)
                    for ids, mask in _one_by_one(input_ids, attention_mask)
                ]
                return [answer for (answer,), _ in alone], torch.cat([first for _, first in alone])
            hidden, step = begun
        return _write(hidden, step, head, words=_words(module), stops=stops, limit=max_new_tokens)


def is_plain(cache: Cache) -> bool:
    """Tell whether every layer of a cache keeps keys and values of all tokens, so that a mask can leave some out."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in getattr(cache, "layers", (None,)))


def _words(module: PreTrainedModel) -> Tensor:
    words: Tensor = inner_model(module).get_input_embeddings().weight
    return words


def _write(
    hidden: Tensor, step: _Step, head: LanguageHead, *, words: Tensor, stops: frozenset[int], limit: int
) -> tuple[list[list[int]], Tensor]:
    """Take hidden states (batch, hidden) of the last tokens; `step` gives those of the next ones."""
    written: list[list[int]] = [[] for _ in range(hidden.shape[0])]
    ended: set[int] = set()
    logits = first = head(hidden, words)
    for count in range(1, limit + 1):
        chosen = logits.argmax(dim=-1)
        for row, token in enumerate(chosen.tolist()):
            if token in stops:
                ended.add(row)
            elif row not in ended:
                written[row].append(token)
        if count == limit or len(ended) == len(written):
            break
        logits = head(step(chosen), words)
    return written, first


def _begin_decoder(module: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, _Step] | None:
    """Read the prompts; null where the cache forgets or mixes tokens, and can't hold padded rows."""
    batch, width = input_ids.shape
    output = module(input_ids=input_ids, attention_mask=mask, use_cache=True)
    cache = output.past_key_values
    if not is_plain(cache) and not bool(mask.all()):
        return None
    lengths = mask.sum(dim=1)
    # a prefix or prompt stands in front and takes positions too
    virtual = cache.get_seq_length() - width
    rows = torch.arange(batch, device=input_ids.device)
    hidden = output.last_hidden_state[:, -width:][rows, lengths - 1]
    state = {"mask": torch.cat([mask.new_ones(batch, virtual), mask], dim=1), "positions": virtual + lengths}
    inner = inner_model(module)
    numbered = "position_ids" in inspect.signature(type(inner).forward).parameters

    def step(tokens: Tensor) -> Tensor:
        state["mask"] = torch.cat([state["mask"], mask.new_ones(batch, 1)], dim=1)
        places = {"position_ids": state["positions"].unsqueeze(1)} if numbered else {}
        following = inner(
            input_ids=tokens.unsqueeze(1),
            attention_mask=state["mask"],
            past_key_values=cache,
            use_cache=True,
            **places,
        )
        state["positions"] = state["positions"] + 1
        last: Tensor = following.last_hidden_state[:, -1]
        return last

    return hidden, step


def _begin_pair(module: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, _Step]:
    """Read the prompts with the encoder, and begin to write with the decoder."""
    inner = inner_model(module)
    start = torch.full_like(input_ids[:, :1], inner.config.decoder_start_token_id)
    output = module(input_ids=input_ids, attention_mask=mask, decoder_input_ids=start, use_cache=True)
    encoded, cache = output.encoder_last_hidden_state, output.past_key_values
    virtual = mask.new_ones(mask.shape[0], encoded.shape[1] - mask.shape[1])
    whole = torch.cat([virtual, mask], dim=1)

    def step(tokens: Tensor) -> Tensor:
        following = inner(
            encoder_outputs=(encoded,),
            attention_mask=whole,
            decoder_input_ids=tokens.unsqueeze(1),
            past_key_values=cache,
            use_cache=True,
        )
        last: Tensor = following.last_hidden_state[:, -1]
        return last

    return output.last_hidden_state[:, -1], step


def _one_by_one(input_ids: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for row, kept in zip(input_ids, mask.bool(), strict=True):
        alone = row[kept].unsqueeze(0)
        yield alone, torch.ones_like(alone)
