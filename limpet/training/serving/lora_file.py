"""A LoRA adapter's file, mapped into memory, if it is one that slots can hold.

Slots hold what LoRA and rsLoRA add to linear layers. An adapter with anything else in its configuration (DoRA,
patterns of ranks, biases, tensors of embeddings) is none of them: peft puts it on the base, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limpet.registry.safetensors_header import read_header
from limpet.training.serving.slots import Layout, Target

__all__ = ["LoraFile", "linear_layers", "map_lora"]

_PREFIX = "base_model.model."
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_USED = {"r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "init_lora_weights"}
# what changes no answer once the tensors are there
_WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "fan_in_fan_out",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
}
_OFF: tuple[Any, ...] = (None, False, "none", [], {})


@dataclass(frozen=True)
class LoraFile:
    """An adapter that lies in a mapped file: its layout, the factor of its product, and how to read it.

    `runs` are stretches of numbers that are copied in one piece: where each begins in the file's `numbers`, where in
    the slot, and how many they are. `size` is the file's, in bytes.
    """

    layout: Layout
    scale: float
    numbers: Tensor
    runs: tuple[tuple[int, int, int], ...]
    size: int

    def fill(self, slot: Tensor) -> None:
        """Copy the tensors into a slot (width), as float32."""
        for start, to, count in self.runs:
            slot[to : to + count].copy_(self.numbers[start : start + count])


def linear_layers(model: nn.Module, config: Mapping[str, Any]) -> dict[str, tuple[int, int]] | None:
    """Return the base's layers that an adapter of this configuration changes, each with its inputs and outputs.

    Args:
        model: The base's model.
        config: The content of `adapter_config.json`.

    Returns:
        Null where slots can't hold such an adapter.
    """
    from transformers.pytorch_utils import Conv1D

    wanted, excluded = config.get("target_modules"), config.get("exclude_modules") or []
    others = config.keys() - _USED - _WITHOUT_EFFECT
    plain = config.get("peft_type") == "LORA" and config.get("init_lora_weights") in (True, False, "gaussian")
    if not plain or any(config[name] not in _OFF for name in others):
        return None
    # regular expressions are left to peft
    if not isinstance(wanted, list) or not isinstance(excluded, list):
        return None
    found: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if not _is_named(name, wanted) or _is_named(name, excluded):
            continue
        if type(module) is nn.Linear:
            found[name] = (module.in_features, module.out_features)
        elif type(module) is Conv1D:
            found[name] = (module.weight.shape[0], module.weight.shape[1])
        else:
            return None
    return found


def map_lora(path: Path, config: Mapping[str, Any], layers: Mapping[str, tuple[int, int]]) -> LoraFile | None:
    """Map an adapter's file into memory.

    Args:
        path: A verified `adapter_model.safetensors`.
        config: The content of `adapter_config.json`.
        layers: What `linear_layers` gave for it.

    Returns:
        Null where the tensors are not exactly A and B of every layer, all of one dtype.

    Raises:
        IntegrityError: The header is not sound.
    """
    rank, alpha = config["r"], config["lora_alpha"]
    expected = {}
    for name, (inputs, outputs) in layers.items():
        expected[f"{_PREFIX}{name}.lora_A.weight"] = (rank, inputs)
        expected[f"{_PREFIX}{name}.lora_B.weight"] = (outputs, rank)
    header = read_header(path)
    if not header or {name: shape for name, (_, shape, _, _) in header.items()} != expected:
        return None
    dtypes = {dtype for dtype, *_ in header.values()}
    dtype = _DTYPES.get(dtypes.pop()) if len(dtypes) == 1 else None
    if dtype is None or any(start % dtype.itemsize for _, _, start, _ in header.values()):
        return None
    # mapped privately: the file's pages are shared with everybody, and nothing is ever written to it
    size = path.stat().st_size
    numbers = torch.from_file(str(path), shared=False, size=size // dtype.itemsize, dtype=dtype)
    layout = Layout(tuple(Target(name, rank, *layers[name]) for name in sorted(layers, key=_tensor_name)))
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LoraFile(layout, scale, numbers, _runs(layout, header, dtype.itemsize), size)


def _runs(layout: Layout, header: Mapping[str, Any], itemsize: int) -> tuple[tuple[int, int, int], ...]:
    runs: list[tuple[int, int, int]] = []
    for target, places in zip(layout.targets, layout.starts, strict=True):
        for letter, to in zip("AB", places, strict=True):
            _, _, start, stop = header[f"{_PREFIX}{target.module}.lora_{letter}.weight"]
            first, count = start // itemsize, (stop - start) // itemsize
            last_first, last_to, last_count = runs[-1] if runs else (0, 0, 0)
            if (last_first + last_count, last_to + last_count) == (first, to):
                runs[-1] = (last_first, last_to, last_count + count)
            else:
                runs.append((first, to, count))
    return tuple(runs)


def _tensor_name(module: str) -> str:
    # the order in which peft's files have them, so that the whole of one is copied in one piece
    return f"{module}.lora_A"


def _is_named(name: str, wanted: list[str]) -> bool:
    return any(name == one or name.endswith(f".{one}") for one in wanted)
