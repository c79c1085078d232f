"""The head of token classification: one logit for each tag, at the first token of every word."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.batching.encoded import Encoded, Field, plan_tokens
from limpet.training.batching.examples import Example, words_of
from limpet.training.heads.base import Head, HeadConfig, lead
from limpet.training.heads.class_weights import weighted_cross_entropy
from limpet.training.heads.protocols import Batch
from limpet.training.metrics.entities import OUTSIDE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TagsPrediction", "TokenConfig", "TokenHead"]

_PADDING = -1
_UNSEEN = -2
_IGNORED = -100


@dataclass(frozen=True)
class TagsPrediction:
    """The answer for one text: a tag for each word, and its probability; null where the word was not seen."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float | None, ...]

    @property
    def shown(self) -> dict[str, Any]:
        """The columns of a table."""
        return {"tags": " ".join(self.tags), "words": " ".join(self.words)}


@dataclass(frozen=True, kw_only=True)
class TokenConfig(HeadConfig):
    """A head of one logit for each of `tags`; words that are not seen get the tag `unseen`."""

    tags: tuple[str, ...]
    unseen: str

    def __post_init__(self) -> None:
        """Check the tags; JSON has them as a list.

        Raises:
            ValueError: They are not one for each label.
        """
        object.__setattr__(self, "tags", tuple(self.tags))
        if len(self.tags) != self.labels or self.unseen not in self.tags:
            raise ValueError(f"it has {len(self.tags)} tags for {self.labels} labels")


class TokenHead(Head):
    """Hidden states (batch, length, hidden) to logits (batch, words, tags).

    A batch's `words` (batch, words) has the place of each word's first token, -2 for words that are not seen because
    they stand beyond the longest text or have no token, and -1 for padding.
    """

    config_class: ClassVar[type[HeadConfig]] = TokenConfig
    config: TokenConfig

    @classmethod
    def configure(cls, task: TaskRecord, base: BaseRecord, train: Sequence[Example]) -> HeadConfig:
        """See `StoredHead.configure`; words that are not seen are outside, or as most training words are."""
        commonest = Counter(tag for example in train for tag in example.target).most_common(1)[0][0]
        return TokenConfig(
            task.definition.type,
            "words",
            base.hidden_size,
            len(task.labels),
            tags=task.labels,
            unseen=OUTSIDE if OUTSIDE in task.labels else commonest,
        )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, *, learning: bool
    ) -> Encoded:
        """See `TrainableHead.encode`; `counts` has the words that are not seen."""
        words = [words_of(example.text) for example in examples]
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                "This base's tokenizer does not say where in the text its tokens stand.",
                "use a base with a tokenizer.json",
            )
        encoded = tokenizer(
            [" ".join(one) for one in words], truncation=True, max_length=max_length, return_offsets_mapping=True
        )
        places = [_first_tokens(one, spans) for one, spans in zip(words, encoded["offset_mapping"], strict=True)]
        planned = plan_tokens(tokenizer, [list(ids) for ids in encoded["input_ids"]])
        fields = {"words": Field([torch.tensor(one) for one in places], fill=_PADDING)}
        if learning:
            known = [self._known(example.target, one) for example, one in zip(examples, places, strict=True)]
            fields["targets"] = Field(known, fill=_IGNORED)
        unseen = sum(one.count(_UNSEEN) for one in places)
        return Encoded(planned.ids, planned.plan, planned.pad_id, fields, {"unseen_words": unseen} if unseen else {})

    def _known(self, tags: Sequence[str], places: Sequence[int]) -> Tensor:
        ids = {tag: number for number, tag in enumerate(self.config.tags)}
        return torch.tensor(
            [_IGNORED if place == _UNSEEN else ids[tag] for tag, place in zip(tags, places, strict=True)]
        )

    def read(self, hidden: Tensor, pooler_output: Tensor | None, batch: Batch) -> Tensor:
        """Return the hidden states (batch, words, hidden) of the words' first tokens."""
        # prefix and prompt methods lengthen the sequence at the front
        hidden = hidden[:, -batch["attention_mask"].shape[1] :]
        places = batch["words"].clamp(min=0).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return hidden.gather(1, places).float()

    def trim(self, values: Tensor, batch: Batch) -> list[Tensor]:
        """See `AnsweringHead.trim`."""
        return [row[words != _PADDING] for row, words in zip(values, batch["words"], strict=True)]

    def answer(self, model: torch.nn.Module, batch: Batch) -> list[Tensor]:
        """See `AnsweringHead.answer`; words that are not seen have nan."""
        outputs = model(**batch)
        return self.trim(outputs.masked_fill((batch["words"] == _UNSEEN).unsqueeze(-1), float("nan")), batch)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (batch, words, tags) against tag ids (batch, words), over the words seen."""
        known = targets != _IGNORED
        if not known.any():
            return outputs.sum() * 0.0
        return weighted_cross_entropy(outputs[known], targets[known], self.class_weights)

    def loss_of(self, rows: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
        """See `TrainableHead.loss_of`: over the words seen."""
        with torch.no_grad():
            return float(self.loss(torch.cat(list(rows)), torch.cat(list(targets))))

    def terms(self, targets: Tensor) -> int:
        """See `TrainableHead.terms`: the words seen."""
        return int((targets != _IGNORED).sum())

    def predict(self, rows: Sequence[Tensor]) -> list[tuple[str, ...]]:
        """The most probable tag of each word; words that are not seen get the tag that the head has for them."""
        return [self._tags(row) for row in rows]

    def _tags(self, row: Tensor) -> tuple[str, ...]:
        seen = (~row.isnan().any(dim=-1)).tolist()
        best = row.argmax(dim=-1).tolist()
        return tuple(
            self.config.tags[at] if known else self.config.unseen for at, known in zip(best, seen, strict=True)
        )

    @property
    def decides(self) -> bool:
        """See `AnsweringHead.decides`."""
        return True

    def slack(self, row: Tensor, threshold: float | None) -> float:
        """See `AnsweringHead.slack`: that of the word whose tag is decided most closely."""
        seen = row[~row.isnan().any(dim=-1)]
        return float(lead(seen).min()) / 2 if len(seen) else math.inf

    def explain(
        self, example: Example, prediction: tuple[str, ...], row: Tensor, *, labels: tuple[str, ...]
    ) -> TagsPrediction:
        """See `AnsweringHead.explain`."""
        likely = torch.softmax(row, dim=-1).amax(dim=-1).tolist()
        return TagsPrediction(
            words_of(example.text), prediction, tuple(None if one != one else one for one in likely)
        )

    def summary(self, row: Tensor) -> list[float]:
        """The mean of the logits over the words that were seen; 0 where none was."""
        seen = row[~row.isnan().any(dim=-1)]
        mean: list[float] = (seen.mean(dim=0) if len(seen) else torch.zeros(row.shape[-1])).tolist()
        return mean


def _first_tokens(words: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the place of the first token of each word, -2 where there is none.

    Args:
        words: The words; the text is these with blanks between them.
        spans: Begin and end of each token in the text; empty for tokens that stand for no text.
    """
    places = []
    begin, token = 0, 0
    for word in words:
        end = begin + len(word)
        while token < len(spans) and (spans[token][1] <= begin or spans[token][0] == spans[token][1]):
            token += 1
        places.append(token if token < len(spans) and spans[token][0] < end else _UNSEEN)
        begin = end + 1
    return places
