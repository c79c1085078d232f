"""A second set of a model's modules over the very same tensors: to attach to one what the other must not have."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["shared_copy"]


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model whose modules are its own and whose parameters and buffers are those of `model`.

    It takes next to no memory. A method that is attached to it replaces modules of the copy alone; what writes into a
    tensor would write into the model's.
    """
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
