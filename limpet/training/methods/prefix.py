"""Prefix tuning: trained keys and values before the text in every layer (Li & Liang 2021, arXiv 2101.00190)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import HEADED, Capabilities, _peft, _prompts, resolve_settings

__all__ = ["METHODS", "Prefix"]

_DEFAULTS: dict[str, Any] = {"virtual_tokens": 20, "projection": False, "projection_size": None}


class Prefix(_prompts.VirtualTokens):
    """Keys and values of virtual tokens in every layer; with `projection`, an MLP computes them while training."""

    name = "prefix"
    summary = "trained keys and values in every layer (Li & Liang 2021)"
    capabilities = Capabilities(
        task_types=HEADED,
        families=frozenset({"encoder", "decoder"}),
        mergeable=False,
        mixed_batches=False,
        servable=False,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 3e-2
    settings = _DEFAULTS
    peft_type = "PREFIX_TUNING"
    alternatives = ("prompt", "p-tuning", "lora")

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return super().recorded(peft_config) | {"projection": False, "projection_size": None}

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return length and projection; see `Method.resolve`."""
        _prompts.check_takes_past(backbone)
        config = resolve_settings(self.name, _DEFAULTS, settings)
        _prompts.check_count(config)
        if config["projection_size"] is not None and not config["projection"]:
            raise UsageError("A projection's size is that of projection=true alone.", "--set projection=true")
        if config["projection"]:
            _prompts.fill_size(config, "projection_size", int(backbone.config.hidden_size))
        return config

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
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

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """See `Method.save`; the MLP is left away, and what it computes is kept."""
        _peft.save(module, base_name, folder, overrides={"prefix_projection": False, "encoder_hidden_size": None})

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return _prompts.load(backbone, files, self.peft_type, overrides={"prefix_projection": False})

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _peft.detach(module)


METHODS = (Prefix(),)
