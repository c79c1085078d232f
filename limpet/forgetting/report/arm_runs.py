"""What the kept evaluations show: metrics, intervals, flips and identity, and arms against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

from limpet.forgetting.metrics import forgetting as metrics
from limpet.forgetting.metrics import intervals
from limpet.forgetting.metrics.forgetting import Scores
from limpet.forgetting.metrics.intervals import Column, Interval, Resampled
from limpet.forgetting.metrics.matrix import Row, ScoreMatrix
from limpet.forgetting.metrics.no_drift import forgetting_max_null
from limpet.forgetting.monitor.kept_predictions import KeptPredictions, ReadPredictions
from limpet.forgetting.report.arm_cost import arm_cost
from limpet.forgetting.report.values import ArmReport, McNemar, SeedSummary, VersionReport
from limpet.registry.values import SERVED_AGREEMENT, ArmRun, EvaluationRecord, VersionRecord
from limpet.training.metrics.metric import metric, no_common_unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "METRICS",
    "OVER_SEEDS",
    "SEED",
    "Course",
    "all_known",
    "arm_report",
    "by_arm",
    "first_learned",
    "over_seeds",
]

SEED = 0  # the examples drawn, and so every interval, are the same whenever a report is made
METRICS: dict[str, Callable[..., float | None]] = {
    "average_accuracy": metrics.average_accuracy,
    "learning_accuracy": metrics.learning_accuracy,
    "bwt_gem": metrics.bwt_gem,
    "forgetting_max": metrics.forgetting_max,
}
"""The metrics of a matrix that have an interval."""
OVER_SEEDS = (
    *("average_accuracy", "learning_accuracy", "bwt_gem", "forgetting_max", "forgetting_max_null"),
    *("fwt_gem", "intransigence"),
)
"""The metrics that are told over seeds and over orders."""


@dataclass(frozen=True)
class Course:
    """The course of one arm under one seed: the evaluations of each step, and the versions that were made.

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
        found = metrics.all_metrics(
            self.rows, self.baseline, self.joint, learned=self.learned, common_unit=self.no_mean is None
        )
        # what is shown beside it: the same statistic of these answers where nothing drifts
        known = found["forgetting_max"] is not None and self.columns
        null = forgetting_max_null(self.columns, self.learned, SEED) if known else None
        before = list(found)[: list(found).index("forgetting_max") + 1]
        return {**{key: found[key] for key in before}, "forgetting_max_null": null, **found}

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
    def drawn(self) -> dict[str, Array | None]:
        """The metrics with intervals, of every resampled matrix; needs `columns`."""
        if self.no_mean:
            return dict.fromkeys(METRICS)
        of_course = {key: partial(metric, learned=self.learned) for key, metric in METRICS.items()}
        return {key: intervals.replicates(metric, self.resampled) for key, metric in of_course.items()}

    def exchanged(self, task: int) -> Array | None:
        """Return changes of an earlier task's score after its answers when learned and now were exchanged by coins.

        Null where it was not evaluated at both times, on the same examples, or its metric can't be resampled.
        """
        column = self._column(task)
        first, last = self.learned[task], self.steps - 1
        if column is None or column.predictions[first] is None or column.predictions[last] is None:
            return None
        return intervals.exchanged_changes(column, first, last, seed=SEED, exchanges=intervals.EXCHANGES)

    def outcome(self, step: int, task: int) -> KeptPredictions | None:
        """Return the predictions of a task after a step; None where it was not evaluated."""
        cell = self.cells[step][task]
        return self.read(cell) if cell else None

    def right(self, task: int) -> Callable[[Any, Any], bool] | None:
        """Return what tells a right prediction of a task from a wrong one; None where its metric knows no such."""
        cell = self.cells[self.learned[task]][task]
        return metric(cell.metric).right if cell else None

    def pairs(self) -> list[tuple[EvaluationRecord, EvaluationRecord]]:
        """Return every later evaluation of an earlier task beside the first one of the same version.

        A version that took another's place is no change of what the other answers.
        """
        found = []
        for task in self.earlier:
            first: dict[str, EvaluationRecord] = {}
            for row in self.cells[self.learned[task] :]:
                if (cell := row[task]) is None:
                    continue
                before = first.setdefault(cell.version, cell)
                # an evaluation can't prove itself
                if before.id != cell.id:
                    found.append((before, cell))
        return found

    def _column(self, task: int) -> Column | None:
        evaluated = [row[task] for row in self.cells]
        outcomes = [self.read(cell) if cell else None for cell in evaluated]
        targets = {outcome.targets for outcome in outcomes if outcome}
        names = {cell.metric for cell in evaluated if cell}
        if len(targets) != 1 or len(names) != 1 or not all(metric(name).counts for name in names):
            return None
        predictions = tuple(outcome.predictions if outcome else None for outcome in outcomes)
        return Column(self.tasks[task], names.pop(), targets.pop(), predictions)


def arm_report(course: Course) -> ArmReport:
    """Return all that one arm shows under one seed."""
    earlier = course.earlier
    return ArmReport(
        name=course.arm.name,
        strategy=course.arm.strategy,
        method=course.arm.method,
        seed=course.arm.seed,
        task_identity="oracle",
        matrix=course.rows,
        metrics=course.metrics,
        reason=course.no_mean,
        intervals=_intervals(course),
        identical_predictions=_identical(course),
        answers_kept=_answers_kept(course),
        negative_flip_rate=tuple(_flip_rate(course, task, metrics.negative_flip_rate) for task in earlier),
        positive_flip_rate=tuple(_flip_rate(course, task, metrics.positive_flip_rate) for task in earlier),
        mcnemar=tuple(entry for task in earlier if (entry := _mcnemar(course, task)) is not None),
        cost=arm_cost(course.serving, course.fully),
        versions=tuple(map(_version, course.versions)),
        answering=tuple(map(_version, course.serving)),
        answering_since=course.answering_since or course.learned,
        sweep=course.arm.sweep,
        chosen=course.arm.chosen,
        finished=course.arm.finished,
        settings=_settings(course.versions),
    )


def first_learned(tasks: Sequence[str]) -> tuple[int, ...]:
    """Return the first place of each task among those that the steps learned, in order."""
    first: dict[str, int] = {}
    for step, task in enumerate(tasks):
        first.setdefault(task, step)
    return tuple(first.values())


def _settings(versions: Sequence[VersionRecord]) -> dict[str, Any]:
    """The settings of the method and of the loop that the first task was learned with."""
    config = versions[0].config if versions else {}
    return {key: config[key] for key in ("method", "training", "max_length") if key in config}


def _version(version: VersionRecord) -> VersionReport:
    return VersionReport(
        version.reference,
        version.digest,
        version.method,
        version.size,
        version.created_at,
        version.metrics.get(SERVED_AGREEMENT),
    )


def over_seeds(courses: Sequence[Course]) -> tuple[SeedSummary, ...]:
    """Return each arm's mean over its seeds, with a t-interval where there are several."""
    summaries = []
    for name, runs in by_arm(courses).items():
        farthest = max(run.steps for run in runs)
        equal = [run for run in runs if run.steps == farthest]
        for key in OVER_SEEDS:
            values = all_known(run.metrics[key] for run in equal)
            if values:
                seeds = tuple(run.arm.seed for run in equal)
                mean = sum(values) / len(values)
                summaries.append(SeedSummary(name, key, seeds, mean, intervals.t_interval(values)))
    return tuple(summaries)


def by_arm(courses: Sequence[Course]) -> dict[str, list[Course]]:
    """Return the runs of each arm that has begun, by its name."""
    arms: dict[str, list[Course]] = {}
    for course in courses:
        if course.steps:
            arms.setdefault(course.arm.name, []).append(course)
    return arms


def _intervals(course: Course) -> dict[str, Interval]:
    if not course.columns:
        return {}
    values = dict(course.drawn)
    for index, task in enumerate(course.tasks[: len(course.learned)]):
        values[f"score:{task}"] = course.resampled[-1][index]
    return {key: intervals.percentile_interval(known) for key, known in values.items() if known is not None}


def _identical(course: Course) -> bool | None:
    """Whether every evaluation of an earlier task repeats the one made when it was learned."""
    pairs = [
        (course.cells[course.learned[task]][task], row[task])
        for task in course.earlier
        for row in course.cells[course.learned[task] + 1 :]
    ]
    # an evaluation can't prove itself
    again = [(learned, now) for learned, now in pairs if learned and now and learned.id != now.id]
    if not all(_same(course, learned, now) for learned, now in again):
        return False
    asked_again = {now.id for _, now in again}
    last = course.cells[-1] if course.cells else ()
    evaluated = all((now := last[task]) and now.id in asked_again for task in course.earlier)
    return True if again and evaluated else None


def _answers_kept(course: Course) -> bool | None:
    """Whether every version repeats its own first evaluation; None where one that answers was not asked again."""
    pairs = course.pairs()
    if not all(_same(course, before, now) for before, now in pairs):
        return False
    asked_again = {now.id for _, now in pairs}
    for task in course.earlier:
        now = course.cells[-1][task]
        before = {cell.version for row in course.cells[:-1] if (cell := row[task])}
        if now is None or (now.version in before and now.id not in asked_again):
            return None
    return True


def _same(course: Course, learned: EvaluationRecord, now: EvaluationRecord) -> bool:
    # equal bits are promised inside one environment and batch plan only; elsewhere predictions must do
    same_conditions = (learned.environment, learned.plan_digest) == (now.environment, now.plan_digest)
    same_logits = learned.logits_digest == now.logits_digest or not same_conditions
    before, after = course.read(learned), course.read(now)
    # the same predictions are read once
    return same_logits and (before is after or metrics.identical_predictions(before.predictions, after.predictions))


class _FlipRate(Protocol):
    def __call__(
        self, learned: Sequence[Any], now: Sequence[Any], targets: Sequence[Any], *, right: Callable[[Any, Any], bool]
    ) -> float | None: ...


def _flip_rate(course: Course, task: int, rate: _FlipRate) -> float | None:
    learned, now, right = _before_and_now(course, task)
    return rate(learned.predictions, now.predictions, now.targets, right=right) if learned and now and right else None


def _mcnemar(course: Course, task: int) -> McNemar | None:
    learned, now, right = _before_and_now(course, task)
    if not learned or not now:
        return None
    first = course.learned[task]
    before, after = course.cells[first][task], course.cells[-1][task]
    assert before is not None and after is not None
    lost, gained, p_value = None, None, None
    if right:
        triples = zip(learned.predictions, now.predictions, now.targets, strict=True)
        pairs = [(right(before, target), right(after, target)) for before, after, target in triples]
        lost, gained = pairs.count((True, False)), pairs.count((False, True))
        p_value = intervals.mcnemar_exact(lost, gained)
    elif (exchanged := course.exchanged(task)) is not None:
        p_value = intervals.difference_p_value(after.score - before.score, exchanged)
    if p_value is None:
        return None
    # the same examples are drawn for both steps, so that their difference is paired
    drawn = (course.resampled[-1][task], course.resampled[first][task]) if course.columns else (None, None)
    paired = drawn[0] - drawn[1] if drawn[0] is not None and drawn[1] is not None else None
    return McNemar(
        task=course.tasks[task],
        lost=lost,
        gained=gained,
        p_value=p_value,
        change=after.score - before.score,
        interval=None if paired is None else intervals.percentile_interval(paired),
    )


def _before_and_now(
    course: Course, task: int
) -> tuple[KeptPredictions | None, KeptPredictions | None, Callable[[Any, Any], bool] | None]:
    """Return what a task answered when it was learned and answers now; nothing of other examples."""
    learned, now = course.outcome(course.learned[task], task), course.outcome(course.steps - 1, task)
    if learned and now and learned.targets != now.targets:
        return None, None, None
    return learned, now, course.right(task)


def all_known(values: Iterable[float | None]) -> list[float]:
    """Return the values; none of them where one is missing."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return known if len(known) == len(listed) else []
