"""The notes that a reader of the dashboard sees first: which arm forgets, when, on what; what is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limpet.forgetting.conclusion import conclusion
from limpet.forgetting.report_values import ArmReport, Report
from limpet.registry.values import VersionRecord

__all__ = ["Fall", "home_note", "largest_fall", "stream_note"]

_KEYS = ("average_accuracy", "learning_accuracy", "bwt_gem", "worst_forgetting")


@dataclass(frozen=True)
class Fall:
    """The largest fall of one task's score from one step to the next; steps count from 1."""

    task: str
    step: int
    learned: str
    before: float
    after: float


def largest_fall(arm: ArmReport, tasks: Sequence[str]) -> Fall | None:
    """Return where an arm lost most in one step; None where no score fell."""
    falls = []
    for column, task in enumerate(tasks):
        for row in range(column + 1, len(arm.matrix)):
            before, after = arm.matrix[row - 1][column], arm.matrix[row][column]
            if before is not None and after is not None and after < before:
                falls.append(Fall(task, row + 1, tasks[row], before, after))
    return max(falls, key=lambda fall: fall.before - fall.after, default=None)


def stream_note(report: Report) -> str:
    """Return the Markdown note of a stream's run."""
    tasks = [task.name for task in report.tasks]
    lines = [
        f"| arm | {' | '.join(_KEYS)} | largest fall in one step |",
        f"|---|{'---|' * len(_KEYS)}---|",
    ]
    for arm in report.arms:
        values = " | ".join(_shown(arm.metrics.get(key)) for key in _KEYS)
        lines.append(f"| {arm.label} | {values} | {_described(largest_fall(arm, tasks))} |")
    lines += [
        "",
        conclusion(report),
        "",
        "The curves `score/<task>` are on the runs of the arms, with `matrix.png` among their artifacts; "
        "`report.html` is among the artifacts of this run.",
    ]
    return "\n".join(lines)


def home_note(name: str, served: Sequence[VersionRecord]) -> str:
    """Return the Markdown note of the experiment.

    Args:
        name: The home's name.
        served: Every version that an alias stands for.
    """
    lines = [
        f"Streams of the limpet home `{name}`: a stream is a run, its arms are the runs inside it (unfold "
        "it to see their curves), their steps the runs inside those. A mirror: change things with limpet, not here.",
    ]
    if served:
        lines += ["", "| alias | version | method | digest |", "|---|---|---|---|"]
    lines += [
        f"| {version.task}@{alias} | {version.reference} | {version.method} | `{version.digest[:19]}` |"
        for version in served
        for alias in version.aliases
    ]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _described(fall: Fall | None) -> str:
    if fall is None:
        return "none"
    return f"{fall.task}, {fall.before:.3f} to {fall.after:.3f} at step {fall.step} ({fall.learned})"
