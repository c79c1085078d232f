"""The kept evaluations of one arm under one seed: its score matrix, and what is computed of it once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from limpet.forgetting import strategies
from limpet.forgetting.metrics import forgetting as metrics
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.forgetting import Scores
from limpet.forgetting.metrics.intervals import Column, Resampled
from limpet.forgetting.metrics.matrix import Row, ScoreMatrix
from limpet.forgetting.metrics.no_drift import forgetting_max_null
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, ReadPredictions
from limpet.registry.values import ArmRun, EvaluationRecord, VersionRecord
from limpet.training.task_types import metric, no_common_unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "METRICS",
    "SEED",
    "ArmRunEvidence",
    "by_arm",
    "first_learned",
    "with_references",
]

SEED = 0  # the examples drawn, and so every interval, are the same whenever a report is made
METRICS: dict[str, Callable[..., float | None]] = {
    "average_accuracy": metrics.average_accuracy,
    "learning_accuracy": metrics.learning_accuracy,
    "bwt_gem": metrics.bwt_gem,
    "forgetting_max": metrics.forgetting_max,
}
"""The metrics of a matrix that have an interval."""


@dataclass(frozen=True)
class ArmRunEvidence:
    """The evidence of one arm under one seed: the evaluations of each step, and the versions that were made.

    Args:
        arm: The arm's run.
        tasks: The tasks of the stream, in order; the columns.
        cells: Evaluation of each task after each step, None where there was none; the rows.
        versions: The version that each step made; a home may learn a task again.
        answering: The version of each task that answers now, where some that were made do not; else empty.
        answering_since: For each of them the step from which on it has answered.
        read: Reads the kept predictions of an evaluation.
        baseline: Score of each task before any training, where an arm of the stream measures it.
        joint: Score of each task learned jointly with those before it, where an arm of the stream measures it.
        fully: For each version the fully fine-tuned one of the same task, None where there is none.
    """

    arm: ArmRun
    tasks: tuple[str, ...]
    cells: tuple[tuple[EvaluationRecord | None, ...], ...]
    versions: tuple[VersionRecord, ...]
    read: ReadPredictions
    answering: tuple[VersionRecord, ...] = ()
    answering_since: tuple[int, ...] = ()
    fully: tuple[VersionRecord | None, ...] = ()
    baseline: Scores | None = None
    joint: Scores | None = None

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Every metric of the matrix by its key; null where scores have no common unit."""
        values = metrics.all_metrics(
            self.rows, self.baseline, self.joint, learned=self.learned, common_unit=self.no_mean is None
        )
        # what is shown beside it: the same statistic of these answers where nothing drifts
        known = values["forgetting_max"] is not None and self.columns
        null = forgetting_max_null(self.columns, self.learned, SEED) if known else None
        before = list(values)[: list(values).index("forgetting_max") + 1]
        return {**{key: values[key] for key in before}, "forgetting_max_null": null, **values}

    @cached_property
    def no_mean(self) -> str | None:
        """Why the scores of the tasks learned so far have no mean; null where they have a common unit."""
        learned = (next((cell for cell in column if cell), None) for column in zip(*self.cells, strict=True))
        scored = [cell for cell, step in zip(learned, self.learned, strict=False) if cell and step < self.steps]
        return no_common_unit({cell.task: cell.metric for cell in scored})

    @property
    def steps(self) -> int:
        """How many additions there were."""
        return len(self.cells)

    @cached_property
    def learned(self) -> tuple[int, ...]:
        """The step that learned each task first, for the tasks so far."""
        return first_learned([version.task for version in self.versions])

    @property
    def earlier(self) -> range:
        """The tasks that were learned before the last step, by their columns."""
        return range(sum(step < self.steps - 1 for step in self.learned))

    @property
    def serving(self) -> tuple[VersionRecord, ...]:
        """The versions that answer: all that were made, unless a home replaced some."""
        return self.answering or self.versions

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The score matrix."""
        scores = [[cell.score if cell else None for cell in row] for row in self.cells]
        return ScoreMatrix.of(self.tasks, scores).rows

    @property
    def audited(self) -> frozenset[tuple[int, int]]:
        """Which scores of the matrix were carried forward by an audit, by row and column."""
        cells = ((step, task, cell) for step, row in enumerate(self.cells) for task, cell in enumerate(row))
        return frozenset((step, task) for step, task, cell in cells if cell is not None and cell.kind == "carried")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The tasks learned so far, example by example; empty where a metric can't be resampled."""
        columns = [self._column(index) for index in range(len(self.learned))]
        known = [column for column in columns if column is not None]
        return tuple(known) if len(known) == len(columns) else ()

    @cached_property
    def resampled(self) -> Resampled:
        """Score matrices of resampled examples; needs `columns`."""
        return intervals.bootstrap_matrices(self.columns, SEED, intervals.RESAMPLES)

    @cached_property
    def resampled_metrics(self) -> dict[str, Array | None]:
        """The metrics with intervals, of every resampled matrix; needs `columns`."""
        if self.no_mean:
            return dict.fromkeys(METRICS)
        metrics_here = {key: partial(metric, learned=self.learned) for key, metric in METRICS.items()}
        return {key: intervals.replicates(metric, self.resampled) for key, metric in metrics_here.items()}

    def exchanged(self, task: int) -> Array | None:
        """Return changes of an earlier task's score after its answers when learned and now were exchanged by coins.

        Null where it was not evaluated at both times, on the same examples, or its metric can't be resampled.
        """
        column = self._column(task)
        first, last = self.learned[task], self.steps - 1
        if column is None or column.predictions[first] is None or column.predictions[last] is None:
            return None
        return intervals.exchanged_changes(column, first, last, seed=SEED, exchanges=intervals.EXCHANGES)

    def predictions(self, step: int, task: int) -> KeptPredictions | None:
        """Return the predictions of a task after a step; None where it was not evaluated."""
        cell = self.cells[step][task]
        return self.read(cell) if cell else None

    def is_correct(self, task: int) -> Callable[[Any, Any], bool] | None:
        """Return what tells a right prediction of a task from a wrong one; None where its metric knows no such."""
        cell = self.cells[self.learned[task]][task]
        return metric(cell.metric).is_correct if cell else None

    def pairs(self) -> list[tuple[EvaluationRecord, EvaluationRecord]]:
        """Return every later evaluation of an earlier task beside the first one of the same version.

        A version that took another's place is no change of what the other answers.
        """
        again = []
        for task in self.earlier:
            first: dict[str, EvaluationRecord] = {}
            for row in self.cells[self.learned[task] :]:
                # what an audit carried forward was not answered again
                if (cell := row[task]) is None or cell.kind == "carried":
                    continue
                before = first.setdefault(cell.version, cell)
                # an evaluation can't prove itself
                if before.id != cell.id:
                    again.append((before, cell))
        return again

    def _column(self, task: int) -> Column | None:
        evaluated = [row[task] for row in self.cells]
        kept = [self.read(cell) if cell else None for cell in evaluated]
        targets = {predictions.targets for predictions in kept if predictions}
        names = {cell.metric for cell in evaluated if cell}
        if len(targets) != 1 or len(names) != 1 or not all(metric(name).counts for name in names):
            return None
        predictions = tuple(each.predictions if each else None for each in kept)
        return Column(self.tasks[task], names.pop(), targets.pop(), predictions)


def first_learned(tasks: Sequence[str]) -> tuple[int, ...]:
    """Return the first place of each task among those that the steps learned, in order."""
    first: dict[str, int] = {}
    for step, task in enumerate(tasks):
        first.setdefault(task, step)
    return tuple(first.values())


def by_arm(arm_runs: Sequence[ArmRunEvidence]) -> dict[str, list[ArmRunEvidence]]:
    """Return the runs of each arm that has begun, by its name."""
    arms: dict[str, list[ArmRunEvidence]] = {}
    for evidence in arm_runs:
        if evidence.steps:
            arms.setdefault(evidence.arm.name, []).append(evidence)
    return arms


def with_references(arm_runs: Sequence[ArmRunEvidence]) -> list[ArmRunEvidence]:
    """Give every arm run b of `fwt_gem` and a* of `intransigence`, where an arm of the same stream measures them.

    A run under the same seed is taken before others, and one by the same method before other methods. No arm is
    measured against itself.
    """
    return [
        replace(
            evidence, baseline=_diagonal(evidence, arm_runs, "baseline"), joint=_diagonal(evidence, arm_runs, "joint")
        )
        for evidence in arm_runs
    ]


def _diagonal(
    evidence: ArmRunEvidence, arm_runs: Sequence[ArmRunEvidence], what: Literal["baseline", "joint"]
) -> Scores | None:
    arm = evidence.arm
    known = [
        other
        for other in arm_runs
        if other.arm.name != arm.name
        and strategies.get(other.arm.strategy).measures == what
        and (other.arm.seed == arm.seed or what == "baseline")
        and other.tasks == evidence.tasks
    ]
    if not known:
        return None
    nearest = min(known, key=lambda other: (other.arm.seed != arm.seed, other.arm.method != arm.method))
    return tuple(nearest.rows[step][step] for step in range(nearest.steps))
