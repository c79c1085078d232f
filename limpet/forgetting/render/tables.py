"""The tables of a report as text cells, made once here; the terminal, Markdown and HTML draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from limpet.forgetting.metrics.forgetting import DEFINITIONS
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.conclusion import arm_names, mean_with_interval, runs_of
from limpet.forgetting.report.values import Report
from limpet.registry.versions.costs import COMPARED, COSTS, LATENCY

__all__ = [
    "MISSING",
    "Table",
    "added",
    "arrow",
    "baseline_line",
    "before_learning",
    "comparison_table",
    "cost_table",
    "count",
    "definition_table",
    "drift_table",
    "efficiency_table",
    "environment_table",
    "flip_table",
    "identical",
    "label",
    "matrix_table",
    "mean",
    "metric_table",
    "number",
    "percent",
    "settings_text",
    "size",
    "span",
    "sweep_table",
    "task_table",
    "times",
    "total",
    "version_table",
    "with_interval",
]

MISSING = "-"
_COST_DEFINITIONS = COSTS | {f"latency.{key}": definition for key, definition in LATENCY.items()}
_COMPARED_NAMES = {
    "train_seconds": "training seconds",
    "examples_per_second": "examples per second",
    "peak_memory_bytes": "peak memory",
    "peak_memory_added_bytes": "memory added",
}
_WIDEST_MATRIX = 12  # tasks; beyond that a matrix fits no screen
_LONGEST_VALUE = 26  # characters; a number with its interval has fewer
_SMALLEST_CHANGE = 5e-4  # what three digits can show


@dataclass(frozen=True)
class Table:
    """A table of text; the first column holds names, the others values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def wordy(self) -> frozenset[int]:
        """The columns that hold sentences and not only values."""
        cells = ((index, cell) for row in self.rows for index, cell in enumerate(row) if index)
        return frozenset(index for index, cell in cells if len(cell) > _LONGEST_VALUE and " " in cell)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed count of digits; `-` where it is undefined."""
    if value is None:
        return MISSING
    text = f"{value:.{digits}f}"
    # -0.000 would suggest a loss that is not there
    return text.lstrip("-") if float(text) == 0 else text


def matrix_table(arm: ArmReport) -> Table:
    """Return an arm's score matrix, with an arrow where a score changed since its task was learned.

    Beyond twelve tasks it is the first and the last score of each task instead.
    """
    if len(arm.tasks) > _WIDEST_MATRIX:
        return _learned_and_now(arm)
    rows = [
        (f"{step + 1} {name}", *(_cell(arm, step, column) for column in range(len(arm.tasks))))
        for step, name in enumerate(_row_names(arm))
    ]
    learned_again = len(arm.steps) > len(arm.tasks)
    columns = ("after learning", *(arm.tasks if learned_again else map(str, range(1, len(arm.tasks) + 1))))
    return Table(arm.label, columns, tuple(rows), before_learning([arm]))


def before_learning(arms: Iterable[ArmReport]) -> str:
    """Return what is to be said under matrices of which one has scores above the diagonal; else nothing."""
    above = (
        score
        for arm in arms
        for step, row in enumerate(arm.matrix)
        for score in row[sum(r <= step for r in arm.learned) :]
    )
    return "Above the diagonal: before learning, by class means." if any(s is not None for s in above) else ""


def metric_table(report: Report) -> Table:
    """Return every metric of every arm, learning beside stability, with its interval where there is one."""
    names = arm_names(report)
    keys = list(dict.fromkeys(key for arm in report.arms for key in arm.metrics))
    rows = [(key, *(with_interval(*mean_with_interval(report, name, key)) for name in names)) for key in keys]
    rows.append(("identical_predictions", *(identical(runs_of(report, name)) for name in names)))
    seeds = {name: len(runs_of(report, name)) for name in names}
    what = "t-interval over seeds" if any(count > 1 for count in seeds.values()) else "bootstrap over examples"
    headers = [f"{name} ({count} seeds)" if count > 1 else name for name, count in seeds.items()]
    note = f"Higher is better, except for forgetting and intransigence. In brackets: 95 % interval, {what}."
    reasons = dict.fromkeys(arm.reason for arm in report.arms if arm.reason)
    note += "".join(f" Nothing is averaged over tasks where there is {reason}." for reason in reasons)
    return Table("metrics", ("metric", *headers), tuple(rows), note)


def cost_table(report: Report) -> Table:
    """Return what each arm cost under each seed."""
    rows = [
        (
            label(report, arm),
            arm.method,
            count(arm.cost.trainable_parameters),
            percent(arm.cost.trainable_share),
            size(arm.cost.bytes_per_task),
            number(total(arm.cost.train_seconds), 1),
            number(mean(arm.cost.examples_per_second), 1),
            size(arm.cost.peak_memory_bytes),
        )
        for arm in report.arms
    ]
    columns = (
        "arm",
        "method",
        "trained weights",
        "share",
        "bytes per task",
        "training seconds",
        "examples per second",
        "peak memory",
    )
    note = "Weights and peak memory are those of the largest step; other candidates of a sweep are not counted."
    return Table("cost", columns, tuple(rows), note)


def efficiency_table(report: Report) -> Table:
    """Return each arm's cost as shares of full fine-tuning's, and the latency it adds; empty where none is known."""
    rows = [
        (
            label(report, arm),
            percent(arm.cost.bytes_share),
            *(times(arm.cost.against_full.get(key)) for key in COMPARED),
            added(arm.cost.latency_ratio),
            added(arm.cost.merged_latency_ratio),
        )
        for arm in report.arms
    ]
    columns = ("arm", "size", *(_COMPARED_NAMES[key] for key in COMPARED), "added latency", "when merged")
    note = (
        "Size is a share of a full checkpoint; the next four are multiples of full fine-tuning on the same task and "
        "machine. Latency is that of one example, over the base alone."
    )
    known = [row for row in rows if set(row[1:]) != {MISSING}]
    return Table("efficiency", columns, tuple(known), note)


def comparison_table(report: Report) -> Table:
    """Return the differences between arms."""
    rows = [
        (
            f"{entry.a} less {entry.b}",
            entry.metric,
            number(entry.difference),
            span(entry.interval),
            number(entry.p_value, 4),
            number(entry.p_holm, 4),
            span(entry.over_seeds) or MISSING,
            number(entry.seeds_p_holm, 4),
        )
        for entry in report.comparisons
    ]
    note = (
        "Interval: paired bootstrap over the same examples, 95 %. p-value: paired randomisation, two-sided. "
        "Over seeds: t-interval of the differences under each seed, 95 %. With seeds: the p-value that has the luck "
        "of training in it, beside the choice of examples. By Holm: corrected for all tests of the report."
    )
    columns = (
        *("arms", "metric", "difference", "interval", "p-value", "p by Holm"),
        *("over seeds", "with seeds, p by Holm"),
    )
    return _without_empty(Table("comparisons", columns, tuple(rows), note))


def drift_table(report: Report) -> Table:
    """Return for each arm whether its earlier tasks changed since they were learned."""
    rows = [
        (
            entry.arm,
            with_interval(*mean_with_interval(report, entry.arm, "bwt_gem")),
            number(entry.p_value, 4),
            number(entry.p_holm, 4),
            number(entry.seeds_p_holm, 4),
        )
        for entry in report.drifts
    ]
    note = (
        "bwt_gem is the mean change of earlier tasks, below 0 is forgetting. p-value: random exchange of each "
        "example's answers when learned and now, two-sided. With seeds: with the luck of training in it. By Holm: "
        "corrected for all tests of the report."
    )
    columns = ("arm", "bwt_gem", "p-value", "p by Holm", "with seeds, p by Holm")
    return _without_empty(Table("now less when learned", columns, tuple(rows), note))


def _without_empty(table: Table) -> Table:
    """Leave out columns without a single value, such as those over seeds where there is one."""
    filled = [place for place in range(len(table.columns)) if any(row[place] != MISSING for row in table.rows)]
    rows = tuple(tuple(row[place] for place in filled) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in filled), rows=rows)


def flip_table(report: Report) -> Table:
    """Return what became of every earlier task's examples since it was learned."""
    rows = [
        (label(report, arm), task, number(negative), number(positive), *_mcnemar(arm, task))
        for arm in report.arms
        for task, negative, positive in zip(arm.tasks, arm.negative_flip_rate, arm.positive_flip_rate, strict=False)
    ]
    columns = (
        "arm",
        "earlier task",
        "negative_flip_rate",
        "positive_flip_rate",
        "lost",
        "gained",
        "p-value",
        "p by Holm",
        "change",
        "interval",
    )
    note = (
        "p-value: exact McNemar; where a metric knows no right and wrong, random exchange of each example's two "
        "answers. By Holm: corrected for all tests of the report. Change: the score now less that when the "
        "task was learned, with its paired bootstrap interval, 95 %."
    )
    return Table("flips", columns, tuple(rows), note)


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
    known = [(task.name, task.majority_baseline) for task in report.tasks if task.majority_baseline is not None]
    return "majority baseline: " + ", ".join(f"{name} {number(value)}" for name, value in known) if known else ""


def version_table(report: Report) -> Table:
    """Return every version with its digest."""
    rows = [
        (
            version.reference,
            label(report, arm),
            version.method,
            size(version.size),
            version.created_at,
            version.digest,
        )
        for arm in report.arms
        for version in arm.versions
    ]
    return Table("versions", ("version", "arm", "method", "size", "created", "digest"), tuple(rows))


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


def environment_table(report: Report) -> Table:
    """Return where the versions were trained and evaluated."""
    rows = [tuple(str(value) for value in asdict(environment).values()) for environment in report.environments]
    columns = tuple(asdict(report.environments[0])) if report.environments else ()
    return Table("environment", columns, tuple(rows))


def definition_table() -> Table:
    """Return the definition behind every key."""
    note = "R[i][j] is the score on task j after learning task i, of T tasks; higher is better."
    return Table("definitions", ("key", "definition"), (*DEFINITIONS.items(), *_COST_DEFINITIONS.items()), note)


def label(report: Report, arm: ArmReport) -> str:
    """Return an arm's name, with its seed only where it has several."""
    return arm.name if len([other for other in report.arms if other.name == arm.name]) == 1 else arm.label


def _cell(arm: ArmReport, step: int, column: int) -> str:
    value = arm.matrix[step][column]
    first = arm.learned[column]
    learned = arm.matrix[first][column]
    if value is None or learned is None or step <= first:
        return number(value)
    return f"{number(value)}{arrow(value - learned)}"


def _row_names(arm: ArmReport) -> tuple[str, ...]:
    """Name the rows: by version where a task was learned again, else by task."""
    if len(arm.steps) == len(arm.tasks):
        return arm.steps
    return tuple(version.reference for version in arm.versions)


def _learned_and_now(arm: ArmReport) -> Table:
    last = arm.matrix[-1]
    rows = []
    for index, task in enumerate(arm.tasks):
        learned, now = arm.matrix[arm.learned[index]][index], last[index]
        mark = "" if learned is None or now is None else arrow(now - learned)
        rows.append((f"{index + 1} {task}", number(learned), f"{number(now)}{mark}"))
    return Table(arm.label, ("task", "when learned", "now"), tuple(rows))


def arrow(change: float) -> str:
    """Return which way a score changed; nothing where three digits can't show it."""
    if abs(change) < _SMALLEST_CHANGE:
        return ""
    return "↓" if change < 0 else "↑"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Return a number with its interval in brackets, where there is one."""
    return number(value) if value is None or interval is None else f"{number(value)} {span(interval)}"


def span(interval: Interval | None) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if interval is None:
        return ""
    # no space inside, so that a narrow terminal breaks the line before it
    return f"[{number(interval[0])},{number(interval[1])}]"


def identical(runs: Sequence[ArmReport]) -> str:
    """Return whether every run's earlier tasks are predicted as when they were learned."""
    known = {arm.identical_predictions for arm in runs}
    if None in known:
        return MISSING
    return "yes" if known == {True} else "no"


def _mcnemar(arm: ArmReport, task: str) -> tuple[str, ...]:
    entry = next((entry for entry in arm.mcnemar if entry.task == task), None)
    if entry is None:
        return (MISSING,) * 6
    interval = MISSING if entry.interval is None else span(entry.interval)
    lost, gained = (MISSING if count is None else str(count) for count in (entry.lost, entry.gained))
    return lost, gained, number(entry.p_value, 4), number(entry.p_holm, 4), number(entry.change), interval


def _rated(candidate: Mapping[str, Any]) -> str:
    rank = candidate.get("mean_rank")
    return number(candidate.get("mean")) if rank is None else f"rank {number(rank, 2)}"


def settings_text(settings: Mapping[str, object]) -> str:
    """Return what was tried in a sweep, as `--set` takes it."""
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
    )


def count(value: float | None) -> str:
    """Return a count with its thousands apart."""
    return MISSING if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return MISSING if value is None else f"{value:.2%}"


def added(ratio: float | None) -> str:
    """Return what a ratio to 1 adds, in percent."""
    if ratio is None:
        return MISSING
    # -0 % would suggest a gain that is not there
    return "+0 %" if round(100 * (ratio - 1)) == 0 else f"{100 * (ratio - 1):+.0f} %"


def times(ratio: float | None) -> str:
    """Return how many times as much something is."""
    return MISSING if ratio is None else f"{ratio:.2f}x"


def size(value: float | None) -> str:
    """Return a size in bytes for people."""
    if not value:
        return MISSING
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
