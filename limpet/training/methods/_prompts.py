"""What methods share that put virtual tokens before the text: their width, and loading what was trained.

What is saved is the prompt itself, not the network that it may have been computed by; so it is loaded as peft loads
it for inference, and made trainable.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import _peft
from limpet.training.methods._settings import about

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HOW_MANY", "VirtualTokens", "check_takes_past", "embeddings", "load", "shape"]

HOW_MANY = about("how many virtual tokens there are", least=1)
"""What the setting `virtual_tokens` is."""


class VirtualTokens(_peft.ThroughPeft):
    """A method that puts virtual tokens before the text; its setting `virtual_tokens` says how many.

    What they may have been computed by is left away when they are saved, and training that goes on moves themselves.
    """

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return int(config["virtual_tokens"])

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return {"virtual_tokens": peft_config["num_virtual_tokens"]}

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return load(backbone, files, self.peft_type, overrides=self.saved_fields())


def embeddings(backbone: PreTrainedModel) -> nn.Embedding:
    """Return the base's word embeddings; a virtual token is as wide as one of them, not as the hidden states."""
    found: nn.Embedding = backbone.get_input_embeddings()
    return found


def shape(backbone: PreTrainedModel) -> dict[str, int]:
    """Return what peft wants to know of the base, and does not find in every architecture's configuration."""
    return {
        "token_dim": embeddings(backbone).embedding_dim,
        "num_attention_heads": int(backbone.config.num_attention_heads),
        "num_layers": int(backbone.config.num_hidden_layers),
    }


def check_takes_past(backbone: PreTrainedModel) -> None:
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
    backbone: PreTrainedModel,
    files: Mapping[str, Path],
    peft_type: str,
    *,
    overrides: Mapping[str, Any] | None = None,
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
