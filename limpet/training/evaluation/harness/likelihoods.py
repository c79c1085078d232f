"""How probable a model finds the ends of token sequences, and whether it would write them itself.

A sequence that several requests read, such as a question with answers of one token each, is read once. Logits over
all words are made of the tokens alone that are asked for, a few hundred at a time, so that memory stays flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from limpet.training.batching.batches import collate, evaluation_plan, on_device
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import Progress

__all__ = ["Request", "likelihoods"]

_LOGITS_AT_ONCE = 256
"""Tokens with logits over all words: 50 MB of float32 for 50,000 words."""


@dataclass(frozen=True)
class Request:
    """What is read, without the last token; and the tokens at its end that are asked for, the last among them."""

    read: tuple[int, ...]
    asked: tuple[int, ...]


def likelihoods(
    model: TaskModel, requests: Sequence[Request], *, pad_id: int, device: torch.device, progress: Progress
) -> list[tuple[float, bool]]:
    """Return for each request the log-likelihood of its tokens, and whether each is the most probable one.

    Args:
        model: The model, with the head of a base's words.
        requests: What is read and asked for.
        pad_id: The token that fills rows up.
        device: Where the model is.
        progress: Receives every batch.
    """
    readers: dict[tuple[int, ...], list[int]] = {}
    for place, request in enumerate(requests):
        readers.setdefault(request.read, []).append(place)
    rows = list(readers)
    plan = evaluation_plan([len(row) for row in rows], device=device.type)
    sums, misses = torch.zeros(len(requests), dtype=torch.float64), torch.zeros(len(requests), dtype=torch.int64)
    done = 0
    for batch, length in zip(plan.batches, plan.lengths, strict=True):
        inputs = on_device(collate([rows[index] for index in batch], pad_id, length), device)
        # virtual tokens stand in front
        hidden = model.hidden(**inputs).last_hidden_state[:, -length:].flatten(0, 1)
        asked = [
            (at * length + len(rows[index]) - len(requests[place].asked) + step, token, place)
            for at, index in enumerate(batch)
            for place in readers[rows[index]]
            for step, token in enumerate(requests[place].asked)
        ]
        places, tokens, owners = (torch.tensor(column) for column in zip(*asked, strict=True))
        found, is_first = _of_tokens(model, hidden, places, tokens=tokens)
        sums.index_add_(0, owners, found)
        misses.index_add_(0, owners, (~is_first).long())
        done += sum(len(readers[rows[index]]) for index in batch)
        progress.advance(done)
    return list(zip(sums.tolist(), (misses == 0).tolist(), strict=True))


def _of_tokens(model: TaskModel, hidden: Tensor, places: Tensor, *, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-likelihood of each token after a place of `hidden`, and whether it is the most probable."""
    found, is_first = torch.empty(len(places), dtype=torch.float64), torch.empty(len(places), dtype=torch.bool)
    distinct, row_of = torch.unique(places, return_inverse=True)
    for start in range(0, len(distinct), _LOGITS_AT_ONCE):
        part = distinct[start : start + _LOGITS_AT_ONCE].to(hidden.device)
        scores = log_softmax(model.head.score(hidden[part]).float(), dim=-1)
        here = ((row_of >= start) & (row_of < start + len(part))).nonzero().squeeze(1)
        rows, columns = (row_of[here] - start).to(scores.device), tokens[here].to(scores.device)
        found[here] = scores[rows, columns].double().cpu()
        is_first[here] = (scores.argmax(dim=-1)[rows] == columns).cpu()
    return found, is_first
