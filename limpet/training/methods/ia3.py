"""(IA)3: trained factors on keys, values and inner activations (Liu et al. 2022, arXiv 2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import _module_patterns
from limpet.training.methods._peft import ThroughPeft, attach, canonical
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "Ia3"]


class Ia3(ThroughPeft):
    """One factor for every key, value and inner activation; all begin at 1, the identity."""

    name = "ia3"
    summary = "factors on keys, values and inner activations (Liu et al. 2022)"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
        mergeable=True,
    )
    learning_rate = 3e-2
    peft_type = "IA3"
    alternatives = ("lora", "bottleneck")

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        names = ("target_modules", "feedforward_modules")
        return {name: canonical(peft_config.get(name)) for name in names}

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the modules that take factors; see `Method.resolve`."""
        read_settings(self.name, self.settings, settings)
        try:
            patterns = _module_patterns.find_patterns(backbone.config.model_type)
        except ValueError as error:
            raise UsageError(f"IA3's {error}.", "--method lora") from error
        return {
            "target_modules": f"({patterns.keys_and_values})|({patterns.feed_forward})",
            # those whose input is scaled, not their output
            "feedforward_modules": patterns.feed_forward,
        }

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import IA3Config

        return attach(backbone, IA3Config(task_type="FEATURE_EXTRACTION", **config))


METHODS = (Ia3(),)
