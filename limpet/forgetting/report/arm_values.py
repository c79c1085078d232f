"""What a report says of one arm, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limpet.forgetting.json_form import as_json
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.metrics.matrix import Row
from limpet.forgetting.monitor.prediction_diff import Difference
from limpet.registry.formats.json_values import JsonObject
from limpet.training.metrics.ability import less_is_better

__all__ = ["AbilityReport", "AdapterReport", "ArmReport", "Cost", "McNemar", "VersionReport"]


@dataclass(frozen=True)
class Cost:
    """What an arm cost: bytes on disk for each task, seconds and examples per second of each step.

    `trainable_parameters`, `trainable_share` and peak memory are those of the largest step: heads grow with their
    labels. Bytes are means over the tasks, latencies medians. `against_full` has the figures of
    `registry.costs.COMPARED` divided by those of full fine-tuning on the same task, as means over the tasks. What is
    not known, as of an adapter trained elsewhere, is None.
    """

    trainable_parameters: int | None
    trainable_share: float | None
    bytes_per_task: int | None
    train_seconds: tuple[float | None, ...]
    examples_per_second: tuple[float | None, ...]
    peak_memory_bytes: int | None
    examples_seen: tuple[int | None, ...] = ()
    optimiser_steps: tuple[int | None, ...] = ()
    peak_memory_added_bytes: int | None = None
    full_checkpoint_bytes: int | None = None
    bytes_share: float | None = None
    latency_milliseconds: float | None = None
    base_latency_milliseconds: float | None = None
    latency_ratio: float | None = None
    merged_latency_ratio: float | None = None
    base_unchanged: bool | None = None
    against_full: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class McNemar:
    """A task before and after: examples lost and gained since it was learned, exact McNemar p-value.

    Where the metric knows no right and wrong, `lost` and `gained` are None, and the p-value is that of the score's
    change under random exchange of each example's two answers. `change` is the score now less that when it was
    learned, `interval` its paired bootstrap interval over examples; None where the metric can't be resampled.
    `p_holm` is the p-value corrected for all tests of the report, None where no answer changed.
    """

    task: str
    lost: int | None
    gained: int | None
    p_value: float
    change: float
    interval: Interval | None = None
    p_holm: float | None = None

    @property
    def changed(self) -> bool:
        """Whether an answer changed from right to wrong or back; by a metric that knows neither, the score."""
        return self.change != 0 if self.lost is None or self.gained is None else self.lost + self.gained > 0


@dataclass(frozen=True)
class VersionReport:
    """The version that a step made; `served_agreement` is None where it was not measured."""

    reference: str
    digest: str
    method: str
    size: int
    created_at: str
    served_agreement: float | None = None

    @property
    def task(self) -> str:
        """The task that it is a version of."""
        return self.reference.partition("@")[0]


@dataclass(frozen=True)
class AbilityReport:
    """One ability task under one arm.

    `before` is the base alone, `steps` what was found after each step; `intervals` are those of each step less
    `before`, from the same examples drawn for both, `p_values` those of no change, by random exchange of each
    example's two answers, and `p_holm` the ones that a conclusion rests on, corrected for all of the report.
    `taken_off` is the base alone asked again after the arm, and
    `identical` says whether it then answered bit for bit as before; both None where it was not asked again.
    """

    kind: str
    task: str
    metric: str
    examples: int
    before: float
    steps: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    taken_off: float | None
    identical: bool | None
    p_values: tuple[float | None, ...] = ()
    p_holm: tuple[float | None, ...] = ()

    @property
    def name(self) -> str:
        """The ability task, for people."""
        return f"{self.kind} on {self.task}"

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller value is a better one."""
        return less_is_better(self.metric)


@dataclass(frozen=True)
class AdapterReport:
    """A task through its own head: with its own adapter, with another task's, and with none.

    The intervals are those of `own` less the other, from the same examples drawn for both; None where the metric
    can't be resampled, or there is no other task. `p_value` is that of no difference between `own` and `wrong`, by
    random exchange of each example's two answers, and `p_holm` the same corrected for all of the report.
    """

    task: str
    metric: str
    own: float
    wrong_task: str | None
    wrong: float | None
    none: float | None
    over_wrong: Interval | None
    over_none: Interval | None
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class ArmReport:
    """One arm of the stream under one seed.

    `matrix[i][j]` is the score on task j after step i, None where it was not evaluated; a stream in
    progress has fewer rows than columns, and `metrics` are then those of the tasks learned so far. A home that grows
    has a row for each addition, `versions`, and `answering` are those that answer now, each since the step in
    `answering_since`; of a stream they are all.
    `audited` has the rows and columns of the scores that were not measured, but carried forward by an audit.
    `of_home` says that it is a home that grows, and no arm of a stream.
    `answers_kept` says whether each version repeats what it answered at first, whatever took another's place.
    `negative_flip_rate`, `positive_flip_rate` and `mcnemar` have one entry for each earlier task, in task
    order. `differences` has, for each earlier task that is not answered as when it was learned though its weights
    are its own, the first example and the likely cause. `ability` has the ability tasks, `adapters` each
    task under its own adapter, another's and none; both are empty where the stream asks none. `task_identity` says
    whether the task of an example was given (`oracle`) or inferred (`routed`). `reason` says why `metrics` are null
    where the tasks' scores have no common unit, and so no mean. `settings` are those that the first task was learned
    with: of the method and of the loop.
    """

    name: str
    strategy: str
    method: str
    seed: int
    task_identity: str
    matrix: tuple[Row, ...]
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    identical_predictions: bool | None
    negative_flip_rate: tuple[float | None, ...]
    positive_flip_rate: tuple[float | None, ...]
    mcnemar: tuple[McNemar, ...]
    cost: Cost
    versions: tuple[VersionReport, ...]
    sweep: tuple[JsonObject, ...]
    chosen: JsonObject
    finished: bool
    differences: tuple[Difference, ...] = ()
    ability: tuple[AbilityReport, ...] = ()
    adapters: tuple[AdapterReport, ...] = ()
    answering: tuple[VersionReport, ...] = ()
    answering_since: tuple[int, ...] = ()
    answers_kept: bool | None = None
    of_home: bool = False
    audited: frozenset[tuple[int, int]] = frozenset()
    reason: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks learned so far, in order: the columns."""
        return tuple(dict.fromkeys(self.steps))

    @property
    def steps(self) -> tuple[str, ...]:
        """The task that each step learned: the rows."""
        return tuple(version.task for version in self.versions)

    @property
    def learned(self) -> tuple[int, ...]:
        """The step that learned each task first."""
        return tuple(map(self.steps.index, self.tasks))

    @property
    def audited_now(self) -> tuple[str, ...]:
        """The tasks whose score after the last step was carried forward by an audit."""
        last = len(self.matrix) - 1
        return tuple(task for column, task in enumerate(self.tasks) if (last, column) in self.audited)

    @property
    def not_evaluated(self) -> tuple[str, ...]:
        """The tasks that nothing was asked of after the last step."""
        last = self.matrix[-1] if self.matrix else ()
        return tuple(task for task, score in zip(self.tasks, last, strict=False) if score is None)

    @property
    def label(self) -> str:
        """The arm's name with its seed; a home that grows has neither."""
        return self.called if self.of_home else f"{self.name}, seed {self.seed}"

    @property
    def called(self) -> str:
        """The arm's name, for people."""
        return "the home" if self.of_home else self.name

    def to_json(self) -> JsonObject:
        """Return the arm as the contract has it: versions by reference, null where undefined."""
        return {
            "name": self.name,
            "strategy": self.strategy,
            "method": self.method,
            "seed": self.seed,
            "task_identity": self.task_identity,
            "matrix": [list(row) for row in self.matrix],
            "audited": [
                [(step, column) in self.audited for column in range(len(row))] for step, row in enumerate(self.matrix)
            ],
            "metrics": dict(self.metrics),
            "reason": self.reason,
            "intervals": {key: list(interval) for key, interval in self.intervals.items()},
            "identical_predictions": self.identical_predictions,
            "negative_flip_rate": list(self.negative_flip_rate),
            "positive_flip_rate": list(self.positive_flip_rate),
            "mcnemar": [as_json(entry) for entry in self.mcnemar],
            "cost": as_json(self.cost),
            "versions": [version.reference for version in self.versions],
            "served_agreement": [version.served_agreement for version in self.versions],
            "sweep": list(self.sweep),
            "chosen": dict(self.chosen),
            "settings": dict(self.settings),
            "finished": self.finished,
            "differences": [as_json(difference) for difference in self.differences],
            "ability": [as_json(ability) for ability in self.ability],
            "adapters": [as_json(adapter) for adapter in self.adapters],
        }
