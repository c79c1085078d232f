"""P-tuning: word vectors before the text, computed by a small network (Liu et al. 2021, arXiv 2103.10385)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from limpet.errors import UsageError
from limpet.training.methods import _peft, _prompts
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import about, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "PTuning", "PTuningSettings"]


@dataclass(frozen=True)
class PTuningSettings:
    """What `--set` takes."""

    virtual_tokens: int = field(default=20, metadata=_prompts.HOW_MANY)
    encoder: Literal["mlp", "lstm"] = field(default="mlp", metadata=about("the network that computes them"))
    encoder_size: int | None = field(
        default=None, metadata=about("the network's inner width; none is the width of a word", least=1)
    )
    encoder_layers: int = field(default=2, metadata=about("layers of the LSTM", least=1))
    encoder_dropout: float = field(
        default=0.0, metadata=about("between the layers of the LSTM; a share", least=0, below=1)
    )


class PTuning(_prompts.VirtualTokens):
    """Virtual tokens at the input, computed by an MLP or an LSTM that is left away when the version is saved."""

    name = "p-tuning"
    summary = "word vectors before the text, computed by a network (Liu et al. 2021)"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
    )
    learning_rate = 1e-2
    settings = PTuningSettings
    peft_type = "P_TUNING"
    alternatives = ("prompt", "prefix", "lora")

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return length and encoder; see `Method.resolve`."""
        chosen = read_settings(self.name, PTuningSettings, settings)
        if chosen.encoder == "mlp" and (chosen.encoder_layers, chosen.encoder_dropout) != (2, 0.0):
            raise UsageError("Layers and dropout are settings of the lstm encoder alone.", "--set encoder=lstm")
        if chosen.encoder_size is None:
            chosen = replace(chosen, encoder_size=_prompts.embeddings(backbone).embedding_dim)
        return asdict(chosen)

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
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


METHODS = (PTuning(),)
