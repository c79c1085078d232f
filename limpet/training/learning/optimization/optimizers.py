"""Optimizers: AdamW with states of 32 bits, or of 8 bits by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from limpet.training.base.holding.library import bitsandbytes

__all__ = ["OPTIMIZERS", "kept_state", "new_optimizer", "needs_library", "restore_state"]

OPTIMIZERS = ("adamw", "adamw-8bit")
# what states of 8 bits stand for: the same two tables for all parameters, by what their library calls them
_TABLES = {"qmap1": "dynamic", "qmap2": "udynamic"}


def needs_library(name: str) -> None:
    """Make sure that the library of an optimizer is there, if it is of one.

    Raises:
        UnavailableError: It is not installed.
    """
    if name == "adamw-8bit":
        bitsandbytes("The optimizer adamw-8bit")


def new_optimizer(
    name: str, groups: Iterable[dict[str, Any]], *, learning_rate: float, fused: bool
) -> torch.optim.Optimizer:
    """Return an optimizer without a state: AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).

    With `adamw-8bit`, both moments of a parameter with 4,096 numbers or more are kept in 8 bits each, in blocks of
    256 with a scale of their own (Dettmers et al. 2022, arXiv 2110.02861); those of smaller ones stay in 32 bits.

    Args:
        name: One of `OPTIMIZERS`.
        groups: Parameters with the weight decay that is theirs.
        learning_rate: In every group.
        fused: Whether AdamW passes once over each weight; in 8 bits it has but one way.

    Raises:
        UnavailableError: Its library is not installed.
    """
    if name == "adamw-8bit":
        library = bitsandbytes("The optimizer adamw-8bit")
        optimizer: torch.optim.Optimizer = library.optim.AdamW8bit(list(groups), lr=learning_rate)
        return optimizer
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)


def kept_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what a checkpoint keeps of an optimizer's state of one parameter; numbers become tensors."""
    return {
        key: value if isinstance(value, Tensor) else torch.tensor(value)
        for key, value in state.items()
        if key not in _TABLES
    }


def restore_state(optimizer: torch.optim.Optimizer, parameter: Tensor, kept: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state of one parameter that `kept_state` had returned."""
    state = optimizer.state[parameter]
    if "state1" not in kept:
        # torch keeps step counters on the CPU, unless its fused kernel counts
        fused = bool(optimizer.param_groups[0].get("fused"))
        for key, tensor in kept.items():
            state[key] = tensor.to(parameter.device if fused or tensor.dim() else tensor.device)
        return
    for key, tensor in kept.items():
        state[key] = tensor.to(parameter.device) if tensor.dim() else tensor.item()
    if "absmax1" in kept:
        tables: dict[str, Tensor] = vars(optimizer)["name2qmap"]
        for key, table in _TABLES.items():
            state[key] = tables[table] = tables[table].to(parameter.device)
