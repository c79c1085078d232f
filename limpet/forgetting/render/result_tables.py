"""Tables of what was measured on a stream: scores, metrics, differences and flips, and what each arm cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from limpet.forgetting.render.tables import (
    AUDITED,
    MISSING,
    Table,
    added,
    arm_column,
    arrow,
    count,
    label,
    mean,
    number,
    percent,
    size,
    span,
    times,
    total,
    with_interval,
    without_empty,
)
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.conclusion import arm_names, called, mean_with_interval, runs_of
from limpet.forgetting.report.values import Report
from limpet.names import shown_method
from limpet.registry.versions.costs import COMPARED

__all__ = [
    "before_learning",
    "carried_forward",
    "comparison_table",
    "cost_table",
    "drift_table",
    "efficiency_table",
    "flip_table",
    "identical",
    "matrix_table",
    "metric_table",
]

_COMPARED_NAMES = {
    "train_seconds": "training seconds",
    "examples_per_second": "examples per second",
    "peak_memory_bytes": "peak memory",
    "peak_memory_added_bytes": "memory added",
}
_WIDEST_MATRIX = 12  # tasks; beyond that a matrix fits no screen


def metric_table(report: Report) -> Table:
    """Return every metric of every arm, learning beside stability, with its interval where there is one."""
    names = arm_names(report)
    keys = list(dict.fromkeys(key for arm in report.arms for key in arm.metrics))
    rows = [(key, *(with_interval(*mean_with_interval(report, name, key)) for name in names)) for key in keys]
    rows.append(("identical_predictions", *(identical(runs_of(report, name)) for name in names)))
    seeds = {name: len(runs_of(report, name)) for name in names}
    what = "t-interval over seeds" if any(count > 1 for count in seeds.values()) else "bootstrap over examples"
    headers = [f"{name} ({count} seeds)" if count > 1 else called(report, name) for name, count in seeds.items()]
    note = f"Higher is better, except for forgetting and intransigence. In brackets: 95 % interval, {what}."
    reasons = dict.fromkeys(arm.reason for arm in report.arms if arm.reason)
    note += "".join(f" Nothing is averaged over tasks where there is {reason}." for reason in reasons)
    return Table("metrics", ("metric", *headers), tuple(rows), note)


def drift_table(report: Report) -> Table:
    """Return for each arm whether its earlier tasks changed since they were learned."""
    rows = [
        (
            called(report, entry.arm),
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
    columns = (arm_column(report), "bwt_gem", "p-value", "p by Holm", "with seeds, p by Holm")
    return without_empty(Table("now less when learned", columns, tuple(rows), note))


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
    return without_empty(Table("comparisons", columns, tuple(rows), note))


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


def _mcnemar(arm: ArmReport, task: str) -> tuple[str, ...]:
    entry = next((entry for entry in arm.mcnemar if entry.task == task), None)
    if entry is None:
        return (MISSING,) * 6
    interval = MISSING if entry.interval is None else span(entry.interval)
    lost, gained = (MISSING if count is None else str(count) for count in (entry.lost, entry.gained))
    return lost, gained, number(entry.p_value, 4), number(entry.p_holm, 4), number(entry.change), interval


def cost_table(report: Report) -> Table:
    """Return what each arm cost under each seed."""
    rows = [
        (
            label(report, arm),
            shown_method(arm.method),
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
        arm_column(report),
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
    columns = (
        arm_column(report),
        "size",
        *(_COMPARED_NAMES[key] for key in COMPARED),
        "added latency",
        "when merged",
    )
    note = (
        "Size is a share of a full checkpoint; the next four are multiples of full fine-tuning on the same task and "
        "machine. Latency is that of one example, over the base alone."
    )
    known = [row for row in rows if set(row[1:]) != {MISSING}]
    return Table("efficiency", columns, tuple(known), note)


def identical(runs: Sequence[ArmReport]) -> str:
    """Return whether every run's earlier tasks are predicted as when they were learned."""
    known = {arm.identical_predictions for arm in runs}
    if None in known:
        return MISSING
    return "yes" if known == {True} else "no"


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
    return Table(
        arm.label, columns, tuple(rows), " ".join(filter(None, (before_learning([arm]), carried_forward([arm]))))
    )


def before_learning(arms: Iterable[ArmReport]) -> str:
    """Return what is to be said under matrices of which one has scores above the diagonal; else nothing."""
    above = (
        score
        for arm in arms
        for step, row in enumerate(arm.matrix)
        for score in row[sum(r <= step for r in arm.learned) :]
    )
    return "Above the diagonal: before learning, by class means." if any(s is not None for s in above) else ""


def carried_forward(arms: Iterable[ArmReport]) -> str:
    """Return what is to be said under matrices of which one has scores that an audit carried forward, if any."""
    audited = any(arm.audited for arm in arms)
    return f"{AUDITED} carried forward: audited, and not evaluated again." if audited else ""


def _cell(arm: ArmReport, step: int, column: int) -> str:
    value = arm.matrix[step][column]
    if (step, column) in arm.audited:
        return f"{number(value)}{AUDITED}"
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
        mark += AUDITED if task in arm.audited_now else ""
        rows.append((f"{index + 1} {task}", number(learned), f"{number(now)}{mark}"))
    return Table(arm.label, ("task", "when learned", "now"), tuple(rows), carried_forward([arm]))
