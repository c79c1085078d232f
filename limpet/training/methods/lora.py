"""LoRA: a low-rank update beside frozen weights (Hu et al. 2021, arXiv 2106.09685), through peft."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import HEADED, Capabilities, _peft, resolve_settings
from limpet.training.methods._low_rank import quick_layers

__all__ = ["METHODS", "Lora"]

_DEFAULTS: dict[str, Any] = {
    "r": 8,
    "alpha": 16,
    "dropout": 0.0,
    "target_modules": "all-linear",
    "rslora": False,
    "dora": False,
}


class Lora:
    """h = W x + (alpha / r) B A x, with A (r, in) and B (out, r) trained and W frozen."""

    name = "lora"
    summary = "low-rank update of linear layers (Hu et al. 2021)"
    capabilities = Capabilities(
        task_types=HEADED,
        families=frozenset({"encoder", "decoder", "encoder-decoder"}),
        mergeable=True,
        mixed_batches=True,
        servable=True,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 2e-3
    settings = _DEFAULTS
    peft_type = "LORA"
    alternatives = ("bottleneck", "ia3")
    example: Mapping[str, Any] = {}

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return 0

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        # what peft takes where a file of an old version does not say
        return {"r": peft_config.get("r", 8), "alpha": peft_config.get("lora_alpha", 8)}

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return rank, alpha and the targets by name; see `Method.resolve`."""
        config = resolve_settings(self.name, _DEFAULTS, settings)
        if config["r"] < 1:
            raise UsageError(f"LoRA's rank must be at least 1, not {config['r']}.", "--set r=8")
        # an update that is scaled by 0 learns nothing
        if config["alpha"] < 1:
            raise UsageError(f"LoRA's alpha must be at least 1, not {config['alpha']}.", "--set alpha=16")
        if not 0 <= config["dropout"] < 1:
            raise UsageError(f"LoRA's dropout must be in [0, 1), not {config['dropout']}.", "--set dropout=0.1")
        targets, excluded = _peft.linear_targets(backbone, str(config.pop("target_modules")))
        return config | {"target_modules": targets, "exclude_modules": excluded}

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import LoraConfig

        return _peft.attach(
            backbone,
            LoraConfig(
                task_type="FEATURE_EXTRACTION",
                r=config["r"],
                lora_alpha=config["alpha"],
                lora_dropout=config["dropout"],
                target_modules=list(config["target_modules"]),
                exclude_modules=list(config["exclude_modules"]) or None,
                use_rslora=config["rslora"],
                use_dora=config["dora"],
            ),
        )

    def is_quick(self, config: Mapping[str, Any]) -> bool:
        """See `Quickened.is_quick`."""
        return not config["dora"] and not config["dropout"]

    def quick(self, module: nn.Module) -> AbstractContextManager[None]:
        """See `Quickened.quick`."""
        return quick_layers(module)

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """See `Method.save`."""
        _peft.save(module, base_name, folder)

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return _peft.load(backbone, files, self.peft_type)

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _peft.detach(module)


METHODS = (Lora(),)
