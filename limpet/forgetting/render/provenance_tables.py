"""Tables of where a report comes from: sweeps, tasks, versions, environments, and the definition behind every key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from limpet.forgetting.metrics.forgetting import DEFINITIONS
from limpet.forgetting.render.tables import UNDEFINED, Table, arm_column, label, number, size
from limpet.forgetting.report.values import Report
from limpet.names import shown_method
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import Environment
from limpet.registry.versions.costs import COSTS, LATENCY

__all__ = [
    "COST_DEFINITIONS",
    "baseline_line",
    "definition_table",
    "environment_table",
    "settings_text",
    "sweep_table",
    "task_table",
    "version_table",
]

COST_DEFINITIONS = COSTS | {f"latency.{key}": definition for key, definition in LATENCY.items()}


def sweep_table(report: Report) -> Table:
    """Return every candidate of every sweep with its mean validation score."""
    rows = [
        (
            label(report, arm),
            settings_text(candidate.get("settings", {})),
            _rated(candidate),
            "chosen" if candidate.get("settings") == arm.chosen else "",
        )
        for arm in report.arms
        for candidate in arm.sweep
    ]
    note = (
        "Chosen by the mean score on validation data after the last task, never on the evaluation split; under the "
        "first seed and the first order of the tasks alone, for all."
    )
    if any("mean_rank" in candidate for arm in report.arms for candidate in arm.sweep):
        note += " Where the tasks' scores have no common unit, it is by the mean over tasks of a candidate's rank."
    return Table("sweeps", ("arm", "settings", "validation", ""), tuple(rows), note)


def _rated(candidate: JsonObject) -> str:
    rank = candidate.get("mean_rank")
    return number(candidate.get("mean")) if rank is None else f"rank {number(rank, 2)}"


def settings_text(settings: Mapping[str, object]) -> str:
    """Return what was tried in a sweep, as `--set` takes it."""
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
    )


def task_table(report: Report) -> Table:
    """Return the tasks of the stream."""
    rows = [
        (
            f"{index} {task.name}",
            task.metric,
            number(task.majority_baseline),
            str(task.eval_examples),
            task.data_digest,
        )
        for index, task in enumerate(report.tasks, start=1)
    ]
    defined = dict.fromkeys(f"{task.metric} is {task.definition}." for task in report.tasks)
    defined[
        "Majority baseline: the score of the same answer to every text, the commonest of the training targets."
    ] = None
    columns = ("task", "metric", "majority baseline", "evaluation examples", "data digest")
    return Table("tasks", columns, tuple(rows), " ".join(defined))


def baseline_line(report: Report) -> str:
    """Return what the same answer to every text scores on each task; nothing where no task is known."""
    baselines = [(task.name, task.majority_baseline) for task in report.tasks if task.majority_baseline is not None]
    return (
        "majority baseline: " + ", ".join(f"{name} {number(value)}" for name, value in baselines) if baselines else ""
    )


def version_table(report: Report) -> Table:
    """Return every version with its digest."""
    rows = [
        (
            version.reference,
            label(report, arm),
            shown_method(version.method),
            size(version.size),
            version.created_at,
            version.digest,
        )
        for arm in report.arms
        for version in arm.versions
    ]
    return Table("versions", ("version", arm_column(report), "method", "size", "created", "digest"), tuple(rows))


def environment_table(environments: Sequence[Environment]) -> Table:
    """Return where versions were trained and evaluated."""
    rows = tuple(tuple(str(value) for value in asdict(environment).values()) for environment in environments)
    return Table("environment", tuple(asdict(environments[0])) if environments else (), rows)


def definition_table() -> Table:
    """Return the definition behind every key."""
    note = (
        f"R[i][j] is the score on task j after learning task i, of T tasks; higher is better. {UNDEFINED} The task "
        "of an example is given (oracle) unless a score says that it was inferred (routed)."
    )
    return Table("definitions", ("key", "definition"), (*DEFINITIONS.items(), *COST_DEFINITIONS.items()), note)
