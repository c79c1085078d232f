"""LoRA's layers as one step of the graph: y = x W + s (x A) B, with W frozen.

peft's layer takes six products and as many casts, and keeps an output of full width for each of two sums. Here the
update is added into the output where it lies, the weight is read in the dtype that products are computed in, inputs
that several layers read (of queries, keys and values) are cast once, and backward makes the three gradients that are
wanted. Adding the update to a copy of W first, the other graph that
RunLoRA (arXiv 2312.03415) chooses from, was no faster at 256 to 2,048 tokens and widths of 384 to 3,072 (ratios of
0.96 to 1.5), and rounds the update to the weight's precision; so it is used where nothing is learned, once for all
batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limpet.training.base.holding.short_weights import HeldLinear

__all__ = ["fast_layers", "updated_linear"]

_ADAPTER = "default"
_NARROW = 8


def updated_linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return x (W + scale B A) + bias, differentiable by x, A and B; the weight and its bias are frozen.

    Args:
        x: Inputs (..., in).
        weight: W (out, in).
        bias: (out,), or null.
        a: A (rank, in).
        b: B (out, rank).
        scale: alpha / rank.

    Returns:
        Outputs (..., out), in autocast's dtype where that is on.
    """
    low = x.detach().to(_dtype(x))
    outputs: Tensor = _Updated.apply(x, low, weight, bias, a, b, scale)  # type: ignore[no-untyped-call]
    return outputs


@contextmanager
def fast_layers(module: nn.Module) -> Iterator[None]:
    """Let peft's LoRA layers compute by `updated_linear` for the length of a `with` block.

    Layers that do more than that (DoRA, dropout, weights stored transposed) stay as they are.
    """
    found = [layer for layer in module.modules() if _is_plain(layer)]
    cast = _SharedCast()
    try:
        for layer in found:
            layer.forward = _FastForward(layer, cast)
        yield
    finally:
        for layer in found:
            vars(layer).pop("forward", None)


class _SharedCast:
    """Inputs in the dtype that products are computed in; the last is kept for the next layer that reads the same."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, torch.dtype, int] | None = None
        self._low = torch.empty(0)

    def __call__(self, x: Tensor) -> Tensor:
        # one made in inference mode counts no changes; none is made between layers that read the same
        state = (x, _dtype(x), 0 if x.is_inference() else x._version)
        if self._last is None or self._last[0] is not x or self._last[1:] != state[1:]:
            self._last, self._low = state, x.detach().to(state[1])
        return self._low


class _FastForward:
    """A LoRA layer's forward. Where no gradient is wanted, the weight with its update is made once and kept."""

    def __init__(self, layer: Any, cast: _SharedCast) -> None:
        self._cast = cast
        self._base = layer.get_base_layer()
        # the base may hold a cast copy meanwhile; the update is added to what was there before
        self._weight = self._base.weight
        self._a, self._b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        self._scale = layer.scaling[_ADAPTER]
        self._kept: tuple[Any, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        # a merged copy of every weight would double the memory of a base that is held in few bits
        if torch.is_grad_enabled() or self._weight.dtype != torch.float32:
            self._kept = None
            base = self._base
            updated: Tensor = _Updated.apply(  # type: ignore[no-untyped-call]
                x, self._cast(x), base.weight, base.bias, self._a, self._b, self._scale
            )
            return updated
        state = (_dtype(x), self._a._version, self._b._version)
        if self._kept is None or self._kept[0] != state:
            with torch.autocast(x.device.type, enabled=False):
                merged = torch.addmm(self._weight, self._b, self._a, alpha=self._scale).to(state[0])
            self._kept = state, merged
        return linear(self._cast(x), self._kept[1], self._base.bias)


class _Updated(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 (autograd hands tensors on by their place)
        ctx: Any,
        x: Tensor,
        low: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        dtype = low.dtype
        with torch.autocast(x.device.type, enabled=False):
            # a cast of the weight lives no longer than its product, forward and backward
            stored, weight = weight, weight.to(dtype)
            inner = _flat(low) @ a.to(dtype).t()
            ctx.save_for_backward(low, stored, inner, a, b)
            ctx.scale, ctx.input_dtype = scale, x.dtype
            outputs = linear(low, weight, None if bias is None else bias.to(dtype))
            _flat(outputs).addmm_(inner, b.to(dtype).t(), alpha=scale)
            return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, stored, inner, a, b = ctx.saved_tensors
        back = _flat(gradient.to(x.dtype))
        narrow = _to_narrow(back, b.to(x.dtype))
        to_a = (narrow.t() @ _flat(x)).to(a.dtype) * ctx.scale
        to_b = _over_rows(back, inner).to(b.dtype) * ctx.scale
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (
                (back @ stored.to(x.dtype))
                .addmm_(narrow, a.to(x.dtype), alpha=ctx.scale)
                .view_as(x)
                .to(ctx.input_dtype)
            )
        return to_x, None, None, None, to_a, to_b, None


def _to_narrow(wide: Tensor, b: Tensor) -> Tensor:
    """Return wide (rows, out) times b (out, rank)."""
    return wide @ (b.t().contiguous().t() if _is_slow_as_columns(b) else b)


def _over_rows(wide: Tensor, narrow: Tensor) -> Tensor:
    """Return the transpose of wide (rows, out) times narrow (rows, rank): (out, rank)."""
    return (narrow.t() @ wide).t() if _is_slow_as_columns(narrow) else wide.t() @ narrow


def _is_slow_as_columns(narrow: Tensor) -> bool:
    """Whether a product with so few columns is several times faster when its other order has them as rows.

    In float32 on a processor, up to 8 columns take two to ten times as long as 8 rows; from 12 on neither order is
    better (benchmarks/narrow.py).
    """
    return narrow.shape[-1] <= _NARROW and narrow.dtype == torch.float32 and narrow.device.type == "cpu"


def _dtype(x: Tensor) -> torch.dtype:
    """Return what products of `x` are computed in: autocast's dtype where that is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _flat(x: Tensor) -> Tensor:
    return x.view(-1, x.shape[-1]) if x.is_contiguous() else x.reshape(-1, x.shape[-1])


def _is_plain(layer: Any) -> bool:
    from peft.tuners.lora.layer import Linear

    if type(layer) is not Linear or list(layer.lora_A) != [_ADAPTER] or list(layer.active_adapters) != [_ADAPTER]:
        return False
    base = layer.get_base_layer()
    return (
        type(base) in (nn.Linear, HeldLinear)
        and not base.weight.requires_grad
        and not layer.merged
        and not layer.disable_adapters
        and not layer.lora_variant
        and not layer.lora_bias[_ADAPTER]
        and not getattr(layer.lora_dropout[_ADAPTER], "p", 0.0)
    )
