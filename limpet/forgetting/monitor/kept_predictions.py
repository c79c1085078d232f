"""The kept predictions of an evaluation: as they were recorded, or checked against the score recorded with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limpet.errors import IntegrityError
from limpet.forgetting.json_form import as_tuples
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.records import evaluations
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord
from limpet.training.task_types import score

__all__ = [
    "KeptPredictions",
    "ReadContent",
    "ReadPredictions",
    "read_contents",
    "read_predictions",
    "with_label_names",
]

_ROUNDING = 1e-9  # sums of other metrics than accuracy may differ in the last bits from machine to machine


@dataclass(frozen=True)
class KeptPredictions:
    """The kept predictions of one evaluation and what was right, in the order of the task's examples."""

    predictions: tuple[Any, ...]
    targets: tuple[Any, ...]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> KeptPredictions:
        """Return them out of the JSON that was kept."""
        return cls(as_tuples(content["predictions"]), as_tuples(content["targets"]))


ReadContent = Callable[[EvaluationRecord], Mapping[str, Any]]
"""Reads the JSON that was kept of an evaluation: predictions, targets, inputs, and what was loaded."""
ReadPredictions = Callable[[EvaluationRecord], KeptPredictions]
"""Reads the kept predictions of an evaluation, and checks its score by them."""


def read_contents(store: Store) -> ReadContent:
    """Return a reader of what was kept of evaluations, which reads each blob once."""
    contents: dict[str, Mapping[str, Any]] = {}

    def read(evaluation: EvaluationRecord) -> Mapping[str, Any]:
        digest = evaluation.predictions_digest
        if digest not in contents:
            contents[digest] = evaluations.predictions(store, evaluation)
        return contents[digest]

    return read


def read_predictions(store: Store) -> ReadPredictions:
    """Return a reader of kept predictions that reads each blob once: most rows of an isolated arm share theirs.

    A score that its own predictions do not give is refused: such as a 0 where nothing was evaluated.
    """
    scored: dict[tuple[str, str], tuple[KeptPredictions, float]] = {}

    def read(evaluation: EvaluationRecord) -> KeptPredictions:
        blob_and_metric = (evaluation.predictions_digest, evaluation.metric)
        if blob_and_metric not in scored:
            content = evaluations.predictions(store, evaluation)
            given = score(evaluation.metric, content["predictions"], content["targets"])
            scored[blob_and_metric] = KeptPredictions.of(content), given
        predictions, given = scored[blob_and_metric]
        if abs(given - evaluation.score) > _ROUNDING:
            raise IntegrityError(
                f"The score of {evaluation.version} is recorded as {evaluation.score:g}, and its predictions give "
                f"{given:g}.",
                "limpet verify --deep",
            )
        return predictions

    return read


def with_label_names(answer: JsonValue, labels: Sequence[str]) -> JsonValue:
    """Return a kept answer or target with the names of labels in place of ids; what is no id stays as it is."""
    if isinstance(answer, tuple):
        return [with_label_names(part, labels) for part in answer]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(labels):
        return labels[answer]
    return answer
