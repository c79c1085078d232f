"""The notes that a reader of the dashboard sees first: which arm forgets, when, on what; what is served."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.forgetting.conclusion import conclusion
from limpet.forgetting.report_summary import Fall, largest_fall
from limpet.forgetting.report_values import Report
from limpet.registry.values import VersionRecord

__all__ = ["home_note", "stream_note"]

_KEYS = ("average_accuracy", "learning_accuracy", "bwt_gem", "worst_forgetting")


def stream_note(report: Report) -> str:
    """Return the Markdown note of a stream's run."""
    tasks = [task.name for task in report.tasks]
    lines = [
        f"| arm | {' | '.join(_KEYS)} | largest fall in one step |",
        f"|---|{'---|' * len(_KEYS)}---|",
    ]
    for arm in report.arms:
        values = " | ".join(_shown(arm.metrics.get(key)) for key in _KEYS)
        lines.append(f"| {arm.label} | {values} | {_described(largest_fall(arm.matrix, tasks))} |")
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
    return "none" if fall is None else fall.sentence()
