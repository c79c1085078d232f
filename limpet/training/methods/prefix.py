"""Prefix tuning: trained keys and values before the text in every layer (Li & Liang 2021, arXiv 2101.00190)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import _peft, _prompts
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import about, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "Prefix", "PrefixSettings"]


@dataclass(frozen=True)
class PrefixSettings:
    """What `--set` takes."""

    virtual_tokens: int = field(default=20, metadata=_prompts.HOW_MANY)
    projection: bool = field(
        default=False,
        metadata=about(
            "compute them by an MLP while training, the paper's reparametrisation; what it computes is saved, "
            "the MLP is not"
        ),
    )
    projection_size: int | None = field(
        default=None,
        metadata=about("the MLP's inner width, with `projection` alone; none is the hidden size", least=1),
    )


class Prefix(_prompts.VirtualTokens):
    """Keys and values of virtual tokens in every layer; with `projection`, an MLP computes them while training."""

    name = "prefix"
    summary = "trained keys and values in every layer (Li & Liang 2021)"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
        families=frozenset({"encoder", "decoder"}),
    )
    learning_rate = 3e-2
    settings = PrefixSettings
    peft_type = "PREFIX_TUNING"
    alternatives = ("prompt", "p-tuning", "lora")

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return super().recorded(peft_config) | {"projection": False, "projection_size": None}

    def saved_fields(self) -> dict[str, Any]:
        """See `ThroughPeft.saved_fields`: the MLP is left away."""
        return {"prefix_projection": False, "encoder_hidden_size": None}

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return length and projection; see `Method.resolve`."""
        _prompts.check_takes_past(backbone)
        chosen = read_settings(self.name, PrefixSettings, settings)
        if chosen.projection_size is not None and not chosen.projection:
            raise UsageError("A projection's size is that of projection=true alone.", "--set projection=true")
        if chosen.projection and chosen.projection_size is None:
            chosen = replace(chosen, projection_size=int(backbone.config.hidden_size))
        return asdict(chosen)

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import PrefixTuningConfig

        return _peft.attach(
            backbone,
            PrefixTuningConfig(
                task_type="FEATURE_EXTRACTION",
                num_virtual_tokens=config["virtual_tokens"],
                prefix_projection=config["projection"],
                encoder_hidden_size=config["projection_size"],
            ),
        )


METHODS = (Prefix(),)
