"""Whether texts can share rows in front of a model: found by trying, at the start of a training."""

from __future__ import annotations

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.training.base.lm_head import inner_model
from limpet.training.batching.batches import evaluation_plan, on_device
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.packing import PackedTexts
from limpet.training.model.task_model import TaskModel

__all__ = ["check_packing"]

_LENGTHS = (11, 9, 8, 6, 5, 2)
_ROOM = 24
_TOLERANCE = 1e-4
"""Of the largest hidden state; what a text sees of another changes it by much more."""


def check_packing(model: TaskModel) -> None:
    """Refuse a model that gives texts other hidden states in a row that they share than in rows of their own.

    Such are models whose state runs on from one text to the next, and those that take the places of tokens from
    elsewhere than their positions.

    Args:
        model: The backbone with a method attached, which computes in float32.

    Raises:
        UsageError: Texts that share a row see each other, or lose their places.
    """
    inner = inner_model(model.module)
    words, generator = inner.get_input_embeddings().weight, torch.Generator().manual_seed(0)
    ids = [torch.randint(len(words), (length,), generator=generator).tolist() for length in _LENGTHS]
    texts = Encoded(ids, evaluation_plan(_LENGTHS), 0)
    packed = PackedTexts(texts, _ROOM)
    every = range(len(ids))
    model.eval()

    def hidden(batch: dict[str, Tensor]) -> Tensor:
        states: Tensor = model.hidden(**on_device(batch, words.device)).last_hidden_state
        return states

    with torch.no_grad():
        alone = [hidden(texts.batch([at]))[0, : len(ids[at])] for at in every]
        try:
            shared = hidden(packed.batch(every))
        # whatever an architecture says where it can't
        except Exception as error:
            raise _refused(model, f"computes nothing where they do ({type(error).__name__})") from error
    largest = max(float(states.abs().max()) for states in alone)
    for row, states in zip(packed.rows(every), shared, strict=True):
        apart = states[: sum(len(ids[at]) for at in row)] - torch.cat([alone[at] for at in row])
        if not float(apart.abs().max()) <= _TOLERANCE * largest:
            raise _refused(model, "lets them see each other there, or takes their places from elsewhere")


def _refused(model: TaskModel, why: str) -> UsageError:
    kind = inner_model(model.module).config.model_type
    return UsageError(f"Texts can't share a row in front of this base: {kind} {why}.", "leave out --packing")
