"""Prompt tuning: trained word vectors before the text (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.training.base.pretrained import load_tokenizer
from limpet.training.methods import _peft, _prompts
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import about, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "Prompt", "PromptSettings"]


@dataclass(frozen=True)
class PromptSettings:
    """What `--set` takes."""

    virtual_tokens: int = field(default=20, metadata=_prompts.HOW_MANY)
    init: Literal["random", "vocabulary", "text"] = field(
        default="random",
        metadata=about(
            "begin uniformly in [-0.5, 0.5], at words drawn from the base's vocabulary, or at the words of `text`"
        ),
    )
    text: str = field(
        default="",
        metadata=about("the text to begin at, repeated or cut to `virtual_tokens`; with `init=text` alone"),
    )


class Prompt(_prompts.VirtualTokens):
    """Virtual tokens at the input alone, begun at random, at words of the vocabulary, or at the words of a text."""

    name = "prompt"
    summary = "trained word vectors before the text (Lester et al. 2021)"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
    )
    learning_rate = 3e-2
    settings = PromptSettings
    peft_type = "PROMPT_TUNING"
    alternatives = ("p-tuning", "prefix", "lora")

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return length and beginning; see `Method.resolve`."""
        chosen = read_settings(self.name, PromptSettings, settings)
        if (chosen.init == "text") != bool(chosen.text.strip()):
            raise UsageError(
                "init=text and a text belong together.", '--set init=text --set text="What is it about?"'
            )
        return asdict(chosen)

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import PromptTuningConfig

        vocabulary = _prompts.embeddings(backbone)
        module = _peft.attach(
            backbone,
            # the beginning is set here: peft would need a tokenizer by name, again at every load
            PromptTuningConfig(
                task_type="FEATURE_EXTRACTION",
                num_virtual_tokens=config["virtual_tokens"],
                **_prompts.shape(backbone),
            ),
        )
        with torch.no_grad():
            prompt = module.get_parameter("prompt_encoder.default.embedding.weight")
            prompt.copy_(_beginning(backbone, vocabulary, config))
        return module


def _beginning(backbone: PreTrainedModel, vocabulary: nn.Embedding, config: Mapping[str, Any]) -> Tensor:
    """Return first values (virtual tokens, width), in one of the paper's ways; random is uniform in [-0.5, 0.5]."""
    count = int(config["virtual_tokens"])
    device = vocabulary.weight.device
    if config["init"] == "random":
        return (torch.rand(count, vocabulary.embedding_dim) - 0.5).to(device)
    if config["init"] == "vocabulary":
        ids = torch.randint(vocabulary.num_embeddings, (count,))
    else:
        tokenizer = load_tokenizer(Path(backbone.name_or_path))
        found = list(tokenizer(config["text"], add_special_tokens=False)["input_ids"])
        if not found:
            raise UsageError(f"The text {config['text']!r} has no tokens.", "--set text=...")
        # repeated until it is long enough, cut where it is too long
        ids = torch.tensor((found * (-(-count // len(found))))[:count])
    return vocabulary.weight.detach()[ids.to(device)].clone()


METHODS = (Prompt(),)
