"""How many bytes a model's tensors take in a safetensors file, without writing one."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["full_checkpoint_size", "safetensors_size"]

# in the order in which the format sorts its tensors, backwards
_KINDS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
_METADATA = {"format": "pt"}
_LENGTH_FIELD = 8  # the bytes that say how long the header is; it is padded to a multiple of as many


def full_checkpoint_size(model: nn.Module) -> int:
    """Return the bytes of a checkpoint of every tensor of a model, as full fine-tuning stores it."""
    return safetensors_size(model.state_dict())


def safetensors_size(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of the safetensors file that holds these tensors: its header and their bytes."""
    order = list(_KINDS)
    header: dict[str, object] = {"__metadata__": _METADATA}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-order.index(item[1].dtype), item[0])):
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": _KINDS[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8"))
    return _LENGTH_FIELD + -(-text // _LENGTH_FIELD) * _LENGTH_FIELD + end
