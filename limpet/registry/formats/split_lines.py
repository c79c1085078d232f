"""The lines of a split against its record: the form of each, how many there are, and how many of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limpet.registry.formats.strict_json import read_json
from limpet.registry.formats.task_documents import FORMS, row_problem

__all__ = ["split_problem"]

_LONGEST_LINE = 16 << 20


def split_problem(
    path: Path, name: str, kind: str, *, labels: Sequence[str], examples: int, label_counts: Mapping[str, int]
) -> str:
    """Say what is wrong with the file of a split; nothing where it is what its record says.

    Args:
        path: The file, one example on a line.
        name: What the file is called, for the message.
        kind: The type of the task.
        labels: The task's label map.
        examples: How many lines its record says.
        label_counts: How many examples of each label its record says.

    Raises:
        IntegrityError: A line is no JSON of the one form that limpet writes.
    """
    counts = dict.fromkeys(labels, 0)
    lines = 0
    form = FORMS[kind]
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            lines += 1
            row = read_json(line.removesuffix(b"\n"), f"line {lines} of {name}", canonical=True)
            wrong = row_problem(kind, row, labels) if line.endswith(b"\n") else "is no example"
            if wrong or not isinstance(row, dict):
                return f"line {lines} of {name} {wrong}"
            for label in form.labels(row[form.key], labels):
                counts[label] += 1
    if lines != examples:
        return f"{name} has {lines} examples, and its record says {examples}"
    known = {label: count for label, count in label_counts.items() if count}
    if {label: count for label, count in counts.items() if count} != known:
        return f"the labels of {name} are not as often in it as its record says"
    return ""
