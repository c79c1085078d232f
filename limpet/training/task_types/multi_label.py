"""Multi-label classification: any number of labels for each text, none among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from limpet.registry.formats.json_values import JsonValue
from limpet.training.metrics.metric import MACRO_F1, Metric, equal, exact, f1, mean
from limpet.training.metrics.units import SHARE
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
    import numpy as np
    from numpy.typing import NDArray

    from limpet.training.heads.base import Head
    from limpet.training.heads.multi_label import LabelsPrediction

    Array = NDArray[np.float64]

__all__ = ["SEPARATOR", "TASK_TYPE", "MultiLabel"]

SEPARATOR = "|"
"""What stands between the labels of a text where a cell can't hold a list."""
_OTHERS = {";": "semicolons", ",": "commas", "/": "slashes", "\t": "tabs"}


def _overlap(predictions: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Array:
    """Labels of each example that are right, and that are wrong (FP or FN): (2, examples)."""
    import numpy as np

    pairs = [(set(a), set(b)) for a, b in zip(predictions, targets, strict=True)]
    return np.array([[len(a & b) for a, b in pairs], [len(a ^ b) for a, b in pairs]], dtype=np.float64)


def _micro(sums: Array, examples: int) -> Array:
    return f1(sums[..., 0], sums[..., 1])


MICRO_F1 = Metric(
    "micro-f1",
    "2 TP / (2 TP + FP + FN) over all labels of all examples together, in 0 to 1; 0 where there is none",
    _overlap,
    _micro,
    unit=SHARE,
)
SUBSET_ACCURACY = Metric(
    "subset-accuracy",
    "share of the examples whose predicted labels are exactly the target's, in 0 to 1",
    exact,
    mean,
    is_correct=equal,
    unit=SHARE,
)


class MultiLabel(TaskType[tuple[str, ...]]):
    """A target is a set of label names; a split stores their ids, sorted."""

    name = "multi-label"
    summary = "any number of labels for each text"
    metrics = (MICRO_F1, MACRO_F1, SUBSET_ACCURACY)
    target_columns = ("labels", "label", "tags", "categories", "target")
    noun = "label"
    key = "labels"
    labelled = True

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.multi_label import MultiLabelHead

        return MultiLabelHead

    def read(self, cell: object) -> tuple[str, ...] | None:
        """See `TaskType.read`: a list of labels, or a text with `|` between them; an empty one is no label at all."""
        return _labels_of(cell, SEPARATOR)

    def reader(self, cells: Sequence[Any]) -> tuple[Callable[[Any], Any], str]:
        """See `TaskType.reader`: where no cell has a `|`, another separator whose parts stand alone elsewhere."""
        texts = [cell for cell in cells if isinstance(cell, str)]
        if any(SEPARATOR in cell for cell in texts):
            return self.read, ""
        for separator, name in _OTHERS.items():
            several = [cell for cell in texts if separator in cell]
            parts = {part.strip() for cell in several for part in cell.split(separator)} - {""}
            alone = {cell.strip() for cell in texts if separator not in cell}
            if several and parts & alone:
                note = f"the labels of a text are separated by {name} ({several[0]!r})"
                return partial(_labels_of, separator=separator), note
        return self.read, ""

    def labels_of(self, target: tuple[str, ...]) -> Sequence[str]:
        """See `TaskType.labels_of`."""
        return target

    def encode(self, target: tuple[str, ...], labels: tuple[str, ...]) -> list[int]:
        """Return the labels' ids, sorted."""
        return sorted(labels.index(label) for label in target)

    def decode(self, value: list[int]) -> tuple[int, ...]:
        """Return the ids."""
        return tuple(value)

    def plain(self, value: list[int], labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels' names, sorted."""
        return tuple(sorted(labels[one] for one in value))

    def relabelled(
        self, prediction: Sequence[JsonValue], own: tuple[str, ...], wanted: tuple[str, ...]
    ) -> tuple[JsonValue, ...]:
        """See `TaskType.relabelled`; ids in their order, then names."""
        return tuple(sorted((relabelled(one, own, wanted) for one in prediction), key=_order))

    def answer_columns(self, labels: tuple[str, ...], form: AnswerForm) -> tuple[AnswerColumn, ...]:
        """See `TaskType.answer_columns`."""
        answers = AnswerColumn(ANSWER, "texts", SEPARATOR)
        return (answers, *(probability_columns(labels) if form.probabilities else ()))

    def answer_cells(
        self, answer: LabelsPrediction, labels: tuple[str, ...], form: AnswerForm
    ) -> tuple[JsonValue, ...]:
        """See `TaskType.answer_cells`: the labels that are as probable as the threshold asks."""
        chosen, threshold = answer.labels, form.threshold
        if threshold is not None:
            pairs = zip(labels, answer.probabilities, strict=True)
            chosen = tuple(label for label, value in pairs if value >= threshold)
        return (chosen, *(map(probability, answer.probabilities) if form.probabilities else ()))


def _order(label: JsonValue) -> tuple[bool, JsonValue]:
    return not isinstance(label, int), label


def _labels_of(cell: object, separator: str) -> tuple[str, ...] | None:
    if cell is None:
        return None
    parts = cell.split(separator) if isinstance(cell, str) else cell if isinstance(cell, list) else [cell]
    labels = (read_label(part) for part in parts)
    return tuple(sorted({label for label in labels if label is not None}))


TASK_TYPE = MultiLabel()
