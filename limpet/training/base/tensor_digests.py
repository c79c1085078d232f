"""Digests of a module's tensors, and a cheap look at whether tensors were touched since they were digested."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpet.registry.formats.canonical import canonical_json, digest_json

__all__ = ["Untouched", "digests_of", "module_digest", "module_tensors", "tensor_digest", "tensor_digests"]

# below so many bytes, threads cost more than they save
_ALONE = 16 * 2**20
# tensors of so few bytes, such as biases and buffers, are digested whenever they are looked at
_SMALL = 64 * 2**10
_SAMPLE = 4096  # elements of a larger tensor that are looked at


def module_digest(module: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every parameter and buffer."""
    return digest_json(tensor_digests(module))


def tensor_digests(module: nn.Module) -> dict[str, str]:
    """Return a SHA-256 over dtype, shape and bytes for every parameter and buffer by name."""
    return digests_of(module_tensors(module))


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def digests_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the digest of each tensor; large ones in parallel, because hashing does not hold Python's lock."""
    if sum(map(_size, tensors.values())) < _ALONE:
        return {name: tensor_digest(tensor) for name, tensor in tensors.items()}
    # the largest first, or the last thread to finish would be alone with it
    order = sorted(tensors, key=lambda name: -_size(tensors[name]))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        digests = dict(zip(order, threads.map(tensor_digest, (tensors[name] for name in order)), strict=True))
    return {name: digests[name] for name in tensors}


def tensor_digest(tensor: Tensor) -> str:
    """Return the SHA-256 over dtype, shape and bytes of a tensor."""
    values = tensor.detach().cpu().contiguous()
    total = hashlib.sha256(canonical_json([str(values.dtype), list(values.shape)]))
    total.update(values.view(-1).view(torch.uint8).numpy().data)
    return f"sha256:{total.hexdigest()}"


@dataclass(frozen=True)
class _Mark:
    """Where a tensor's memory is and how it is read, how often torch wrote into it, and a digest of some of it."""

    address: int
    layout: tuple[torch.dtype, torch.device, torch.Size, tuple[int, ...]]
    writes: int
    sample: str


class Untouched:
    """Tells which tensors may have changed since they were last digested, without reading all of their bytes.

    It sees every write that torch counts (whatever an operation, an optimiser or a view of the tensor wrote in
    place), a tensor that is another one or lies elsewhere, every change of a tensor of 64 KiB or less, and every
    change that touches one of 4,096 elements spread evenly over a larger one. It does not see a write past torch's
    count (through `.data`, numpy or inference mode) that leaves all of those elements alone: a full digest does.
    """

    def __init__(self) -> None:
        self._marks: dict[str, _Mark] = {}

    def keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Take tensors as they are now for what they were when they were digested, which is now."""
        self._marks = {name: _mark(tensor) for name, tensor in tensors.items() if _is_counted(tensor)}

    def touched(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that may have changed, those that are new among them."""
        return {
            name: tensor
            for name, tensor in tensors.items()
            if not _is_counted(tensor) or self._marks.get(name) != _mark(tensor)
        }


def _is_counted(tensor: Tensor) -> bool:
    return not tensor.is_inference()


def _mark(tensor: Tensor) -> _Mark:
    layout = (tensor.dtype, tensor.device, tensor.shape, tensor.stride())
    values = tensor.detach()
    if _size(tensor) > _SMALL:
        flat = values.view(-1) if values.is_contiguous() else values.flatten()
        # the last element is looked at too
        values = flat[torch.linspace(0, flat.numel() - 1, _SAMPLE, dtype=torch.float64, device=flat.device).long()]
    return _Mark(tensor.data_ptr(), layout, tensor._version, tensor_digest(values))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
