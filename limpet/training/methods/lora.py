"""LoRA: a low-rank update beside frozen weights (Hu et al. 2021, arXiv 2106.09685), through peft."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.base.holding.quantised import QuantisedLinear
from limpet.training.methods._low_rank import fast_layers
from limpet.training.methods._peft import ThroughPeft, attach, linear_targets
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import about, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "Lora", "LoraSettings"]


@dataclass(frozen=True)
class LoraSettings:
    """What `--set` takes."""

    r: int = field(default=8, metadata=about("the rank", least=1))
    # an update that is scaled by 0 learns nothing
    alpha: int = field(default=16, metadata=about("the update is scaled by alpha / r; 1 or more", least=1))
    dropout: float = field(default=0.0, metadata=about("on the update's input; a share", least=0, below=1))
    target_modules: str = field(
        default="all-linear",
        metadata=about(
            "last names of linear layers, with commas between; `all-linear` is every one but a pooler",
        ),
    )
    rslora: bool = field(default=False, metadata=about("scale by alpha / sqrt(r) instead (Kalajdzievski 2023)"))
    dora: bool = field(default=False, metadata=about("also train the size of each weight column (Liu et al. 2024)"))


class Lora(ThroughPeft):
    """h = W x + (alpha / r) B A x, with A (r, in) and B (out, r) trained and W frozen."""

    name = "lora"
    summary = "low-rank update of linear layers (Hu et al. 2021)"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
        mergeable=True,
        mixed_batches=True,
        servable=True,
    )
    learning_rate = 2e-3
    settings = LoraSettings
    peft_type = "LORA"
    alternatives = ("bottleneck", "ia3")

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        # what peft takes where a file of an old version does not say
        return {"r": peft_config.get("r", 8), "alpha": peft_config.get("lora_alpha", 8)}

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return rank, alpha and the targets by name; see `Method.resolve`."""
        config = asdict(read_settings(self.name, LoraSettings, settings))
        if config["dora"] and any(isinstance(layer, QuantisedLinear) for layer in backbone.modules()):
            raise UsageError("DoRA reads the base's own weights, which are quantised.", "--set dora=false")
        targets, excluded = linear_targets(backbone, config.pop("target_modules"))
        return config | {"target_modules": targets, "exclude_modules": excluded}

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import LoraConfig

        return attach(
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

    def has_fast_layers(self, config: Mapping[str, Any]) -> bool:
        """See `SupportsFastLayers.has_fast_layers`."""
        return not config["dora"] and not config["dropout"]

    def fast_layers(self, module: nn.Module) -> AbstractContextManager[None]:
        """See `SupportsFastLayers.fast_layers`."""
        return fast_layers(module)


METHODS = (Lora(),)
