"""Weights of 16 bits, held once: products in bfloat16 read them as they are, products in float32 a cast of one layer.

Where a base's files hold bfloat16 or float16, float32 holds every weight exactly and takes twice the memory. So
weights stay as they are stored, and whoever computes in float32 casts a layer's weight while that layer computes: the
same numbers in the same order, so the same bits as of weights held in float32.

In bfloat16 (under autocast) a base held in bfloat16 passes its activations on in bfloat16, as its authors trained it.
Of weights in float16, which autocast does not compute in, activations stay in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HeldLinear", "hold_as_stored", "in_dtype_of"]

_SHORT = (torch.bfloat16, torch.float16)
_FEW_WORDS = (1, 2, 3)


class HeldLinear(nn.Linear):
    """A linear layer whose weight may be shorter than its inputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Return outputs (..., out) in the dtype of the inputs, or in autocast's."""
        return functional.linear(input, in_dtype_of(input, self.weight), _in_dtype_of(input, self.bias))


class _Transposed:
    """A linear layer whose weight is stored (in, out), as GPT-2 has it."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = in_dtype_of(x, self.weight), in_dtype_of(x, self.bias)
        return functional.linear(x, weight.t(), bias)


class _Lengthened:
    """An embedding, of whatever kind an architecture has, whose rows leave it in what is computed in."""

    def forward(self, *args: Any, **named: Any) -> Tensor:
        rows: Tensor = super().forward(*args, **named)  # type: ignore[misc]
        stays = rows.dtype == torch.bfloat16 and _computes_in_bfloat16(rows)
        return rows if stays else rows.float()


class _HeldLayerNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        weight, bias = _in_dtype_of(input, self.weight), _in_dtype_of(input, self.bias)
        return functional.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


_HELD: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: HeldLinear,
    nn.LayerNorm: _HeldLayerNorm,
}


def _held_class(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the class that computes as `kind` does, of weights that may be shorter than what passes through it."""
    from transformers.pytorch_utils import Conv1D

    for found, own in ((nn.Embedding, _Lengthened), (Conv1D, _Transposed)):
        if kind not in _HELD and issubclass(kind, found):
            _HELD[kind] = type(f"Held{kind.__name__}", (own, kind), {})
    return _HELD.get(kind, kind)


def in_dtype_of(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return a weight in the dtype of a product's inputs; under autocast, as it is: that casts both."""
    kind = inputs.device.type
    return weight if torch.is_autocast_enabled(kind) else weight.to(inputs.dtype)


def _in_dtype_of(inputs: Tensor, weight: Tensor | None) -> Tensor | None:
    return None if weight is None else in_dtype_of(inputs, weight)


def _computes_in_bfloat16(tensor: Tensor) -> bool:
    kind = tensor.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16


def hold_as_stored(model: PreTrainedModel) -> bool:
    """Let a model with weights of 16 bits compute in float32 too; where it can't, hold it in float32.

    Whether it can is found by trying: some architectures cast what passes through them to the dtype of a weight.

    Args:
        model: A model as it was loaded, in evaluation mode.

    Returns:
        Whether its weights are held as they were loaded.
    """
    if model.dtype not in _SHORT:
        return True
    kinds: dict[nn.Module, type[nn.Module]] = {module: type(module) for module in model.modules()}
    for module, kind in kinds.items():
        module.__class__ = _held_class(kind)
    if _stays_in_float32(model):
        return True
    for module, kind in kinds.items():
        module.__class__ = kind
    model.float()
    return False


def _stays_in_float32(model: PreTrainedModel) -> bool:
    """Tell whether no layer of a model passes on less than float32 where nothing asks for less."""
    short: list[nn.Module] = []

    def listen(module: nn.Module, _: object, output: object) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        if any(isinstance(tensor, Tensor) and tensor.dtype in _SHORT for tensor in tensors):
            short.append(module)

    ids = torch.tensor([_FEW_WORDS], device=model.device)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    hooks = [module.register_forward_hook(listen) for module in model.modules()]
    try:
        with torch.inference_mode():
            model(**inputs)
    except RuntimeError:
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return not short
