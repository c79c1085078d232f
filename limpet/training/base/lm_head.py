"""The base's own language-model head: hidden states to logits of the next word.

The head belongs to the base. It is never trained by an adapter, its digest is checked with the base's, and a base
that comes without one can do everything but write text and learn from demonstrations.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limpet.training.base.holding.short_weights import in_dtype_of
from limpet.training.base.pretrained import Pretrained

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["LanguageHead", "head_tensors", "inner_model", "split_head", "tied_head", "virtual_tokens"]

_FEW_WORDS = (1, 2, 3)
_TOLERANCE = 1e-4


class LanguageHead(nn.Module):
    """Hidden states (..., hidden) to logits (..., vocab) in float32: one linear layer.

    Args:
        weight: (vocab, hidden); null where the head reads the word embeddings of the model in front of it.
        bias: (vocab,), or null.
        scale: What hidden states are multiplied with first, as T5 does where embeddings are shared.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor | None, bias: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", None if weight is None else weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.scale = scale
        self._cast: tuple[weakref.ref[Tensor], Any, Tensor] | None = None

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Return logits (..., vocab); `embeddings` are those of the words, (vocab, hidden), of the model in front."""
        weight = embeddings if self.weight is None else self.weight
        if self.scale != 1.0:
            hidden = hidden * self.scale
        weight = in_dtype_of(hidden, self._as_computed(weight))
        return linear(hidden, weight, None if self.bias is None else in_dtype_of(hidden, self.bias)).float()

    def _as_computed(self, weight: Tensor) -> Tensor:
        """Return the weight in autocast's dtype, cast once: it is the model's largest, and asked for each word."""
        kind = weight.device.type
        if not torch.is_autocast_enabled(kind) or (weight.requires_grad and torch.is_grad_enabled()):
            return weight
        state = (weight._version, torch.get_autocast_dtype(kind))
        if self._cast is None or self._cast[0]() is not weight or self._cast[1] != state:
            # what evaluation casts first, training reads too; and the next copy of a base may lie where one lay
            with torch.inference_mode(False):
                self._cast = weakref.ref(weight), state, weight.detach().to(state[1])
        return self._cast[2]


def inner_model(module: PreTrainedModel) -> PreTrainedModel:
    """Return the transformers model within a method's module; what was changed inside it stays changed."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def virtual_tokens(module: PreTrainedModel) -> int:
    """Return how many positions a method's module takes in front of the text."""
    config = getattr(module, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def tied_head(model: PreTrainedModel) -> LanguageHead:
    """Return a head that reads the word embeddings of `model`, as small decoders have it."""
    return LanguageHead(None, scale=_scale(model.config))


def split_head(loaded: Pretrained) -> tuple[Any, LanguageHead | None]:
    """Take a base apart: its transformers model without its head, and its language-model head.

    Args:
        loaded: The base as transformers loads it.

    Returns:
        The model, with the same names and bytes as `AutoModel` gives it; and the head, null where the base has none:
        its files don't hold one, or it is more than one linear layer.
    """
    whole = loaded.model.eval().requires_grad_(False)
    if not loaded.headed:
        return whole, None
    output, names = whole.get_output_embeddings(), head_tensors(whole)
    model = _without_head(whole)
    # what the files don't hold was drawn at random
    if names & set(loaded.missing) or not isinstance(output, nn.Linear):
        return model, None
    tied = output.weight is model.get_input_embeddings().weight
    bias = output.bias if output.bias is not None else getattr(whole, "final_logits_bias", None)
    head = LanguageHead(
        None if tied else output.weight, None if bias is None else bias.reshape(-1), _scale(whole.config)
    )
    return model, head if _agrees(whole, model, head) else None


def head_tensors(whole: PreTrainedModel) -> set[str]:
    """Return the names of the tensors of a model's last layer, which makes logits of words of hidden states."""
    output = whole.get_output_embeddings()
    if output is None:
        return set()
    layers = [name for name, module in whole.named_modules(remove_duplicate=False) if module is output]
    return {f"{layer}.{name}" for layer in layers for name, _ in output.named_parameters()}


def _scale(config: PretrainedConfig) -> float:
    return float(config.d_model**-0.5) if getattr(config, "scale_decoder_outputs", False) else 1.0


def _without_head(whole: PreTrainedModel) -> PreTrainedModel:
    if whole.base_model is not whole:
        return whole.base_model
    # T5's halves stand beside its head: they are put into the model that has none
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(whole.config, trust_remote_code=False)
    for name, part in whole.named_children():
        if hasattr(model, name):
            setattr(model, name, part)
    return model.eval().requires_grad_(False)


def _agrees(whole: PreTrainedModel, model: PreTrainedModel, head: LanguageHead) -> bool:
    """Tell whether the head gives the whole model's logits: some models cap, scale or divide theirs."""
    ids = torch.tensor([_FEW_WORDS], device=model.device)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with torch.inference_mode():
        expected = whole(**inputs).logits.float()
        ours = head(model(**inputs).last_hidden_state, model.get_input_embeddings().weight)
    return bool(torch.allclose(ours, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(expected.abs().max())))
