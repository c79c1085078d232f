"""Linear layers whose weights are held in few bits: written out for the length of a product, forward and backward.

bitsandbytes quantises the weights while the files are read, layer by layer. Its own layers change the form of their
weights when they are first asked and compute by other kernels there; here a weight is what its library writes out of
the bits, in every product alike, so answers do not depend on who asked before, and the base can be seen to be the
same after every use.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limpet.training.base.holding.library import bitsandbytes

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

__all__ = ["QuantisedLinear", "hold_quantised", "quantization_config", "take_marks_off"]

# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE, _KEPT = 8 << 20, 1 << 28


def quantization_config(word: str) -> BitsAndBytesConfig:
    """Return transformers' configuration for loading in `nf4` or `int8`."""
    from transformers import BitsAndBytesConfig

    bitsandbytes()
    if word == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


class QuantisedLinear(nn.Linear):
    """A linear layer, frozen, whose `weight` holds the bits; `written_out` gives the weight (out, in) that they mean.

    Args:
        layer: The layer that bitsandbytes made, of 4 or 8 bits.
    """

    def __init__(self, layer: Any) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        stored = layer.weight
        self.weight = nn.Parameter(stored.data.detach(), requires_grad=False)
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.register_parameter("bias", bias)
        self._state = getattr(stored, "quant_state", None)
        tensors = {"scales": stored.SCB} if self._state is None else _tensors(self._state)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach())
        self.training = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Return outputs (..., out) in autocast's dtype where that is on, else in that of the inputs."""
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        outputs: Tensor = _Product.apply(input.to(dtype), self.written_out, bias)  # type: ignore[no-untyped-call]
        return outputs

    def written_out(self, dtype: torch.dtype) -> Tensor:
        """Return the weight (out, in) that the bits mean, in a dtype."""
        if self._state is None:
            scales = self.get_buffer("scales")
            return (self.weight.float() * (scales / 127.0).unsqueeze(1)).to(dtype)
        weight: Tensor = bitsandbytes().functional.dequantize_4bit(self.weight, self._state)
        return weight.to(dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (autograd hands them on by their place)
        ctx: Any, x: Tensor, write_out: Callable[[torch.dtype], Tensor], bias: Tensor | None
    ) -> Tensor:
        ctx.write_out = write_out
        with torch.autocast(x.device.type, enabled=False):
            return linear(x, write_out(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        with torch.autocast(gradient.device.type, enabled=False):
            return gradient @ ctx.write_out(gradient.dtype), None, None


def hold_quantised(model: PreTrainedModel) -> None:
    """Put `QuantisedLinear` in the place of every layer that bitsandbytes made."""
    library = bitsandbytes()
    made = (library.nn.Linear4bit, library.nn.Linear8bitLt)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, made):
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, QuantisedLinear(layer))
    _leave_files(model)
    _map_what_is_large()


def _leave_files(model: PreTrainedModel) -> None:
    """Copy what is not quantised: where it is read from the mapped file, the whole file stays in memory beside it."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def _map_what_is_large() -> None:
    """Let glibc give a weight that was written out back to the system when its product is done.

    Between smaller tensors in its heap, freed weights leave gaps, which grew to more than the bits of the base.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        # setting the one fixes the other, and small tensors are to come from the heap as before
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def take_marks_off(model: PreTrainedModel) -> None:
    """Take off a model what transformers marks it with that it read quantised weights for."""
    for part in model.modules():
        for mark in ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized", "quantization_method", "hf_quantizer"):
            vars(part).pop(mark, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _tensors(state: Any) -> dict[str, Tensor]:
    """Return what 4-bit weights are written out by, beside their bits."""
    tensors = {"absmax": state.absmax, "code": state.code}
    if state.nested:
        nested = state.state2
        tensors |= {"offset": state.offset, "nested_absmax": nested.absmax, "nested_code": nested.code}
    return tensors
