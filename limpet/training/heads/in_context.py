"""A task learned in context: the base as it is, demonstrations in front of every text, and the likelihood of labels.

Nothing is trained. The score of a label is the sum of the log-probabilities of its word's tokens after the
demonstrations and the text; it is compared as it is, without calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import DEMONSTRATIONS_FILE
from limpet.training.base.backbone import positions
from limpet.training.base.lm_head import LanguageHead, virtual_tokens
from limpet.training.batching.batches import PAD_TO
from limpet.training.batching.encoded import Encoded, plan_tokens
from limpet.training.batching.examples import Example, flat_text
from limpet.training.generation.continuation_likelihood import Continuations
from limpet.training.generation.demonstrations import Demonstration, Demonstrations, Script, parse, write
from limpet.training.heads.base import Batch, HeadConfig
from limpet.training.heads.classification import ClassificationHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from limpet.training.base.backbone import Backbone

__all__ = ["InContextHead", "cut_to_fit", "room"]

_ROWS = 8
"""Texts that are read together; each has a copy of the demonstrations' keys and values."""


@dataclass(frozen=True)
class _Bound:
    """What the head takes of the base, in a plain value so that nothing of the base is taken for the head's own."""

    script: Script
    lm_head: LanguageHead
    beginning: list[int]
    room: int


class InContextHead(ClassificationHead):
    """Texts to log-likelihoods (labels) of their labels' words; it has demonstrations in place of tensors.

    Args:
        demonstrations: What the base is told about the task.
        reuse: Read the demonstrations once for all texts.
    """

    def __init__(self, demonstrations: Demonstrations, reuse: bool = True) -> None:
        nn.Module.__init__(self)
        self.config = HeadConfig("classification", "none", 0, len(demonstrations.labels), 0.0)
        self.demonstrations = demonstrations
        self._reuse = reuse
        self._base: _Bound | None = None
        self._continuations: Continuations | None = None

    def bind_base(self, backbone: Backbone) -> None:
        """Make tokens of the demonstrations.

        Raises:
            UsageError: The base has no language-model head, or can't tell two labels' words apart.
        """
        told = self.demonstrations
        script = Script(backbone.tokenizer, told.template, told.words)
        beginning = script.beginning(told)
        longest = max(len(ids) for ids in script.words)
        left = (room(backbone.model, told.budget) - len(beginning) - longest) // PAD_TO * PAD_TO
        self._base = _Bound(script, backbone.language_head(), beginning, left)

    def attach_module(self, module: nn.Module) -> None:
        """See `AnsweringHead.attach_module`: the likelihoods are those under the module's weights."""
        bound = self._bound
        self._base = replace(bound, room=(bound.room - virtual_tokens(module)) // PAD_TO * PAD_TO)
        self._continuations = Continuations(
            module, bound.lm_head, bound.beginning, continuations=bound.script.words, reuse=self._reuse
        )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, *, learning: bool
    ) -> Encoded:
        """Turn texts into questions of at most `max_length` tokens, template included; see `TrainableHead.encode`."""
        script, length = self._bound.script, min(max_length, self._bound.room)
        encoded = plan_tokens(tokenizer, [script.question(flat_text(example.text), length) for example in examples])
        return replace(encoded, shared=(tuple(self._bound.beginning), *map(tuple, script.words)))

    def answer(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Return log-likelihoods (labels) for each text of a batch."""
        parts = zip(torch.split(batch["input_ids"], _ROWS), torch.split(batch["attention_mask"], _ROWS), strict=True)
        if self._continuations is None:
            raise RuntimeError("the head has no module in front of it")
        return [row for ids, mask in parts for row in self._continuations.scores(ids, mask)]

    def save(self, folder: Path) -> None:
        """Write the demonstrations; see `StoredHead.save`."""
        (folder / DEMONSTRATIONS_FILE).write_bytes(write(self.demonstrations))

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> InContextHead:
        """Return the head that an adapter's files describe.

        Raises:
            IntegrityError: The file of demonstrations is missing or unsound.
        """
        if DEMONSTRATIONS_FILE not in files:
            raise IntegrityError(f"The adapter has no {DEMONSTRATIONS_FILE}.", "limpet verify")
        return cls(parse(files[DEMONSTRATIONS_FILE].read_bytes()))

    @property
    def _bound(self) -> _Bound:
        if self._base is None:
            raise RuntimeError("the head was not bound to a base")
        return self._base


def room(model: PreTrainedModel, budget: int) -> int:
    """Return how many tokens a sequence may have: the budget, or the base's positions where those are fewer."""
    places = positions(model)
    return budget if places is None else min(budget, places)


def cut_to_fit(
    tokenizer: PreTrainedTokenizerBase, demonstrations: Demonstrations, max_length: int
) -> tuple[Demonstrations, int]:
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
