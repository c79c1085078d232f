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
from limpet.training.methods._saved_norms import is_norm, no_norms, wrapped_by

__all__ = ["PREFIX", "Unwrapped", "is_same", "unwrap"]

PREFIX = "base_model.model."
"""What peft puts before the names of a model's modules."""
_HEADS = ("classifier", "score")
# what peft puts between a module and its weight where it wrapped the module
_WRAPPINGS = (".base_layer.", ".modules_to_save.", ".original_module.")
_ADAPTED = ("lora_", "ia3_", "hada_", "lokr_", "oft_", "vera_", "boft_")


@dataclass
class Unwrapped:
    """What a folder's tensors are.

    Attributes:
        prefix: What the class that the adapter was made on puts before the base's names, such as `model.`.
        adapter: The adapter's own tensors, named as peft names an adapter of the backbone alone.
        head: The tensors of a sequence or token classifier, without the head's name.
        copies: Names of tensors that are the base's own, and are left away.
        norms: Trained copies of the base's norms, by the base's names of their tensors.
        modules_to_save: The norms that the adapter has copies of, as peft's configuration names them.
        problems: What can't be taken over.
        trains_words: Whether a whole matrix of words was trained along.
    """

    prefix: str
    adapter: dict[str, Tensor] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    norms: dict[str, Tensor] = field(default_factory=dict)
    modules_to_save: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    trains_words: bool = False

    def add_problem(self, problem: str) -> None:
        """Keep a problem once: a layer has two tensors of an adapter, or its own under two names."""
        if problem not in self.problems:
            self.problems.append(problem)


def unwrap(tensors: Mapping[str, Tensor], backbone: Backbone, *, keeps_norms: bool) -> Unwrapped:
    """Tell the tensors of a peft folder apart.

    Args:
        tensors: As they were saved.
        backbone: The base that the adapter must fit.
        keeps_norms: Whether an adapter of this kind can have copies of norms.
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
            copied = own.get(_unwrapped(bare))
            if copied is None or _is_adapted(bare):
                parts.adapter[PREFIX + bare] = tensor
            elif is_same(tensor, copied):
                parts.copies.append(short)
            elif keeps_norms and tensor.shape == copied.shape and _is_of_norm(_unwrapped(bare), backbone):
                parts.norms[_unwrapped(bare)] = tensor
            else:
                parts.add_problem(f"it brings {_unwrapped(short)}, {_difference(tensor, copied)}")
                parts.trains_words |= copied is backbone.model.get_input_embeddings().weight
    if parts.norms:
        _keep_norms(parts, backbone)
    return parts


def _is_of_norm(name: str, backbone: Backbone) -> bool:
    return is_norm(backbone.model.get_submodule(name.rpartition(".")[0]))


def _keep_norms(parts: Unwrapped, backbone: Backbone) -> None:
    """Make trained norms a part of the adapter, whole, with the others that peft can't tell from them."""
    entries = sorted({name.rpartition(".")[0] for name in parts.norms})
    if why := no_norms(entries, backbone.model):
        parts.add_problem(f"it brings trained norms ({entries[0]}), and peft's modules_to_save {why}")
        return
    parts.modules_to_save = entries
    for module in wrapped_by(entries, backbone.model):
        for leaf, own in backbone.model.get_submodule(module).named_parameters():
            name = f"{module}.{leaf}"
            parts.adapter[PREFIX + name] = parts.norms.get(name, own.detach().cpu().clone())
            parts.copies = [copy for copy in parts.copies if _unwrapped(copy).removeprefix(parts.prefix) != name]


def _unwrapped(name: str) -> str:
    for wrapping in _WRAPPINGS:
        name = name.replace(wrapping, ".")
    return name


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
    if _is_adapted(short):
        parts.add_problem(
            f"it changes {short.split('.lora_')[0][:80]}, which is no part of the backbone: the language-model head "
            "belongs to the base, and other heads to the task"
        )
    elif matrix is not None and is_same(tensor, matrix):
        parts.copies.append(short)
    elif matrix is not None and short.endswith(".weight") and tensor.shape[1:] == matrix.shape[1:]:
        parts.add_problem(f"it brings {_unwrapped(short)[:80]}, {_difference(tensor, matrix)}")
        parts.trains_words = True
    else:
        parts.add_problem(f"it brings {short[:80]}, a tensor of a head that limpet can't take over")


def _difference(tensor: Tensor, own: Tensor) -> str:
    """Say how a tensor differs from the base's own of that name."""
    if tensor.shape[1:] == own.shape[1:] and len(tensor) != len(own):
        return (
            f"which has {len(tensor)} rows, and the base's has {len(own)}: words were added to its vocabulary, or it "
            "was cut, and the base stays as it is"
        )
    if tensor.dim() == 2 and tensor.shape == own.shape:
        rows = int((tensor != own.detach().to(device=tensor.device, dtype=tensor.dtype)).any(dim=1).sum())
        return (
            f"which is not the base's own ({rows} of {len(own)} rows differ): it was trained along, or the base is "
            "another"
        )
    return "which is not the base's own: it was trained along, or the base is another"


def _is_adapted(name: str) -> bool:
    return any(part.startswith(_ADAPTED) for part in name.split("."))


def is_same(tensor: Tensor, own: Tensor) -> bool:
    """Tell whether a tensor is the base's own: as it was, or rounded to what it was trained or is saved in."""
    if tensor.shape != own.shape:
        return False
    own = own.detach().to(tensor.device)
    return any(
        torch.equal(tensor, own.to(dtype).to(tensor.dtype)) for dtype in (tensor.dtype, torch.bfloat16, torch.float16)
    )
