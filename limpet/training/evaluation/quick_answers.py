"""The answers that go out, for very many texts: float32's, though most texts are computed in bfloat16 alone.

Where bfloat16 is multiplied in hardware it is several times as fast, and moves outputs by a few thousandths. A label
that leads by more than that is the label of float32 too. So all texts are computed in bfloat16, as evaluations are;
some of them also in float32, which shows how far outputs move; and every text whose answer could be another within
four times the largest movement seen so far is computed in float32. Where a number is the answer, or probabilities are
asked for, everything is computed in float32. Of a base whose answers go out in bfloat16, nothing is computed in
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limpet.registry.formats.json_values import JsonObject
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome, run_batches
from limpet.training.evaluation.predict_split import AttachedModel
from limpet.training.heads import AnsweringHead
from limpet.training.model.fast_paths import fast_paths
from limpet.training.progress import SILENT, Progress

__all__ = ["Answers", "Manner", "Screening", "answer_quickly"]

_TRIED = (16, 64)
"""Texts that are computed in both dtypes to begin with: one in sixteen, as many as the first at the least, and as the
second at the most."""
_SAFETY = 4.0
_WORTHWHILE = 0.5
"""Where more of the texts than this share are computed in float32 all the same, bfloat16 is time lost."""


@dataclass(frozen=True)
class Screening:
    """What is known of the movement between the dtypes: the largest so far, null before the first text, and whether
    so few texts are near to another answer that bfloat16 is worthwhile."""

    moved: float | None = None
    worthwhile: bool = True

    def content(self) -> JsonObject:
        """Return it as JSON."""
        return vars(self)


@dataclass(frozen=True)
class Manner:
    """How texts are answered.

    Args:
        exact: Compute all outputs in the served dtype, because they go out themselves.
        threshold: The probability that an answer asks for; see `AnsweringHead.slack`.
        batch_size: Texts that are computed at once at the most; null where the device decides.
    """

    exact: bool = False
    threshold: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Answers:
    """Predictions and outputs in the order of the texts; how many were computed in float32, and what is known now.

    Outputs of texts that were computed in bfloat16 alone are those of bfloat16.
    """

    predictions: Sequence[object]
    rows: Sequence[Tensor]
    in_float32: int
    screening: Screening


def answer_quickly(
    attached: AttachedModel, texts: Encoded, manner: Manner, *, screening: Screening, progress: Progress = SILENT
) -> Answers:
    """Answer texts as they are answered where they are served, but for the last digits of outputs.

    Args:
        attached: What answers.
        texts: The texts.
        manner: How they are answered.
        screening: What is known from texts before these.
        progress: Receives every batch.
    """
    backbone = attached.backbone
    head: AnsweringHead = attached.model.head

    def run(some: Encoded, dtype: str, told: Progress = SILENT) -> Outcome:
        planned = some.tightly_planned(manner.batch_size, backbone.device.type)
        with fast_paths(attached.method, attached.model.module, dtype):
            return run_batches(attached.model, planned, backbone.device, progress=told, name="answer", dtype=dtype)

    quick, served = backbone.evaluation_dtype, backbone.served_dtype
    if manner.exact or quick == served or served != "float32" or not (head.decides and screening.worthwhile):
        outcome = run(texts, served, progress)
        in_float32 = len(outcome.rows) if served == "float32" else 0
        return Answers(outcome.predictions, outcome.rows, in_float32, screening)
    rows = list(run(texts, quick, progress).rows)
    seen = _Seen(rows, screening.moved, lambda places: run(texts.of(places), served).rows)
    if screening.moved is None:
        seen.compute(_spread(texts.lengths))
    near = _SAFETY * (seen.moved or 0.0)
    # the comparison is false for what is not a number, which is computed in float32 too
    unsure = [
        at for at, row in enumerate(rows) if at not in seen.done and not head.slack(row, manner.threshold) > near
    ]
    seen.compute(unsure)
    worthwhile = len(unsure) <= _WORTHWHILE * len(rows)
    known = replace(screening, moved=seen.moved, worthwhile=worthwhile)
    return Answers(attached.model.predict(rows), rows, len(seen.done), known)


class _Seen:
    """Rows of which some were computed again, which take the place of what they were, and how far they moved."""

    def __init__(
        self, rows: list[Tensor], moved: float | None, again: Callable[[Sequence[int]], Sequence[Tensor]]
    ) -> None:
        self._rows, self._again = rows, again
        self.moved = moved
        self.done: set[int] = set()

    def compute(self, places: Sequence[int]) -> None:
        """Compute the rows at these places again."""
        if not places:
            return
        for at, row in zip(places, self._again(places), strict=True):
            # words that are not seen have nan in both
            change = float(torch.nan_to_num(row - self._rows[at]).abs().max()) if row.numel() else 0.0
            self.moved = max(change, self.moved or 0.0)
            self._rows[at] = row
            self.done.add(at)


def _spread(lengths: Sequence[int]) -> list[int]:
    """Return the places of some texts, of all lengths."""
    order = sorted(range(len(lengths)), key=lambda at: (lengths[at], at))
    count = min(max(_TRIED[0], len(order) // 16), _TRIED[1])
    return sorted(order[:: max(1, len(order) // count)][:count])
