"""A LoRA adapter's file, mapped into memory while it is copied, if it is one that slots can hold.

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

from limpet.registry.formats.safetensors_header import read_header
from limpet.training.serving.lora_slots import Layout, Target

__all__ = ["LoraFile", "layout_of", "read_lora"]

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
    """What is known of an adapter's file: its layout, the factor of its product, and how to read it.

    `runs` are stretches of numbers that are copied in one piece: where each begins in the file, where in the slot,
    and how many they are. `count` is how many numbers the file has, header and all.
    """

    path: Path
    layout: Layout
    scale: float
    dtype: torch.dtype
    count: int
    runs: tuple[tuple[int, int, int], ...]

    def copy_into(self, slot: Tensor) -> None:
        """Copy the tensors into a slot (width), as float32."""
        # mapped for the length of the copy, so that no page of the file stays resident beside it; mapped privately,
        # so that nothing is ever written to it
        numbers = torch.from_file(str(self.path), shared=False, size=self.count, dtype=self.dtype)
        for start, to, count in self.runs:
            slot[to : to + count].copy_(numbers[start : start + count])


def layout_of(model: nn.Module, config: Mapping[str, Any]) -> Layout | None:
    """Return the layout of an adapter: the base's layers that its configuration names, and its rank.

    Args:
        model: The base's model.
        config: The content of `adapter_config.json`.

    Returns:
        Null where slots can't hold such an adapter.
    """
    from transformers.pytorch_utils import Conv1D

    wanted, excluded, rank = config.get("target_modules"), config.get("exclude_modules") or [], config.get("r")
    others = config.keys() - _USED - _WITHOUT_EFFECT
    plain = config.get("peft_type") == "LORA" and config.get("init_lora_weights") in (True, False, "gaussian")
    if not plain or any(config[name] not in _OFF for name in others):
        return None
    # regular expressions are left to peft
    if not isinstance(wanted, list) or not isinstance(excluded, list) or not isinstance(rank, int):
        return None
    targets = []
    for name, module in model.named_modules():
        if not _is_named(name, wanted) or _is_named(name, excluded):
            continue
        if "experts" in name.split("."):
            # an expert sees the tokens that a router chose, and no longer whose rows they are
            return None
        if type(module) is nn.Linear:
            targets.append(Target(name, rank, module.in_features, module.out_features))
        elif type(module) is Conv1D:
            targets.append(Target(name, rank, *module.weight.shape))
        else:
            return None
    # the order in which peft's files have their tensors, so that the whole of one is copied in one piece
    return Layout(tuple(sorted(targets, key=lambda target: f"{target.module}.lora_A"))) if targets else None


def read_lora(path: Path, config: Mapping[str, Any], layout: Layout) -> LoraFile | None:
    """Read the header of an adapter's file.

    Args:
        path: A verified `adapter_model.safetensors`.
        config: The content of `adapter_config.json`.
        layout: What `layout_of` gave for it.

    Returns:
        Null where the tensors are not exactly A and B of every target, all of one dtype.

    Raises:
        IntegrityError: The header is not sound.
    """
    expected = {}
    for target in layout.targets:
        expected[_tensor(target, "A")] = (target.rank, target.inputs)
        expected[_tensor(target, "B")] = (target.outputs, target.rank)
    header = read_header(path)
    if {name: shape for name, (_, shape, _, _) in header.items()} != expected:
        return None
    dtypes = {dtype for dtype, *_ in header.values()}
    dtype = _DTYPES.get(dtypes.pop()) if len(dtypes) == 1 else None
    if dtype is None or any(start % dtype.itemsize for _, _, start, _ in header.values()):
        return None
    rank, alpha = config["r"], config["lora_alpha"]
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    count = path.stat().st_size // dtype.itemsize
    return LoraFile(path, layout, scale, dtype, count, _runs(layout, header, dtype.itemsize))


def _runs(layout: Layout, header: Mapping[str, Any], itemsize: int) -> tuple[tuple[int, int, int], ...]:
    runs: list[tuple[int, int, int]] = []
    for target, starts in zip(layout.targets, layout.starts, strict=True):
        for letter, to in zip("AB", starts, strict=True):
            _, _, start, stop = header[_tensor(target, letter)]
            first, count = start // itemsize, (stop - start) // itemsize
            last_first, last_to, last_count = runs[-1] if runs else (0, 0, 0)
            if (last_first + last_count, last_to + last_count) == (first, to):
                runs[-1] = (last_first, last_to, last_count + count)
            else:
                runs.append((first, to, count))
    return tuple(runs)


def _tensor(target: Target, letter: str) -> str:
    return f"base_model.model.{target.module}.lora_{letter}.weight"


def _is_named(name: str, wanted: list[str]) -> bool:
    return any(name == one or name.endswith(f".{one}") for one in wanted)
