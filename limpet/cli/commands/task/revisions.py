"""`limpet task show --revisions`: every state of a task's data, what each changed, and which versions learned it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from limpet.cli.invocation.invocation import Invocation
from limpet.names import parse_task

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import TaskRecord

__all__ = ["show_revisions"]


def show_revisions(invocation: Invocation, home: Home, name: str) -> None:
    """Print the revisions of a task, the oldest first."""
    from limpet.cli.terminal import output

    task, _ = parse_task(name)
    records = home.task.revisions(task)
    learned = home.task.learned_on(task)
    if invocation.json:
        output.emit(
            task=task,
            revisions=[{**output.to_json(record), "versions": learned[record.revision]} for record in records],
        )
        return
    rows = [
        (
            f"r{record.revision}",
            record.created_at[:10],
            record.definition.data,
            *(_counted(record, key) for key in ("added", "corrected")),
            record.split("train").examples,
            sum(part.examples for part in record.evaluation_parts),
            len(record.labels) or None,
            ", ".join(learned[record.revision]) or None,
        )
        for record in records
    ]
    columns = ("revision", "made", "data", "added", "corrected", "train", "evaluation", "labels", "versions")
    output.table(columns, rows)


def _counted(record: TaskRecord, key: str) -> int | None:
    """Return how many rows a revision added or corrected; null for the first."""
    counts = record.checks.get("revision")
    if not isinstance(counts, Mapping) or not isinstance(by_split := counts.get(key), Mapping):
        return None
    return sum(by_split.values())
