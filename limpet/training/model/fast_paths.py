"""How a model's numbers are computed: by which of several graphs that amount to the same.

In bfloat16, products are computed by autocast and everything else (norms, sums, softmax) in float32. A frozen weight
gives the same product whether autocast casts it each time or it was cast once, so it is cast once. What is done
here changes the last bits of results at the most, and each optimization is disabled by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from limpet.errors import UsageError
from limpet.training import methods

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FUSED_FROM", "OPTIMIZATIONS", "check_optimizations", "describe", "fast_paths"]

OPTIMIZATIONS = {
    "cast-once": "frozen weights are kept in bfloat16 while products are computed in it",
    "quick-layers": "methods compute their layers by a cheaper graph, where they have one",
    "kept-layers": "texts pass the frozen layers below the lowest that is trained once, not in every epoch",
    "fused-attention": "attention is one fused product where no gradients are computed, from 48 tokens on",
    "fused-optimizer": "an optimizer's step is one pass over the weights",
    "token-budget": "a step of many tokens is computed in microbatches, so that memory does not grow with the texts",
}
"""What is done by default to be fast or small, by the name that disables it."""
FUSED_FROM = 48
"""Tokens in a row of a batch; shorter ones gain nothing by fused attention."""


def check_optimizations(disable: Collection[str]) -> None:
    """Refuse names of no optimization.

    Raises:
        UsageError: There is no optimization of that name.
    """
    if unknown := sorted(set(disable) - set(OPTIMIZATIONS)):
        raise UsageError(
            f"There is no optimization {unknown[0]!r} to disable.", f"there are {', '.join(OPTIMIZATIONS)}"
        )


def describe(method: methods.Method, config: Mapping[str, Any], dtype: str, *, disable: Collection[str] = ()) -> str:
    """Say what was chosen for a training by a method's configuration: dtype, threads, and what is done to be fast."""
    possible = {
        "cast-once": dtype == "bfloat16",
        "quick-layers": isinstance(method, methods.SupportsFastLayers) and method.has_fast_layers(config),
        "kept-layers": isinstance(method, methods.SupportsFrozenPrefix),
        "fused-attention": dtype == "bfloat16",
    }
    chosen = [name for name in OPTIMIZATIONS if possible.get(name, True) and name not in disable]
    threads = torch.get_num_threads()
    return ", ".join([f"products in {dtype}", f"{threads} thread{'s' if threads > 1 else ''}", *chosen])


@contextmanager
def fast_paths(
    method: methods.Method, module: nn.Module, dtype: str, *, disable: Collection[str] = ()
) -> Iterator[None]:
    """Let a method's module compute quickly in `dtype` for the length of a `with` block.

    Outputs are those of the module as it is, up to rounding; every parameter is the same object again afterwards. In
    bfloat16 all that is computed within the block has to be under `autocast`.

    Args:
        method: The method.
        module: What it attached to the base.
        dtype: `float32` or `bfloat16`.
        disable: Names of optimizations to leave out.
    """
    with ExitStack() as stack:
        if isinstance(method, methods.SupportsFastLayers) and "quick-layers" not in disable:
            stack.enter_context(method.fast_layers(module))
        if dtype == "bfloat16" and "cast-once" not in disable:
            stack.enter_context(_cast_once(module))
        if dtype == "bfloat16" and "fused-attention" not in disable:
            stack.enter_context(_fused_attention(module))
        yield


@contextmanager
def _fused_attention(module: PreTrainedModel) -> Iterator[None]:
    """Let attention be torch's fused one for batches that gain from it (benchmarks/attention.py).

    On a processor that is where no gradients are computed: its backward pass takes longer than plain products do.
    """
    config, base = module.config, module.get_base_model() if hasattr(module, "get_base_model") else module
    plain = config._attn_implementation
    if plain != "eager" or not getattr(base, "_supports_sdpa", False):
        yield
        return

    def begin(_: nn.Module, __: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        ids = inputs.get("input_ids")
        if ids is not None and ids.shape[1] >= FUSED_FROM and not torch.is_grad_enabled():
            config._attn_implementation = "sdpa"

    def end(*_: object) -> None:
        config._attn_implementation = plain

    with (
        module.register_forward_pre_hook(begin, with_kwargs=True),
        module.register_forward_hook(end, always_call=True),
    ):
        yield


@contextmanager
def _cast_once(module: nn.Module) -> Iterator[None]:
    from transformers.pytorch_utils import Conv1D

    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for layer in module.modules():
            own = dict(layer.named_parameters(recurse=False)) if isinstance(layer, nn.Linear | Conv1D) else {}
            if any(p.requires_grad or p.dtype != torch.float32 for p in own.values()):
                continue
            for name, parameter in own.items():
                replaced.append((layer, name, parameter))
                setattr(layer, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))
        yield
    finally:
        for layer, name, parameter in replaced:
            setattr(layer, name, parameter)
