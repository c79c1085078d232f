"""A report in one table: which arm forgets, how much, on what and when, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limpet.forgetting.metrics.matrix import Row
from limpet.forgetting.render.result_tables import identical
from limpet.forgetting.render.tables import Table, arm_column, mean, number, size, total, with_interval
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.conclusion import arm_names, called, mean_with_interval, runs_of
from limpet.forgetting.report.values import Report
from limpet.training.task_types import unit_key

__all__ = ["Fall", "largest_falls", "mean_matrix", "summary_table"]


@dataclass(frozen=True)
class Fall:
    """The largest fall of one task's score from one step to the next; steps count from 1."""

    task: str
    step: int
    learned: str
    before: float
    after: float

    def sentence(self) -> str:
        """Return on what, by how much, and when."""
        return f"{self.task}, {number(self.before)} to {number(self.after)} at step {self.step} ({self.learned})"


def mean_matrix(runs: Sequence[ArmReport]) -> tuple[Row, ...]:
    """Return the mean of an arm's score matrices over its seeds; None where a seed has no score."""
    rows = zip(*(run.matrix for run in runs), strict=True)
    return tuple(tuple(mean(cell) if None not in cell else None for cell in zip(*row, strict=True)) for row in rows)


def largest_falls(report: Report, runs: Sequence[ArmReport]) -> tuple[Fall, ...]:
    """Return where the mean scores of an arm's runs fell most in one step after a task was learned, if any fell.

    Falls are compared within one unit: where the tasks' scores have several, each has its own.

    Args:
        report: Says by what each task is scored.
        runs: Of one arm, equally far, one for each seed.
    """
    matrix, steps = mean_matrix(runs), runs[0].steps
    units: dict[str, list[str]] = {}
    for task in report.tasks:
        units.setdefault(unit_key(task.name, task.metric), []).append(task.name)
    falls = (_largest_fall(matrix, steps, names) for names in units.values())
    return tuple(fall for fall in falls if fall is not None)


def _largest_fall(matrix: Sequence[Row], steps: Sequence[str], tasks: Sequence[str]) -> Fall | None:
    falls = []
    for column, task in enumerate(dict.fromkeys(steps)):
        for row in range(steps.index(task) + 1, len(matrix)) if task in tasks else ():
            before, after = matrix[row - 1][column], matrix[row][column]
            if before is not None and after is not None and after < before:
                falls.append(Fall(task, row + 1, steps[row], before, after))
    return max(falls, key=lambda fall: fall.before - fall.after, default=None)


def summary_table(report: Report) -> Table:
    """Return one line for each arm: forgetting and where it is largest, accuracy, identity of answers, and cost."""
    rows = []
    for name in arm_names(report):
        runs = runs_of(report, name)
        falls = largest_falls(report, runs)
        rows.append(
            (
                called(report, name),
                with_interval(*mean_with_interval(report, name, "bwt_gem")),
                "; ".join(fall.sentence() for fall in falls) or "none",
                identical(runs),
                with_interval(*mean_with_interval(report, name, "average_accuracy")),
                size(mean(run.cost.bytes_per_task for run in runs)),
                number(mean(total(run.cost.train_seconds) for run in runs), 1),
            )
        )
    columns = (
        arm_column(report),
        "bwt_gem",
        "largest fall in one step",
        "earlier answers identical",
        "average_accuracy",
        "bytes per task",
        "training seconds",
    )
    several = any(len(runs_of(report, name)) > 1 for name in arm_names(report))
    note = "In brackets: 95 % interval. bwt_gem below 0 is forgetting." + (
        " Values are means over seeds." if several else ""
    )
    return Table("at a glance", columns, tuple(rows), note)
