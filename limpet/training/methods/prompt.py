"""Prompt tuning: trained word vectors before the text (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.training.base.pretrained import load_tokenizer
from limpet.training.methods import HEADED, Capabilities, _peft, _prompts, resolve_settings

__all__ = ["METHODS", "Prompt"]

_DEFAULTS: dict[str, Any] = {"virtual_tokens": 20, "init": "random", "text": ""}
_INITS = ("random", "vocabulary", "text")


class Prompt(_prompts.VirtualTokens):
    """Virtual tokens at the input alone, begun at random, at words of the vocabulary, or at the words of a text."""

    name = "prompt"
    summary = "trained word vectors before the text (Lester et al. 2021)"
    capabilities = Capabilities(
        task_types=HEADED,
        families=frozenset({"encoder", "decoder", "encoder-decoder"}),
        mergeable=False,
        mixed_batches=False,
        servable=False,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 3e-2
    settings = _DEFAULTS
    peft_type = "PROMPT_TUNING"
    alternatives = ("p-tuning", "prefix", "lora")

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return length and beginning; see `Method.resolve`."""
        config = resolve_settings(self.name, _DEFAULTS, settings)
        _prompts.check_count(config)
        if config["init"] not in _INITS:
            raise UsageError(
                f"A prompt's init must be one of {', '.join(_INITS)}, not {config['init']!r}.",
                "--set init=vocabulary",
            )
        if (config["init"] == "text") != bool(config["text"].strip()):
            raise UsageError(
                "init=text and a text belong together.", '--set init=text --set text="What is it about?"'
            )
        return config

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        from peft import PromptTuningConfig

        words = _prompts.embeddings(backbone)
        module: Any = _peft.attach(
            backbone,
            # the beginning is set here: peft would need a tokenizer by name, again at every load
            PromptTuningConfig(
                task_type="FEATURE_EXTRACTION",
                num_virtual_tokens=config["virtual_tokens"],
                **_prompts.shape(backbone),
            ),
        )
        (encoder,) = module.prompt_encoder.values()
        with torch.no_grad():
            encoder.embedding.weight.copy_(_beginning(backbone, words, config))
        return module  # type: ignore[no-any-return]

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, *, folder: Path) -> None:
        """See `Method.save`."""
        _peft.save(module, base_name, folder)

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return _prompts.load(backbone, files, self.peft_type)

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _peft.detach(module)


def _beginning(backbone: Any, words: nn.Embedding, config: Mapping[str, Any]) -> Tensor:
    """Return first values (virtual tokens, width), in one of the paper's ways; random is uniform in [-0.5, 0.5]."""
    count = int(config["virtual_tokens"])
    device = words.weight.device
    if config["init"] == "random":
        return (torch.rand(count, words.embedding_dim) - 0.5).to(device)
    if config["init"] == "vocabulary":
        ids = torch.randint(words.num_embeddings, (count,))
    else:
        tokenizer = load_tokenizer(Path(backbone.name_or_path))
        found = list(tokenizer(config["text"], add_special_tokens=False)["input_ids"])
        if not found:
            raise UsageError(f"The text {config['text']!r} has no tokens.", "--set text=...")
        # repeated until it is long enough, cut where it is too long
        ids = torch.tensor((found * (-(-count // len(found))))[:count])
    return words.weight.detach()[ids.to(device)].clone()


METHODS = (Prompt(),)
