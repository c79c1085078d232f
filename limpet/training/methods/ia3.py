"""(IA)3: trained factors on keys, values and inner activations (Liu et al. 2022, arXiv 2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import HEADED, Capabilities, _module_patterns, _peft, resolve_settings

__all__ = ["METHODS", "Ia3"]


class Ia3:
    """One factor for every key, value and inner activation; all begin at 1, the identity."""

    name = "ia3"
    summary = "factors on keys, values and inner activations (Liu et al. 2022)"
    capabilities = Capabilities(
        task_types=HEADED,
        families=frozenset({"encoder", "decoder", "encoder-decoder"}),
        mergeable=True,
        mixed_batches=False,
        servable=False,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 3e-2
    settings: Mapping[str, Any] = {}
    peft_type = "IA3"
    alternatives = ("lora", "bottleneck")
    example: Mapping[str, Any] = {}

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return 0

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        names = ("target_modules", "feedforward_modules")
        return {name: _peft.canonical(peft_config.get(name)) for name in names}

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the modules that take factors; see `Method.resolve`."""
        resolve_settings(self.name, self.settings, settings)
        try:
            places = _module_patterns.find(backbone.config.model_type)
        except ValueError as error:
            raise UsageError(f"IA3's {error}.", "--method lora") from error
        return {
            "target_modules": f"({places.keys_and_values})|({places.feed_forward})",
            # those whose input is scaled, not their output
            "feedforward_modules": places.feed_forward,
        }

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import IA3Config

        return _peft.attach(backbone, IA3Config(task_type="FEATURE_EXTRACTION", **config))

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """See `Method.save`."""
        _peft.save(module, base_name, folder)

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return _peft.load(backbone, files, self.peft_type)

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _peft.detach(module)


METHODS = (Ia3(),)
