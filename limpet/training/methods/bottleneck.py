"""Bottleneck adapters: small layers with a skip connection in every block (Houlsby et al. 2019, arXiv 1902.00751).

Pfeiffer et al. 2021 (arXiv 2005.00247) keep only the one after the feed-forward block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods._peft import ThroughPeft, attach
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import about, default_settings, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "Bottleneck", "BottleneckSettings"]


@dataclass(frozen=True)
class BottleneckSettings:
    """What `--set` takes."""

    placement: Literal["houlsby", "pfeiffer"] = field(
        default="houlsby",
        metadata=about("after attention and after the feed-forward block, or after the latter alone"),
    )
    reduction_factor: float = field(
        default=16.0, metadata=about("the block's width divided by the adapter's; above 0")
    )
    size: int | None = field(
        default=None, metadata=about("the adapter's width itself; wins over `reduction_factor`", least=1)
    )
    activation: Literal["gelu", "relu", "swish"] = field(
        default="gelu", metadata=about("between the two projections")
    )


class Bottleneck(ThroughPeft):
    """h + up(act(down(h))) after attention and feed-forward; begins as the identity."""

    name = "bottleneck"
    summary = "small layers inside every block (Houlsby et al. 2019, Pfeiffer et al. 2021)"
    capabilities = Capabilities(task_types=ALL_HEADED)
    learning_rate = 6e-3
    settings = BottleneckSettings
    peft_type = "BOTTLENECK"
    alternatives = ("lora", "ia3")

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return {name: peft_config.get(name, default) for name, default in default_settings(self.settings).items()}

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the adapter's shape and the pattern of the modules that have one; see `Method.resolve`."""
        from limpet.training.methods import _bottleneck

        config = asdict(read_settings(self.name, BottleneckSettings, settings))
        try:
            _bottleneck.BottleneckConfig(**config)
            targets = _bottleneck.pattern(backbone.config.model_type, config["placement"])
        except ValueError as error:
            raise UsageError(f"The bottleneck's {error}.", "--set placement=pfeiffer --set size=24") from error
        return config | {"target_modules": targets}

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from limpet.training.methods import _bottleneck

        return attach(backbone, _bottleneck.BottleneckConfig(task_type="FEATURE_EXTRACTION", **config))


METHODS = (Bottleneck(),)
