"""Classification: one label for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from limpet.errors import DataError
from limpet.registry.formats.json_values import JsonValue
from limpet.training.metrics.metric import ACCURACY, MACRO_F1
from limpet.training.task_types._answers import (
    ANSWER,
    AnswerColumn,
    AnswerForm,
    probability,
    probability_columns,
)
from limpet.training.task_types._base import TaskType
from limpet.training.task_types._labels import read_label, relabelled

if TYPE_CHECKING:
    from limpet.training.heads.base import Head
    from limpet.training.heads.classification import Prediction

__all__ = ["TASK_TYPE", "Classification"]


class Classification(TaskType[str]):
    """A target is a label's name; a split stores its id."""

    name = "classification"
    summary = "one label for each text"
    metrics = (ACCURACY, MACRO_F1)
    target_columns = ("label", "labels", "category", "class", "target")
    noun = "label"
    key = "label"
    stratified = True
    labelled = True

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.classification import ClassificationHead

        return ClassificationHead

    def read(self, cell: object) -> str | None:
        """See `TaskType.read`."""
        if isinstance(cell, list | tuple):
            raise DataError(
                f"It holds a list of labels ({str(cell)[:60]}), and a text of a {self.name} task has one.",
                "--type multi-label",
            )
        return read_label(cell)

    def labels_of(self, target: str) -> Sequence[str]:
        """The label itself."""
        return (target,)

    def encode(self, target: str, labels: tuple[str, ...]) -> int:
        """Return the label's id."""
        return labels.index(target)

    def plain(self, value: int, labels: tuple[str, ...]) -> str:
        """Return the label's name."""
        return labels[value]

    def relabelled(self, prediction: JsonValue, own: tuple[str, ...], wanted: tuple[str, ...]) -> JsonValue:
        """See `TaskType.relabelled`."""
        return relabelled(prediction, own, wanted)

    def answer_columns(self, labels: tuple[str, ...], form: AnswerForm) -> tuple[AnswerColumn, ...]:
        """See `TaskType.answer_columns`."""
        return (AnswerColumn(ANSWER), *(probability_columns(labels) if form.probabilities else ()))

    def answer_cells(self, answer: Prediction, labels: tuple[str, ...], form: AnswerForm) -> tuple[JsonValue, ...]:
        """See `TaskType.answer_cells`: no label where none is as probable as the threshold asks."""
        abstains = form.threshold is not None and answer.probability < form.threshold
        probabilities = map(probability, answer.probabilities) if form.probabilities else ()
        return (None if abstains else answer.label, *probabilities)


TASK_TYPE = Classification()
