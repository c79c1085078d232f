"""Bottleneck adapters: small layers with a skip connection in every block (Houlsby et al. 2019, arXiv 1902.00751).

Pfeiffer et al. 2021 (arXiv 2005.00247) keep only the one after the feed-forward block.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import HEADED, Capabilities, _peft, resolve_settings

__all__ = ["METHODS", "Bottleneck"]

_DEFAULTS: dict[str, Any] = {
    "placement": "houlsby",
    "reduction_factor": 16.0,
    "size": None,
    "activation": "gelu",
}


class Bottleneck:
    """h + up(act(down(h))) after attention and feed-forward; begins as the identity."""

    name = "bottleneck"
    summary = "small layers inside every block (Houlsby et al. 2019, Pfeiffer et al. 2021)"
    capabilities = Capabilities(
        task_types=HEADED,
        families=frozenset({"encoder", "decoder", "encoder-decoder"}),
        mergeable=False,
        mixed_batches=False,
        servable=False,
        quantised_base=False,
        trains_base_copy=False,
    )
    learning_rate = 6e-3
    settings = _DEFAULTS
    peft_type = "BOTTLENECK"
    alternatives = ("lora", "ia3")
    example: Mapping[str, Any] = {}

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return 0

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return {name: peft_config.get(name, default) for name, default in _DEFAULTS.items()}

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the adapter's shape and the pattern of its places; see `Method.resolve`."""
        from limpet.training.methods import _bottleneck

        config = resolve_settings(self.name, _DEFAULTS, settings)
        try:
            _bottleneck.BottleneckConfig(**config)
            targets = _bottleneck.pattern(backbone.config.model_type, config["placement"])
        except ValueError as error:
            raise UsageError(f"The bottleneck's {error}.", "--set placement=pfeiffer --set size=24") from error
        return config | {"target_modules": targets}

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from limpet.training.methods import _bottleneck

        return _peft.attach(backbone, _bottleneck.BottleneckConfig(task_type="FEATURE_EXTRACTION", **config))

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """See `Method.save`."""
        _peft.save(module, base_name, folder)

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return _peft.load(backbone, files, self.peft_type)

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _peft.detach(module)


METHODS = (Bottleneck(),)
