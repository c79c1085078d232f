"""Activation checkpointing: a layer keeps its inputs alone, and computes again in the backward pass what it needs.

Memory then grows by one layer's activations and each layer's inputs, and a step computes the forward pass twice
(Chen et al. 2016, arXiv 1604.06174). transformers does so in training mode only; here the layers of the frozen base
are always in evaluation mode, so that no dropout acts in them, and are wrapped for the length of a training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from limpet.errors import UsageError
from limpet.training.base.lm_head import inner_model
from limpet.training.model.task_model import TaskModel

__all__ = ["activation_checkpointing"]


@contextmanager
def activation_checkpointing(model: TaskModel) -> Iterator[None]:
    """Let every layer that gradients pass keep its inputs alone, for the length of a `with` block.

    Gradients are those without it, bit by bit: the same products are computed from the same inputs.

    Args:
        model: The backbone with a method attached.

    Raises:
        UsageError: The architecture has no such layers, or the method gives them what can't be given twice.
    """
    inner = inner_model(model.module)
    passed_once = [] if model.lower is None else list(model.lower.frozen)
    layers = [
        layer
        for layer in inner.modules()
        if isinstance(layer, GradientCheckpointingLayer) and not any(layer is frozen for frozen in passed_once)
    ]
    peft_type = getattr(getattr(model.module, "active_peft_config", None), "peft_type", None)
    if getattr(peft_type, "value", peft_type) == "PREFIX_TUNING":
        raise UsageError(
            "A prefix is added to the keys and values of a layer as it computes, so the layer can't compute again.",
            "leave out --checkpointing, or choose another method",
        )
    if not layers:
        raise UsageError(
            f"{inner.config.model_type} models have no layers that transformers can checkpoint.",
            "leave out --checkpointing",
        )
    # an encoder-decoder's halves have configurations of their own
    configs = {id(part.config): part.config for part in inner.modules() if hasattr(part, "config")}
    caching = [config for config in configs.values() if getattr(config, "use_cache", False)]
    try:
        # what is computed twice would be put into a cache twice
        for config in caching:
            config.use_cache = False
        for layer in layers:
            layer.forward = _computed_again(layer.forward)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
        for config in caching:
            config.use_cache = True


def _computed_again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    return run
