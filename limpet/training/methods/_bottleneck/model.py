"""Bottleneck adapters on a whole model, as a tuner of peft."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from limpet.training.methods._bottleneck.config import BottleneckConfig
from limpet.training.methods._bottleneck.layer import BottleneckLayer
from limpet.training.methods._module_patterns import find_patterns

__all__ = ["BottleneckModel", "pattern"]


def pattern(architecture: str, placement: str) -> str:
    """Return the pattern of all projections that take an adapter.

    Raises:
        ValueError: The modules of this architecture are not known.
    """
    patterns = find_patterns(architecture)
    if placement == "houlsby":
        return f"({patterns.attention})|({patterns.feed_forward})"
    return patterns.last_norm or patterns.feed_forward


class BottleneckModel(BaseTuner):  # type: ignore[misc]
    """Puts a bottleneck adapter after every targeted projection of a model; the model's own weights are frozen."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, Any] = {}  # noqa: RUF012 -- peft reads it from the class

    def _prepare_adapter_config(
        self, peft_config: BottleneckConfig, model_config: dict[str, Any]
    ) -> BottleneckConfig:
        if peft_config.target_modules is None:
            peft_config.target_modules = pattern(str(model_config.get("model_type")), peft_config.placement)
        return peft_config

    def _create_and_replace(  # noqa: PLR0913, PLR0917 (the signature of peft)
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)
