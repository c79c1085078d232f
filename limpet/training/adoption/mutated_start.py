"""Adapters whose beginning took a part of the base's weights away, told as what they change of the base itself.

PiSSA, OLoRA, CorDA and LoRA-GA begin with B0 A0 that is not zero, and subtract it from the weights: they train beside
W - s B0 A0. Beside W itself the trained B A stands for s (B A - B0 A0), a LoRA of twice the rank: A' = [A; A0],
B' = [B, -B0]. So does peft's `save_pretrained(path_initial_model_for_weight_conversion=...)` write it down (Meng et
al. 2024, arXiv 2404.02948).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from limpet.errors import IntegrityError, UsageError
from limpet.first_few import first_few
from limpet.training.adoption.peft_folder import PeftFolder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["without_start"]

_STARTS = ("pissa", "olora", "corda", "lora_ga")
# they decide what a tensor of the one means beside a tensor of the other
_SHARED = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")


def without_start(trained: PeftFolder, initial: PeftFolder, folder: Path) -> PeftFolder:
    """Return a trained adapter as one beside the base's own weights.

    Args:
        trained: As it was saved after training.
        initial: As it was saved before.
        folder: Where the initial one came from, for messages.

    Raises:
        UsageError: The adapter did not begin so, or in a way that can't be taken back.
        IntegrityError: The two are not one adapter before and after.
    """
    _check(trained.config, initial.config, folder)
    names = {name for name in trained.tensors if _is_pair(name)}
    odd = sorted(names ^ {name for name in initial.tensors if _is_pair(name)})
    odd += [
        name
        for name in sorted(names & initial.tensors.keys())
        if trained.tensors[name].shape != initial.tensors[name].shape
    ]
    if odd or not names:
        raise IntegrityError(
            f"{folder} is not what the adapter was before training: "
            + (f"other tensors, or of another shape: {first_few(odd)}." if odd else "it has none of LoRA's tensors."),
            "name the folder that was saved before the first step",
        )
    tensors = dict(trained.tensors)
    for name in names:
        tensors[name] = _joined(name, trained.tensors[name], initial.tensors[name])
    return replace(trained, config=_doubled(trained.config), tensors=tensors)


def _check(trained: Mapping[str, Any], initial: Mapping[str, Any], folder: Path) -> None:
    hint = "limpet adapter register TASK FOLDER, without --initial"
    start = str(trained.get("init_lora_weights", True)).lower()
    if trained.get("peft_type") != "LORA":
        raise UsageError(
            f"--initial belongs to a LoRA, and the adapter is of peft type {trained.get('peft_type')!r}.", hint
        )
    if start == "loftq":
        raise UsageError(
            "The adapter began as LoftQ: it was trained beside a quantised base that its beginning is not the exact "
            "difference to, so nothing turns it into one for the base as it is.",
            "train it again beside the base itself",
        )
    if start != "true" and not start.startswith(_STARTS):
        raise UsageError(f"The adapter began as {start!r}, which changes no weight of the base.", hint)
    if trained.get("use_dora") or trained.get("lora_bias"):
        raise UsageError(
            "The adapter has more than a low-rank update (use_dora or lora_bias), and its beginning can't be taken "
            "back from that.",
            "merge it where it was trained: limpet adapter register TASK --from-model MERGED --rank 0.95",
        )
    if differing := [name for name in _SHARED if (trained.get(name) or None) != (initial.get(name) or None)]:
        raise IntegrityError(
            f"{folder} is not what the adapter was before training: its adapter_config.json has another "
            f"{first_few(differing)}.",
            "name the folder that was saved before the first step",
        )


def _is_pair(name: str) -> bool:
    return name.endswith((".lora_A.weight", ".lora_B.weight"))


def _joined(name: str, trained: Tensor, initial: Tensor) -> Tensor:
    initial = initial.to(trained.dtype)
    if name.endswith(".lora_A.weight"):
        return torch.cat([trained, initial], dim=0)
    return torch.cat([trained, -initial], dim=1)


def _doubled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of twice the rank at the same scale."""
    # rank-stabilised scaling divides by the root of the rank
    factor = math.sqrt(2) if config.get("use_rslora") else 2
    told = dict(config) | {"init_lora_weights": True, "corda_config": None, "lora_ga_config": None}
    told["r"] = 2 * config.get("r", 8)
    told["lora_alpha"] = factor * config.get("lora_alpha", 8)
    told["rank_pattern"] = {key: 2 * rank for key, rank in (config.get("rank_pattern") or {}).items()}
    told["alpha_pattern"] = {key: factor * alpha for key, alpha in (config.get("alpha_pattern") or {}).items()}
    return told
