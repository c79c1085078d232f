"""P-tuning: word vectors before the text, computed by a small network (Liu et al. 2021, arXiv 2103.10385)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import HEADED, Capabilities, _peft, _prompts, resolve_settings

__all__ = ["METHODS", "PTuning"]

_DEFAULTS: dict[str, Any] = {
    "virtual_tokens": 20,
    "encoder": "mlp",
    "encoder_size": None,
    "encoder_layers": 2,
    "encoder_dropout": 0.0,
}


class PTuning(_prompts.VirtualTokens):
    """Virtual tokens at the input, computed by an MLP or an LSTM that is left away when the version is saved."""

    name = "p-tuning"
    summary = "word vectors before the text, computed by a network (Liu et al. 2021)"
    capabilities = Capabilities(
        task_types=HEADED,
        families=frozenset({"encoder", "decoder", "encoder-decoder"}),
        mergeable=False,
        mixed_batches=False,
        servable=False,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 1e-2
    settings = _DEFAULTS
    peft_type = "P_TUNING"
    alternatives = ("prompt", "prefix", "lora")

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return length and encoder; see `Method.resolve`."""
        config = resolve_settings(self.name, _DEFAULTS, settings)
        _prompts.check_count(config)
        if config["encoder"] not in ("mlp", "lstm"):
            raise UsageError(f"The encoder must be mlp or lstm, not {config['encoder']!r}.", "--set encoder=lstm")
        if config["encoder"] == "mlp" and (config["encoder_layers"], config["encoder_dropout"]) != (2, 0.0):
            raise UsageError("Layers and dropout are settings of the lstm encoder alone.", "--set encoder=lstm")
        if not 0 <= config["encoder_dropout"] < 1:
            raise UsageError(
                f"The encoder's dropout must be in [0, 1), not {config['encoder_dropout']}.",
                "--set encoder_dropout=0.1",
            )
        if config["encoder_layers"] < 1:
            raise UsageError(
                f"The encoder must have at least 1 layer, not {config['encoder_layers']}.", "--set encoder_layers=2"
            )
        _prompts.fill_size(config, "encoder_size", _prompts.embeddings(backbone).embedding_dim)
        return config

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import PromptEncoderConfig

        return _peft.attach(
            backbone,
            PromptEncoderConfig(
                task_type="FEATURE_EXTRACTION",
                num_virtual_tokens=config["virtual_tokens"],
                **_prompts.shape(backbone),
                encoder_reparameterization_type=config["encoder"].upper(),
                encoder_hidden_size=config["encoder_size"],
                encoder_num_layers=config["encoder_layers"],
                encoder_dropout=config["encoder_dropout"],
            ),
        )

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """See `Method.save`; the encoder is left away, and what it computes is kept."""
        _peft.save(module, base_name, folder)

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`; training that goes on moves the prompt itself."""
        return _prompts.load(backbone, files, self.peft_type)

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _peft.detach(module)


METHODS = (PTuning(),)
