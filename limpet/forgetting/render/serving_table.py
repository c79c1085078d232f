"""What serves in a home, as a table: the first thing that its report shows."""

from __future__ import annotations

from limpet.forgetting.render.tables import MISSING, Table, number
from limpet.forgetting.report.values import Report
from limpet.registry.versions.serving import TaskInService

__all__ = ["gate_words", "score_words", "serving_table"]


def serving_table(report: Report) -> Table:
    """Return one line for each task: what answers, its score, its last change, the gate; empty but for a home."""
    rows = tuple(
        (
            task.task,
            task.version.reference if task.version else MISSING,
            _under(task),
            score_words(task),
            task.change.sentence() if task.change else MISSING,
            gate_words(task),
        )
        for task in report.serving
    )
    note = "Without an alias production, the newest version answers. The score is that of when it joined the home."
    columns = ("task", "answers now", "as", "score", "last change", "gate")
    return Table("what serves", columns, rows, note)


def score_words(task: TaskInService) -> str:
    """Return the score of what answers with its metric; `-` where it has none."""
    return MISSING if task.score is None else f"{number(task.score)} {task.metric}"


def gate_words(task: TaskInService) -> str:
    """Return the gate's last word on a task, and whether what answers has an open alarm."""
    said = [task.gate.sentence() if task.gate else "no rule crossed"]
    if task.alarm:
        said.append(f"open alarm of {task.alarm.created_at[:10]}")
    return "; ".join(said)


def _under(task: TaskInService) -> str:
    if task.version is None:
        return "nothing learned yet"
    return "production" if task.promoted else "the newest"
