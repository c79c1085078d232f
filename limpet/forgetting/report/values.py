"""What a report says, as frozen values, and their JSON: the form that `limpet report --json` promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from limpet.forgetting.json_form import as_json
from limpet.forgetting.monitor.replacement_values import Replacement
from limpet.forgetting.monitor.version_errors import VersionErrors
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.comparison_values import Comparison, Drift, Order, OrderSummary, SeedSummary
from limpet.forgetting.stream.published_figures import Published
from limpet.registry.formats.html_table import html_table
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records.alarms import Alarm
from limpet.registry.values import Environment, Tombstone
from limpet.registry.versions.serving import TaskInService

__all__ = ["BaseReport", "LabelReport", "Report", "TaskReport"]


@dataclass(frozen=True)
class BaseReport:
    """The base of the stream; `unchanged` is None where no arm checked it, because each trained a copy."""

    name: str
    digest: str
    unchanged: bool | None


@dataclass(frozen=True)
class TaskReport:
    """One task of the stream: what is measured and how that is defined, on how many examples, of which data.

    `majority_baseline` is what the same answer to every text scores.
    """

    name: str
    metric: str
    definition: str
    eval_examples: int
    data_digest: str
    majority_baseline: float | None = None


@dataclass(frozen=True)
class LabelReport:
    """What a version got wrong when it was learned, label by label; `arm` and `seed` say in which run of an arm."""

    arm: str
    seed: int
    errors: VersionErrors

    def to_json(self) -> JsonObject:
        """Return it with the version's own keys; of its wrong answers, only how many there are."""
        content = as_json(replace(self.errors, wrong=()))
        return {"arm": self.arm, "seed": self.seed, **content, "wrong": len(self.errors.wrong)}


@dataclass(frozen=True)
class Report:
    """All that was measured on one stream.

    `drifts` say of every arm whether its earlier tasks changed. `orders` are the orders of its tasks that were begun,
    with what they come to together; `published` are figures of others on the same tasks, never ours. `replaced` has,
    of a home, each version that another took the place of, in time, and at the end the newest addition if it waits to
    take one; `serving` has each task of a home with what answers for it now. `alarms` are those open about its
    versions. `labels` has what each arm's versions got wrong under its first seed, label by label. `removed` has the
    tasks that were removed since. `spec` is the stream file and `environments` are where the versions were made; they
    are for readers and stand in the HTML and Markdown forms, not in the JSON.
    """

    stream: str
    base: BaseReport
    tasks: tuple[TaskReport, ...]
    arms: tuple[ArmReport, ...]
    comparisons: tuple[Comparison, ...]
    seeds: tuple[SeedSummary, ...]
    environments: tuple[Environment, ...]
    spec: JsonObject
    orders: tuple[Order, ...] = ()
    over_orders: tuple[OrderSummary, ...] = ()
    published: tuple[Published, ...] = ()
    replaced: tuple[Replacement, ...] = ()
    drifts: tuple[Drift, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    serving: tuple[TaskInService, ...] = ()
    labels: tuple[LabelReport, ...] = ()
    removed: Mapping[str, Tombstone] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ", ".join(task.name for task in self.tasks)
        return f"<Report of {self.stream}: {names or 'no task'}>"

    def _repr_html_(self) -> str:
        tables = [
            html_table(
                f"{self.stream}: scores after each addition"
                if arm.of_home
                else f"{self.stream}, {arm.label}: scores after each step",
                ("after", *arm.tasks),
                ((version.reference, *row) for version, row in zip(arm.versions, arm.matrix, strict=False)),
            )
            for arm in self.arms
        ]
        return "".join(tables)

    def to_json(self) -> JsonObject:
        """Return the report as `limpet report --json` prints it."""
        return {
            "schema": 1,
            "stream": self.stream,
            "base": as_json(self.base),
            "tasks": [as_json(task) for task in self.tasks],
            "arms": [arm.to_json() for arm in self.arms],
            "comparisons": [as_json(comparison) for comparison in self.comparisons],
            "drifts": [as_json(drift) for drift in self.drifts],
            "seeds": [as_json(summary) for summary in self.seeds],
            "orders": [as_json(order) for order in self.orders],
            "over_orders": [as_json(summary) for summary in self.over_orders],
            "published": [as_json(figure) for figure in self.published],
            "labels": [labels.to_json() for labels in self.labels],
            "alarms": [as_json(alarm) for alarm in self.alarms],
            "replaced": [replacement.to_json() for replacement in self.replaced],
            "serving": [task.to_json() for task in self.serving],
            "removed": {task: as_json(tombstone) for task, tombstone in self.removed.items()},
        }
