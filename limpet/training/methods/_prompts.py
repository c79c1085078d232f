"""What methods share that put virtual tokens before the text: their width, and loading what was trained.

What is saved is the prompt itself, not the network that it may have been computed by; so it is loaded as peft loads
it for inference, and made trainable.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import _peft

__all__ = ["VirtualTokens", "check_count", "check_takes_past", "embeddings", "fill_size", "load", "shape"]


class VirtualTokens:
    """A method that puts virtual tokens before the text; its setting `virtual_tokens` says how many."""

    example: Mapping[str, Any] = {}

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return int(config["virtual_tokens"])

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return {"virtual_tokens": peft_config["num_virtual_tokens"]}


def embeddings(backbone: Any) -> nn.Embedding:
    """Return the base's word embeddings; a virtual token is as wide as one of them, not as the hidden states."""
    found: nn.Embedding = backbone.get_input_embeddings()
    return found


def shape(backbone: Any) -> dict[str, int]:
    """Return what peft wants to know of the base, and does not find in every architecture's configuration."""
    return {
        "token_dim": embeddings(backbone).embedding_dim,
        "num_attention_heads": int(backbone.config.num_attention_heads),
        "num_layers": int(backbone.config.num_hidden_layers),
    }


def check_count(config: Mapping[str, Any]) -> None:
    """Refuse prompts of no length.

    Raises:
        UsageError: There is not one virtual token.
    """
    if config["virtual_tokens"] < 1:
        raise UsageError(
            f"There must be at least 1 virtual token, not {config['virtual_tokens']}.", "--set virtual_tokens=20"
        )


def fill_size(config: dict[str, Any], name: str, default: int) -> None:
    """Set a network's inner width to its default where it is null, and refuse networks of no width.

    Raises:
        UsageError: The width is below 1.
    """
    if config[name] is None:
        config[name] = default
    if config[name] < 1:
        raise UsageError(f"{name} must be at least 1, not {config[name]}.", f"--set {name}={default}")


def check_takes_past(backbone: Any) -> None:
    """Refuse models that peft would run without the prefix, or with one in the wrong half.

    Raises:
        UsageError: The base takes no past keys and values.
    """
    what = ""
    if backbone.config.is_encoder_decoder:
        what = "its encoder takes"
    elif "past_key_values" not in inspect.signature(type(backbone).forward).parameters:
        what = f"{backbone.config.model_type} models take"
    if what:
        raise UsageError(f"{what} no past keys and values, and a prefix is nothing else", "--method prompt")


def load(
    backbone: Any, files: Mapping[str, Path], peft_type: str | None, *, overrides: Mapping[str, Any] | None = None
) -> nn.Module:
    """Attach the prompt in `files`, trainable.

    Raises:
        IntegrityError: It does not fit this base.
    """
    module = _peft.load(backbone, files, peft_type, overrides={"inference_mode": True, **(overrides or {})})
    for name, parameter in module.get_submodule("prompt_encoder").named_parameters():
        # a cartridge's first tokens are never trained
        parameter.requires_grad_("frozen" not in name)
    return module
