"""A task learned in context: the base as it is, demonstrations in front of every text, and the likelihood of labels.

Nothing is trained. The score of a label is the sum of the log-probabilities of its word's tokens after the
demonstrations and the text; it is compared as it is, without calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.training.backbone import Backbone, positions
from limpet.training.batches import PAD_TO
from limpet.training.demonstrations import Demonstration, Demonstrations, Script
from limpet.training.likelihood import Continuations

__all__ = ["InContext", "cut_to_fit", "room"]

_ROWS = 8
"""Texts that are read together; each has a copy of the demonstrations' keys and values."""


class InContext(nn.Module):
    """Token ids of texts to log-likelihoods (batch, labels) of their labels' words.

    Args:
        backbone: A decoder with its language-model head.
        demonstrations: What it is told about the task.
        reuse: Read the demonstrations once for all texts.
    """

    def __init__(self, backbone: Backbone, demonstrations: Demonstrations, reuse: bool = True) -> None:
        super().__init__()
        self._script = Script(backbone.tokenizer, demonstrations.template, demonstrations.words)
        self._continuations = Continuations(
            backbone.model,
            backbone.language_head(),
            self._script.beginning(demonstrations),
            self._script.words,
            reuse,
        )

    def tokens(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the token ids of texts to be labelled, in the template, at most `max_length` each."""
        return [self._script.question(text, max_length) for text in texts]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return log-likelihoods (batch, labels) in float32 for ids and mask, both (batch, length)."""
        parts = zip(torch.split(input_ids, _ROWS), torch.split(attention_mask, _ROWS), strict=True)
        return torch.cat([self._continuations.scores(ids, mask) for ids, mask in parts])


def room(model: Any, budget: int) -> int:
    """Return how many tokens a sequence may have: the budget, or the base's positions where those are fewer."""
    places = positions(model)
    return budget if places is None else min(budget, places)


def cut_to_fit(tokenizer: Any, demonstrations: Demonstrations, max_length: int) -> tuple[Demonstrations, int]:
    """Cut the demonstrations' texts so that they leave room for a text of `max_length` tokens and its label.

    Every demonstration has an equal share. Where a text of `max_length` tokens would take more than half of the
    budget, it gets half.

    Returns:
        The demonstrations as they are shown, and how many tokens a text to be labelled may have.

    Raises:
        UsageError: There are more demonstrations than the budget has room for.
    """
    script = Script(tokenizer, demonstrations.template, demonstrations.words)
    longest = max(len(ids) for ids in script.words)
    count = len(demonstrations.shown)
    # padding takes positions too
    most = demonstrations.budget - longest - len(script.beginning(replace(demonstrations, shown=())))
    length = min(max_length, most // 2 if count else most) // PAD_TO * PAD_TO
    share = (most - length) // count if count else 0
    at = {label: place for place, label in enumerate(demonstrations.labels)}
    shown = []
    try:
        for one in demonstrations.shown:
            text = script.cut(one.text, at[one.label], share)
            if not text.strip():
                raise UsageError("Nothing is left of a text.", "")
            shown.append(Demonstration(text, one.label))
        script.question("", length)
    except UsageError:
        raise UsageError(
            f"{count} demonstrations and a text of {length} tokens do not fit into {demonstrations.budget} tokens.",
            "--set shots=1, or a larger --set budget=N",
        ) from None
    return replace(demonstrations, shown=tuple(shown)), length
