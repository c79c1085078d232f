"""Norms that an adapter has copies of: the modules that peft's `modules_to_save` wraps, and those that it may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

__all__ = ["is_norm", "no_norms", "wrapped_by"]


def is_norm(module: nn.Module) -> bool:
    """Tell whether a module is made of vectors alone, as norms are: no matrix, no buffer, and no module in it."""
    vectors = [parameter.dim() == 1 for parameter in module.parameters()]
    return bool(vectors) and all(vectors) and not any(module.children()) and not any(module.buffers())


def wrapped_by(entries: Iterable[str], model: nn.Module) -> list[str]:
    """Return the modules that peft wraps for these entries of `modules_to_save`.

    peft compares the ends of names, in the middle of a word too: `norm` is the last norm of a Llama, and hits its
    `layers.0.input_layernorm`.
    """
    ends = tuple(entries)
    return [name for name, _ in model.named_modules(remove_duplicate=False) if name.endswith(ends)]


def no_norms(entries: Sequence[str], model: nn.Module) -> str:
    """Say why these can't be the `modules_to_save` of an adapter; nothing where they are norms of the model."""
    names = wrapped_by(entries, model)
    if not names:
        return "names no module of this base"
    others = [name for name in names if not is_norm(model.get_submodule(name))]
    return f"names {others[0]}, and only norms can be kept with an adapter" if others else ""
