"""The tensors of a peft folder, told apart: the adapter of the backbone alone, a head, and copies of the base's own.

peft saves with an adapter what its maker's class had besides the backbone, and, where the adapter changes the word
embeddings, the base's own matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limpet.training.base.backbone import Backbone

__all__ = ["PREFIX", "Unwrapped", "unwrap"]

PREFIX = "base_model.model."
"""What peft puts before the names of a model's modules."""
_HEADS = ("classifier", "score")
_BASE_LAYER = ".base_layer."
_ADAPTED = ("lora_", "ia3_", "hada_", "lokr_", "oft_", "vera_", "boft_")


@dataclass
class Unwrapped:
    """What a folder's tensors are.

    Attributes:
        prefix: What the class that the adapter was made on puts before the base's names, such as `model.`.
        adapter: The adapter's own tensors, named as peft names an adapter of the backbone alone.
        head: The tensors of a sequence or token classifier, without the head's name.
        copies: Names of tensors that are the base's own, and are left away.
        problems: What can't be taken over.
    """

    prefix: str
    adapter: dict[str, Tensor] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def unwrap(tensors: Mapping[str, Tensor], backbone: Backbone) -> Unwrapped:
    """Tell the tensors of a peft folder apart.

    Args:
        tensors: As they were saved.
        backbone: The base that the adapter must fit.
    """
    parts = Unwrapped(_prefix(tensors, backbone))
    own = dict(backbone.model.named_parameters())
    inner = {name.split(".")[0] for name in own}
    for name in sorted(tensors):
        tensor, short = tensors[name], name.removeprefix(PREFIX)
        first = short.split(".")[0]
        if short == name:
            # a prompt has no place in the model
            parts.adapter[name] = tensor
        elif first in _HEADS and first not in inner and not _is_adapted(short):
            parts.head[short.split(".", 1)[1]] = tensor
        elif not short.startswith(parts.prefix) and first not in inner:
            _outside(short, tensor, backbone, parts=parts)
        else:
            bare = short.removeprefix(parts.prefix)
            copied = own.get(bare.replace(_BASE_LAYER, "."))
            if copied is None or _is_adapted(bare):
                parts.adapter[PREFIX + bare] = tensor
            elif _same(tensor, copied):
                parts.copies.append(short)
            else:
                parts.problems.append(
                    f"it brings {short}, which is not the base's own: it was trained along, or the base is another"
                )
    return parts


def _prefix(tensors: Mapping[str, Tensor], backbone: Backbone) -> str:
    """What stands before the base's own names in all tensors of the backbone; empty where nothing does."""
    inner = f"{backbone.model.base_model_prefix}."
    own = {name for name, _ in backbone.model.named_modules()}
    wrapped = [name.removeprefix(PREFIX) for name in tensors if name.startswith(PREFIX + inner)]
    # some backbones have a part of that name themselves
    return inner if wrapped and not any(".".join(name.split(".")[:2]) in own for name in wrapped) else ""


def _outside(short: str, tensor: Tensor, backbone: Backbone, *, parts: Unwrapped) -> None:
    """Judge a tensor of a part that the backbone does not have."""
    lm_head = backbone.lm_head
    matrix = None
    if lm_head is not None:
        matrix = backbone.model.get_input_embeddings().weight if lm_head.weight is None else lm_head.weight
    if not _is_adapted(short) and matrix is not None and _same(tensor, matrix):
        parts.copies.append(short)
    elif _is_adapted(short):
        parts.problems.append(
            f"it changes {short.split('.lora_')[0][:80]}, which is no part of the backbone: the language-model head "
            "belongs to the base, and other heads to the task"
        )
    else:
        parts.problems.append(f"it brings {short[:80]}, a tensor of a head that limpet can't take over")


def _is_adapted(name: str) -> bool:
    return any(part.startswith(_ADAPTED) for part in name.split("."))


def _same(tensor: Tensor, own: Tensor) -> bool:
    """Tell whether a tensor is the base's own, as it was or rounded to the dtype that it is saved in."""
    kept = own.detach().to(device=tensor.device, dtype=tensor.dtype)
    return tensor.shape == own.shape and bool(torch.equal(tensor, kept))
